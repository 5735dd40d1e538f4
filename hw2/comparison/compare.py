"""Paired comparison of models by their stored predictions on the same images; no model is run."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from hw2.common.errors import ComparisonError
from hw2.common.formatting import ALPHA, format_p, plural
from hw2.common.types import BoolArray, FloatArray
from hw2.comparison.best import BestVerdict, compare_with_best
from hw2.comparison.configurations import ConfigurationComparison, compare_configurations, find_pair
from hw2.comparison.model_predictions import FailedTraining, ModelPredictions
from hw2.comparison.significance import (
    CochranQ,
    cochran_q,
    holm_correction,
    paired_test,
)
from hw2.evaluation.metrics import wilson_bounds


@dataclass(frozen=True, eq=False)
class Comparison:
    """The verdicts on several models, as tables without index.

    accuracy: a row a model: model, right, images, accuracy, low, high (95 % Wilson), train_seconds,
        model_size_bytes, pareto (no other model is at least as accurate, as fast to train and as small, and
        better in one of these).
    pairs: a row a pair: first, second, only_first_right, only_second_right, same_answer (images),
        difference (of accuracies, first less second), low, high (95 %), p (exact McNemar), p_holm,
        better ("" for none), verdict.
    overall, overall_verdict: Cochran's Q over all models.
    best: the models' comparison with the best of them.
    by_configuration: the verdicts on configurations, over seeds and images.
    """

    models: tuple[ModelPredictions, ...]
    accuracy: pd.DataFrame
    pairs: pd.DataFrame
    overall: CochranQ
    overall_verdict: str
    best: BestVerdict
    by_configuration: ConfigurationComparison

    def pair(self, first: str, second: str) -> dict[str, Any]:
        """Find the row of `pairs` for two models by name, in either order; KeyError where there is none."""
        return find_pair(self.pairs, first, second)


def compare(models: Sequence[ModelPredictions], failed: Sequence[FailedTraining] = ()) -> Comparison:
    """Compare models, and their configurations where these have several seeds.

    Args:
        models: With predictions for the same images.
        failed: Trainings without a model, which count as seeds that failed.

    Raises:
        ComparisonError: no model, a name twice, or predictions for other images.
    """
    _check_comparable(models)
    overall = cochran_q(np.stack([model.correct for model in models], axis=1))
    return Comparison(
        models=tuple(models),
        accuracy=_accuracy(models),
        pairs=_pairs(models),
        overall=overall,
        overall_verdict=_overall_verdict(overall, models),
        best=compare_with_best({model.name: model.correct for model in models}),
        by_configuration=compare_configurations(models, failed),
    )


def _check_comparable(models: Sequence[ModelPredictions]) -> None:
    if not models:
        raise ComparisonError("no model to compare; name at least one that has been tested")
    names = [model.name for model in models]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ComparisonError(f"two models are called {twice}; give each a name of its own")
    first = models[0]
    for model in models:
        if not model.images_sha256 or not model.n:
            raise ComparisonError(
                f"{model.name} has predictions for {model.n} images with SHA-256 "
                f"'{model.images_sha256}'; expected images and their SHA-256: test it again"
            )
        if model.images_sha256 != first.images_sha256:
            raise ComparisonError(
                f"{first.name} was tested on images with SHA-256 {first.images_sha256}, {model.name} on "
                f"{model.images_sha256}; only models tested on the same images can be compared"
                f"{_hint(first, model)}"
            )
        if not np.array_equal(model.labels, first.labels) or len(model.predicted) != first.n:
            raise ComparisonError(
                f"{first.name} and {model.name} claim the same images (SHA-256 {first.images_sha256}), but "
                "their stored labels differ: one of the files is damaged; test both again"
            )


def _hint(first: ModelPredictions, second: ModelPredictions) -> str:
    if first.labels_only == second.labels_only:
        return ""
    name = first.name if first.labels_only else second.name
    return f" (of {name} the labels alone are hashed; log its predictions with their images)"


def _accuracy(models: Sequence[ModelPredictions]) -> pd.DataFrame:
    num_correct = [int(model.correct.sum()) for model in models]
    low, high = wilson_bounds(num_correct, [model.n for model in models])
    table = pd.DataFrame(
        {
            "model": [model.name for model in models],
            "right": num_correct,
            "pictures": [model.n for model in models],
            "accuracy": [model.accuracy for model in models],
            "low": low,
            "high": high,
            "train_seconds": pd.array([model.train_seconds for model in models], dtype="Float64"),
            "model_size_bytes": pd.array([model.model_size_bytes for model in models], dtype="Int64"),
        }
    )
    costs = table[["train_seconds", "model_size_bytes"]].to_numpy(dtype=np.float64, na_value=np.inf)
    return table.assign(pareto=pareto_front(table["right"].to_numpy(dtype=np.float64), costs))


def pareto_front(gain: FloatArray, costs: FloatArray) -> BoolArray:
    """Mark the choices that no other one dominates: gain [N], more is better; costs [N, k], less is better.

    Equal choices don't dominate each other. An unknown cost is infinite.
    """
    losses = np.column_stack([-gain, costs])
    as_good = (losses[:, None, :] <= losses[None, :, :]).all(axis=2)  # [i, j]: i in nothing worse than j
    better = (losses[:, None, :] < losses[None, :, :]).any(axis=2)
    return np.asarray(~(as_good & better).any(axis=0), dtype=np.bool_)


PAIR_COLUMNS = [
    "first", "second", "only_first_right", "only_second_right", "same_answer", "difference", "low", "high", "p",
]  # fmt: skip


def _pairs(models: Sequence[ModelPredictions]) -> pd.DataFrame:
    rows = []
    for first, second in combinations(models, 2):
        only_first, only_second, *difference = paired_test(first.correct, second.correct)
        same_answer = int((first.predicted == second.predicted).sum())
        rows.append((first.name, second.name, only_first, only_second, same_answer, *difference))
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    table["p_holm"] = holm_correction(table["p"].tolist())
    verdicts = [_pair_verdict(row, models[0].n, len(table)) for row in table.to_dict("records")]
    return table.assign(better=[name for name, _ in verdicts], verdict=[text for _, text in verdicts])


def _pair_verdict(row: Mapping[Hashable, Any], images: int, pairs: int) -> tuple[str, str]:
    """Name the better model, "" for none, and say the verdict in words."""
    first, second, p = row["only_first_right"], row["only_second_right"], row["p_holm"]
    if row["same_answer"] == images:
        return "", f"a tie: the same answer to each of {images:,} images"
    if first == second == 0:
        return "", "a tie: right and wrong on the same images"
    evidence = f"{format_p(p)}{_corrected(pairs)}"
    if p >= ALPHA:
        return "", f"no significant difference: {_count(first)} against {second:,}, {evidence}"
    better = str(row["first"] if first > second else row["second"])
    return (
        better,
        f"{better} is better: {_count(max(first, second))} against {min(first, second):,}, {evidence}",
    )


def _count(images: int) -> str:
    return f"{images:,} image{'' if images == 1 else 's'}"


def _corrected(tests: int) -> str:
    return f" (corrected for {tests} pairs)" if tests > 1 else ""


def _overall_verdict(overall: CochranQ, models: Sequence[ModelPredictions]) -> str:
    if len(models) < 2:
        return "one model: nothing to compare it with"
    if overall.statistic == 0 and overall.p == 1:
        same = all((model.correct == models[0].correct).all() for model in models)
        if same:
            return f"a tie: all {len(models)} models are right and wrong on the same images"
    degrees = plural(overall.degrees, "degree of freedom")
    evidence = f"Cochran's Q = {overall.statistic:.2f}, {degrees}, {format_p(overall.p)}"
    if overall.p >= ALPHA:
        return f"no significant difference among the {len(models)} models: {evidence}"
    return f"the {len(models)} models are not all equally good: {evidence}"
