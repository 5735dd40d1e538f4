"""Tables of what models make of outliers, on answers made by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from hw2.data.image_set import ImageSet
from hw2.evaluation.metrics import wilson_interval
from hw2.outliers.tables import (
    DEFAULT_SCORE,
    ENSEMBLE,
    MEAN,
    LabelMatches,
    ScoredEvaluation,
    disagreements,
    ensemble_scores,
    example_indices,
    metrics_table,
    thresholds_table,
)


def judged(scores: list[float], threshold: float, labels: list[int], predicted: list[int]) -> Any:
    logits = np.eye(10)[predicted] * 5
    correct = np.asarray(labels) == predicted
    return ScoredEvaluation(
        SimpleNamespace(logits=logits, correct=correct),  # type: ignore[arg-type]
        {DEFAULT_SCORE: np.asarray(scores)},
        np.asarray(scores) > threshold,
    )


DIGITS = {
    "a": judged([0.1, 0.2, 0.3, 2.0], 1.0, [1, 2, 3, 4], [1, 2, 0, 4]),
    "b": judged([0.1, 0.2, 0.3, 0.4], 1.0, [1, 2, 3, 4], [1, 2, 3, 4]),
}
OUTLIERS = {
    "garments": {
        "a": judged([3.0, 4.0, 0.5], 1.0, [0, 0, 0], [7, 8, 9]),
        "b": judged([3.0, 4.0, 5.0], 1.0, [0, 0, 0], [1, 8, 8]),
    }
}


def test_the_threshold_is_judged_on_all_digits_and_the_accuracy_on_those_it_keeps() -> None:
    table = thresholds_table(DIGITS, OUTLIERS, {"a": 1.0, "b": 1.0}).set_index("model")
    first = table.loc["a"]
    assert (first["digits"], first["pictures"]) == (4, 3)
    assert first["digits_kept"] == 3 / 4
    assert first["accuracy_on_kept"] == 2 / 3
    assert first["outliers_rejected"] == 2 / 3
    for name, hits, n in (("digits_kept", 3, 4), ("accuracy_on_kept", 2, 3), ("outliers_rejected", 2, 3)):
        assert (first[f"{name}_low"], first[f"{name}_high"]) == wilson_interval(hits, n)
    assert table.loc["b", "accuracy_on_kept"] == 1


def test_where_no_digit_is_kept_there_is_no_accuracy() -> None:
    none = {"a": judged([2.0, 3.0], 1.0, [1, 2], [1, 2])}
    table = thresholds_table(none, {"garments": {"a": OUTLIERS["garments"]["a"]}}, {"a": 1.0})
    assert table.loc[0, "digits_kept"] == 0
    assert np.isnan(table.loc[0, "accuracy_on_kept"])


def test_each_model_is_measured_alone_and_all_together() -> None:
    table = metrics_table(DIGITS, OUTLIERS, resamples=0).set_index(["model", "score"])
    assert table.loc[("b", DEFAULT_SCORE), "auroc"] == 1.0
    assert table.loc[("a", DEFAULT_SCORE), "auroc"] == 11 / 12
    np.testing.assert_allclose(ensemble_scores(DIGITS)[MEAN], [0.1, 0.2, 0.3, 1.2])
    assert table.loc[(ENSEMBLE, MEAN), "auroc"] == 1.0
    votes = table.loc[(ENSEMBLE, "vote_disagreement")]
    # They differ on one of four digits and on two of three garments: of 12 pairs 6 are right and 5 are ties.
    assert votes["auroc"] == pytest.approx(8.5 / 12)
    assert votes["pictures"] == 3


def test_images_on_which_models_disagree_are_named() -> None:
    table = pd.DataFrame({"index": [3, 5, 8] * 2, "predicted": [1, 2, 3, 1, 4, 0]})
    assert disagreements(table) == [5, 8]


def test_one_model_has_no_score_together() -> None:
    alone = {"garments": {"b": OUTLIERS["garments"]["b"]}}
    assert ENSEMBLE not in set(metrics_table({"b": DIGITS["b"]}, alone, resamples=0)["model"])


@pytest.mark.parametrize(
    ("matches", "message"),
    [
        (
            [False] * 30,
            "0 of 30 answers are the number of the image's class; "
            "a blind guess matches none of 30 with a probability of 4.2 %",
        ),
        (
            [True] + [False] * 29,
            "1 of 30 answers are the number of the image's class; a blind guess would match 3 on average",
        ),
    ],
)
def test_matches_are_said_beside_what_a_blind_guess_does(matches: list[bool], message: str) -> None:
    tables = [pd.DataFrame({"matches": part}) for part in (matches[:10], matches[10:])]
    assert str(LabelMatches.of(tables)).startswith(message)


@pytest.mark.parametrize(
    ("labels", "count", "expected"),
    [
        ([0, 0, 0, 1, 1, 1, 2, 2, 2], 3, [0, 4, 8]),
        ([0, 0, 1, 1], 9, [0, 1, 2, 3]),
        ([0, 1], 1, [0]),
        ([2, 0, 1, 0, 0], 3, [0, 1, 2]),
    ],
)
def test_images_that_lie_class_by_class_are_shown_from_all_over_the_set(
    labels: list[int], count: int, expected: list[int]
) -> None:
    images = torch.zeros(len(labels), 8, 8, dtype=torch.uint8)
    image_set = ImageSet("some", "test", images, torch.tensor(labels), ("a", "b", "c"), "here")
    assert example_indices(image_set, count) == expected
