"""Sentences computed from hand-made predictions."""

import numpy as np

from hw2.comparison.compare import compare
from hw2.comparison.findings import best, best_class, epoch_gains, findings, short_vs_long
from hw2.comparison.model_predictions import ModelPredictions

LABELS = np.repeat(np.arange(10), 100)


def model(
    name: str, wrong: range, lr: float = 0.1, epochs: int = 5, seed: int = 0, seconds: float = 10
) -> ModelPredictions:
    predicted = LABELS.copy()
    predicted[list(wrong)] = (predicted[list(wrong)] + 1) % 10
    configuration = {"lr": lr, "epochs": epochs, "seed": seed}
    return ModelPredictions(name, configuration, LABELS, predicted, "a" * 64, seconds, 579_000)


def study() -> list[ModelPredictions]:
    """The five models of the study, with mistakes of its size: m3 is right wherever m2 is."""
    return [
        model("m1", range(65), 0.001, 10),
        model("m2", range(17), 0.1, 5, seconds=50),
        model("m3", range(3), 0.1, 8, seconds=80),
        model("m4", range(100, 121), 0.01, 5),
        model("m5", range(100, 118), 0.01, 8, seconds=100),
    ]


def test_the_best_model_is_certain_only_where_every_pair_says_so() -> None:
    certain = compare(
        [model("good", range(2)), model("bad", range(100, 160)), model("worse", range(200, 290))]
    )
    assert best(certain).startswith(
        "good is best, and that is certain at the 5 % level: 99.80 % of 1,000 images"
    )
    assert "against the next, bad." in best(certain)
    text = best(compare([model("a", range(29)), model("b", range(100, 131)), model("c", range(200, 400))]))
    assert text.startswith(
        "a has the most right, 97.10 % of 1,000 images right, but that it is best is not certain"
    )
    assert "it can't be told from b (31 images against 29, p = 0.90 for b)" in text


def test_the_best_model_is_not_certain_where_the_correction_says_no() -> None:
    text = best(compare([model("a", range(2)), model("b", range(2, 12)), model("c", range(100, 106))]))
    assert "it can't be told from c and b" in text


def test_equally_good_models_share_the_first_place() -> None:
    text = best(compare([model("a", range(5)), model("b", range(5, 10)), model("c", range(20))]))
    assert text == "a and b share the first place, each with 99.50 % of 1,000 images right."


def test_one_model_is_not_called_best() -> None:
    assert "no other model to compare it with" in best(compare([model("a", range(5))]))


def test_model_2_stands_against_model_5() -> None:
    (text,) = short_vs_long(compare(study()))
    assert text.startswith(
        "Short and aggressive against long and patient: m2 (lr 0.1, 5 epochs, 98.30 %) against "
        "m5 (lr 0.01, 8 epochs, 98.20 %). No difference can be told: 18 images against 17, p = 1.00."
    )
    assert text.endswith("Training took 50.0 s and 100.0 s: 0.50 times as long.")


def test_each_step_to_more_epochs_is_judged() -> None:
    first, second = epoch_gains(compare(study()))
    assert first.startswith(
        "From 5 to 8 epochs at lr 0.1 (m2 to m3) accuracy gains 1.40 points. m3 is better: 14 "
    )
    assert second.startswith(
        "From 5 to 8 epochs at lr 0.01 (m4 to m5) accuracy gains 0.30 points. No difference"
    )


def test_epochs_of_other_seeds_are_not_mixed() -> None:
    models = [model("a", range(5), epochs=5, seed=0), model("b", range(9), epochs=8, seed=1)]
    assert list(epoch_gains(compare(models))) == []


def test_more_epochs_that_lose_or_change_nothing_are_said_so() -> None:
    models = [model("a", range(5), epochs=5), model("b", range(9), epochs=8), model("c", range(9), epochs=9)]
    first, second = epoch_gains(compare(models))
    assert "loses 0.40 points" in first
    assert "changes 0.00 points. Both are right on the same images: a tie." in second


def test_the_digit_with_most_correct_predictions_is_counted() -> None:
    labels = np.array([0] * 10 + [1] * 30 + [2] * 5)
    predicted = labels.copy()
    predicted[10:13] = 9
    made = ModelPredictions("m", {}, labels, predicted, "a" * 64)
    assert best_class(made) == (
        "m has most correct predictions for digit 1: 27 of 30 (90.0 %); "
        "by share it is best at digit 0: 10 of 10 (100 %)."
    )


def test_all_topics_are_there_and_what_cannot_be_answered_is_left_out() -> None:
    topics = [observation.topic for observation in findings(compare(study()))]
    assert topics == ["best", "schedules", "epochs", "epochs", *["digits"] * 5]
    lone = [observation.topic for observation in findings(compare([model("a", range(3))]))]
    assert lone == ["best", "digits"]
