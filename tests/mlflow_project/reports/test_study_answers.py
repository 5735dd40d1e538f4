"""The study's observations, asked of hand-made predictions of its models at several seeds."""

import numpy as np

from hw2.comparison.compare import compare
from hw2.comparison.model_predictions import FailedTraining, ModelPredictions
from mlflow_project.reports.reference_study import STUDY, StudyModel
from mlflow_project.reports.study_answers import (
    FAILED,
    NO,
    OPEN,
    YES,
    Answer,
    answer_questions,
    answers_frame,
    answers_section,
)

LABELS = np.arange(2000) % 10


def configuration(model: StudyModel, seed: int) -> dict[str, object]:
    return {"lr": model.lr, "epochs": model.epochs, "seed": seed}


def trained(wrong: dict[str, list[int]], failed: dict[str, int] | None = None) -> list[Answer]:
    """By alias, how many images each seed has wrong; failed: a seed that diverged."""
    models = []
    for study_model in STUDY:
        for seed, count in enumerate(wrong.get(study_model.alias, [])):
            predicted = LABELS.copy()
            predicted[:count] += 1
            name = f"{study_model.alias}/{seed}"
            made = ModelPredictions(name, configuration(study_model, seed), LABELS, predicted % 10, "a" * 64)
            models.append(made)
    diverged = [
        FailedTraining(model.alias, configuration(model, (failed or {})[model.alias]))
        for model in STUDY
        if model.alias in (failed or {})
    ]
    return answer_questions(compare(models, diverged))


def test_what_each_seed_and_all_seeds_say_needs_one_seed_alone() -> None:
    (answer,) = trained({"m2": [20, 22, 21], "m5": [80, 82, 81]})
    assert answer.by_seed == {"0": YES, "1": YES, "2": YES}
    assert (answer.over_seeds, answer.needs_seeds) == (YES, False)
    assert answer.sentence().startswith(
        "5 epochs at 0.1 beat 8 at 0.01, the study's conclusion? By the models of seed 0: yes "
        "(m2/0 is better: 60 images against 0, p < 0.0001"
    )
    assert "Each of 3 seeds alone: 3 yes. By the configurations: yes (" in answer.sentence()
    assert answer.sentence().endswith("each seed alone says the same.")


def test_a_lead_that_the_first_seed_has_and_others_have_not_needs_more_seeds() -> None:
    (answer,) = trained({"m2": [20, 90, 50], "m5": [80, 30, 50]})
    assert answer.by_seed == {"0": YES, "1": NO, "2": OPEN}
    assert (answer.over_seeds, answer.needs_seeds) == (OPEN, True)
    assert "Each of 3 seeds alone: 1 yes, 1 no, 1 can't be told." in answer.sentence()
    assert answer.sentence().endswith("more than one seed is needed to say so.")


def test_the_opposite_of_the_study_is_a_no() -> None:
    (answer,) = trained({"m2": [80, 82, 81], "m5": [20, 22, 21]})
    assert answer.over_seeds == NO


def test_a_seed_that_diverged_is_an_answer_too() -> None:
    (answer,) = trained({"m2": [20, 22, 21], "m5": [80, 82, 81, 80]}, {"m2": 3})
    assert answer.by_seed["3"] == FAILED
    assert answer.needs_seeds


def test_questions_about_configurations_with_one_seed_are_left_out() -> None:
    assert trained({"m2": [20], "m5": [80]}) == []
    assert answers_section(compare([ModelPredictions("m", {}, LABELS, LABELS, "a" * 64)]), True) is None


def test_the_table_has_a_row_a_question_and_a_column_a_seed() -> None:
    wrong = {"m1": [200, 210], "m2": [30, 32], "m3": [20, 21], "m4": [90, 92], "m5": [80, 81]}
    answers = trained(wrong)
    frame = answers_frame(answers)
    assert frame["models"].tolist() == ["m2, m5", "m3, m2", "m5, m4", "m4, m1"]
    assert list(frame.columns)[2:4] == ["seed 0", "seed 1"]
