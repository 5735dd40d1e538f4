"""The reference study's observations asked again: of single models, seed by seed, and of configurations over seeds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from hw2.common.formatting import plural
from hw2.comparison.compare import compare
from mlflow_project.reports import reference_study
from mlflow_project.reports.elements import Table, columns, frame_table
from mlflow_project.reports.reference_study import StudyModel

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison
    from hw2.comparison.configurations import Repetitions
    from hw2.comparison.model_predictions import ModelPredictions

YES, NO, OPEN, FAILED = "yes", "no", "can't be told", "didn't train"


@dataclass(frozen=True)
class Question:
    """Whether the model `first` of the study beats `second`, by alias, as the study observed."""

    text: str
    first: str
    second: str


CONCLUSION = Question("5 epochs at 0.1 beat 8 at 0.01, the study's conclusion", "m2", "m5")
QUESTIONS = (
    CONCLUSION,
    Question("at 0.1, 8 epochs beat 5", "m3", "m2"),
    Question("at 0.01, 8 epochs beat 5", "m5", "m4"),
    Question("5 epochs at 0.01 beat 10 at 0.001", "m4", "m1"),
)


@dataclass(frozen=True)
class Answer:
    """A question's answers: YES, NO, OPEN or FAILED of each seed alone, YES, NO or OPEN over seeds.

    first_verdict: of the first seed's models, in words; verdict: of the configurations.
    """

    question: Question
    by_seed: dict[str, str]
    first_verdict: str
    over_seeds: str
    verdict: str

    @property
    def needs_seeds(self) -> bool:
        """Whether a single seed may give another answer than all together."""
        return set(self.by_seed.values()) != {self.over_seeds}

    def sentence(self) -> str:
        """Say both answers, and whether one seed would do."""
        seed, answer = next(iter(self.by_seed.items()))
        counts = Counter(self.by_seed.values())
        each = ", ".join(f"{counts[kind]} {kind}" for kind in (YES, NO, OPEN, FAILED) if counts[kind])
        need = (
            "more than one seed is needed to say so" if self.needs_seeds else "each seed alone says the same"
        )
        return (
            f"{self.question.text[0].upper()}{self.question.text[1:]}? By the models of seed {seed}: {answer} "
            f"({self.first_verdict}). Each of {plural(len(self.by_seed), 'seed')} alone: {each}. By the "
            f"configurations: {self.over_seeds} ({self.verdict}); {need}."
        )


def answer_questions(comparison: "Comparison") -> list[Answer]:
    """Answer each question that these models can answer: those whose two configurations have two trained seeds."""
    found = comparison.by_configuration
    by_alias = {model.alias: _configuration(model, found.configurations) for model in reference_study.STUDY}
    answers = []
    for question in QUESTIONS:
        first, second = by_alias[question.first], by_alias[question.second]
        if first is None or second is None:
            continue
        row = found.pair(first.label, second.label)
        seeds = [seed for seed in (*first.models, *first.failed) if seed in (*second.models, *second.failed)]
        if not seeds:
            continue
        alone = {seed: _of_seed(comparison.models, first, second, seed) for seed in sorted(seeds, key=_order)}
        answers.append(
            Answer(
                question,
                {seed: answer for seed, (answer, _) in alone.items()},
                next(iter(alone.values()))[1],
                _word(row["better"], first.label, second.label),
                row["verdict"],
            )
        )
    return answers


def answers_frame(answers: Sequence[Answer]) -> pd.DataFrame:
    """Build the table of the answers: the answer of each seed alone in its own column."""
    return pd.DataFrame(
        [
            {
                "question": answer.question.text,
                "models": f"{answer.question.first}, {answer.question.second}",
                **{f"seed {seed}": kind for seed, kind in answer.by_seed.items()},
                "over_seeds": answer.over_seeds,
                "verdict": answer.verdict,
                "one_seed_is_enough": NO if answer.needs_seeds else YES,
            }
            for answer in answers
        ]
    )


@dataclass(frozen=True)
class AnswersSection:
    """The report's part about the study's observations."""

    sentences: tuple[str, ...]
    table: Table


def answers_section(comparison: "Comparison", is_digits: bool) -> AnswersSection | None:
    """Build the report's part; None where the models can't answer, or were not trained on the study's digits."""
    answers = answer_questions(comparison) if is_digits else []
    if not answers:
        return None
    frame = answers_frame(answers)
    shown = columns(*map(str, frame.columns))
    caption = "The study’s observations, by each seed alone and over all seeds"
    return AnswersSection(tuple(a.sentence() for a in answers), frame_table(caption, frame, shown))


def _configuration(model: StudyModel, configurations: "Sequence[Repetitions]") -> "Repetitions | None":
    return next(
        (
            one
            for one in configurations
            if one.is_compared
            and (one.settings.get("lr"), one.settings.get("epochs")) == (model.lr, model.epochs)
        ),
        None,
    )


def _of_seed(
    models: "Sequence[ModelPredictions]", first: "Repetitions", second: "Repetitions", seed: str
) -> tuple[str, str]:
    """Return what this seed's models alone say, corrected for all pairs of them, and their verdict in words."""
    if seed not in first.models or seed not in second.models:
        return FAILED, FAILED
    names = first.models[seed].name, second.models[seed].name
    row = compare([model for model in models if str(model.seed) == seed]).pair(*names)
    return _word(row["better"], *names), row["verdict"]


def _word(better: str, first: str, second: str) -> str:
    return {first: YES, second: NO}.get(better, OPEN)


def _order(seed: str) -> tuple[bool, float, str]:
    return (False, float(seed), seed) if seed.isdecimal() else (True, 0.0, seed)
