"""Which of several models is better, and whether that can be told: paired statistics over stored predictions.

Works from predictions alone and never runs a model. All models must have been shown the same images.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw2.common.errors import ComparisonError
from hw2.common.formatting import ALPHA, format_p, plural
from hw2.common.types import BoolArray, FloatArray
from hw2.comparison.model_predictions import ModelPredictions, configuration_labels
from hw2.comparison.significance import (
    CochranQ,
    PairedDifference,
    cochran_q,
    holm_correction,
    mcnemar,
    paired_difference,
    paired_difference_ci,
)
from hw2.evaluation.metrics import wilson_interval

if TYPE_CHECKING:
    pass


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
    seeds: a row a configuration, apart from the seed: configuration, seeds, models, mean, sd, least, most.
    seed_pairs: a row a pair of configurations with two or more seeds in common: first, second, seeds,
        difference (mean), sd, low, high (95 %), p (paired t-test), p_holm, better, verdict.
    """

    models: tuple[ModelPredictions, ...]
    accuracy: pd.DataFrame
    pairs: pd.DataFrame
    overall: CochranQ
    overall_verdict: str
    seeds: pd.DataFrame
    seed_pairs: pd.DataFrame
    _places: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)

    def pair(self, first: str, second: str) -> dict[str, Any]:
        """The row of `pairs` for two models by name, in either order; KeyError where there is none."""
        place = self._places.get((first, second), self._places.get((second, first)))
        if place is None:
            raise KeyError((first, second))
        return {str(key): value for key, value in self.pairs.iloc[place].items()}


def compare(models: Sequence[ModelPredictions]) -> Comparison:
    """All statistics of Comparison. Raises ComparisonError where the models can't be compared."""
    _refuse_what_cannot_be_compared(models)
    pairs = _pairs(models)
    overall = cochran_q(np.stack([model.correct for model in models], axis=1))
    groups = _by_configuration(models)
    return Comparison(
        models=tuple(models),
        accuracy=_accuracy(models),
        pairs=pairs,
        overall=overall,
        overall_verdict=_overall_verdict(overall, models),
        seeds=_seeds(groups),
        seed_pairs=_seed_pairs(groups),
        _places={
            (first, second): i
            for i, (first, second) in enumerate(zip(pairs["first"], pairs["second"], strict=True))
        },
    )


def _refuse_what_cannot_be_compared(models: Sequence[ModelPredictions]) -> None:
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
            )
        if not np.array_equal(model.labels, first.labels) or len(model.predicted) != first.n:
            raise ComparisonError(
                f"{first.name} and {model.name} claim the same images (SHA-256 {first.images_sha256}), but "
                "their stored labels differ: one of the files is damaged; test both again"
            )


def _accuracy(models: Sequence[ModelPredictions]) -> pd.DataFrame:
    right = [int(model.correct.sum()) for model in models]
    intervals = [wilson_interval(hits, model.n) for hits, model in zip(right, models, strict=True)]
    table = pd.DataFrame(
        {
            "model": [model.name for model in models],
            "right": right,
            "pictures": [model.n for model in models],
            "accuracy": [model.accuracy for model in models],
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "train_seconds": pd.array([model.train_seconds for model in models], dtype="Float64"),
            "model_size_bytes": pd.array([model.model_size_bytes for model in models], dtype="Int64"),
        }
    )
    costs = table[["train_seconds", "model_size_bytes"]].to_numpy(dtype=np.float64, na_value=np.inf)
    return table.assign(pareto=pareto_front(table["right"].to_numpy(dtype=np.float64), costs))


def pareto_front(gain: FloatArray, costs: FloatArray) -> BoolArray:
    """Which of N choices no other one dominates: gain [N], more is better; costs [N, k], less is better.

    Equal choices don't dominate each other. An unknown cost is infinite.
    """
    losses = np.column_stack([-gain, costs])
    as_good = (losses[:, None, :] <= losses[None, :, :]).all(axis=2)  # [i, j]: i in nothing worse than j
    better = (losses[:, None, :] < losses[None, :, :]).any(axis=2)
    return np.asarray(~(as_good & better).any(axis=0), dtype=np.bool_)


PAIR_COLUMNS = [
    "first", "second", "only_first_right", "only_second_right", "same_answer", "difference", "low", "high",
    "p", "p_holm", "better", "verdict",
]  # fmt: skip


def _pairs(models: Sequence[ModelPredictions]) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for first, second in combinations(models, 2):
        only_first = int((first.correct & ~second.correct).sum())
        only_second = int((second.correct & ~first.correct).sum())
        low, high = paired_difference_ci(only_first, only_second, first.n)
        rows.append(
            {
                "first": first.name,
                "second": second.name,
                "only_first_right": only_first,
                "only_second_right": only_second,
                "same_answer": int((first.predicted == second.predicted).sum()),
                "difference": (only_first - only_second) / first.n,
                "low": low,
                "high": high,
                "p": mcnemar(only_first, only_second),
            }
        )
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS[:9])
    table["p_holm"] = holm_correction(table["p"].tolist())
    verdicts = [_pair_verdict(row, models[0].n, len(table)) for row in table.to_dict("records")]
    table["better"] = [better for better, _ in verdicts]
    table["verdict"] = [verdict for _, verdict in verdicts]
    return table


def _pair_verdict(row: Mapping[Hashable, Any], images: int, pairs: int) -> tuple[str, str]:
    """Which model is better, "" for none, and the verdict in words."""
    first, second, p = row["only_first_right"], row["only_second_right"], row["p_holm"]
    if row["same_answer"] == images:
        return "", f"a tie: the same answer to each of {images:,} images"
    if first == second == 0:
        return "", "a tie: right and wrong on the same images"
    said = f"{format_p(p)}{_corrected(pairs)}"
    if p >= ALPHA:
        return "", f"no significant difference: {_count(first)} against {second:,}, {said}"
    better = str(row["first"] if first > second else row["second"])
    return better, f"{better} is better: {_count(max(first, second))} against {min(first, second):,}, {said}"


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
    said = f"Cochran's Q = {overall.statistic:.2f}, {degrees}, {format_p(overall.p)}"
    if overall.p >= ALPHA:
        return f"no significant difference among the {len(models)} models: {said}"
    return f"the {len(models)} models are not all equally good: {said}"


def _by_configuration(models: Sequence[ModelPredictions]) -> dict[str, dict[str, ModelPredictions]]:
    """By the configuration's words, then by seed, in the order of the models; of repetitions, the first."""
    labels = configuration_labels([model.without_seed for model in models])
    groups: dict[str, dict[str, ModelPredictions]] = {}
    for label, model in zip(labels, models, strict=True):
        groups.setdefault(label, {}).setdefault("" if model.seed is None else str(model.seed), model)
    return groups


def _seeds(groups: Mapping[str, Mapping[str, ModelPredictions]]) -> pd.DataFrame:
    rows = []
    for label, by_seed in groups.items():
        accuracies = np.array([model.accuracy for model in by_seed.values()])
        rows.append(
            {
                "configuration": label,
                "seeds": ", ".join(seed for seed in by_seed if seed),
                "models": len(accuracies),
                "mean": accuracies.mean(),
                "sd": accuracies.std(ddof=1) if len(accuracies) > 1 else np.nan,
                "least": accuracies.min(),
                "most": accuracies.max(),
            }
        )
    return pd.DataFrame(rows)


def _seed_pairs(groups: Mapping[str, Mapping[str, ModelPredictions]]) -> pd.DataFrame:
    rows, tested = [], []
    for (first, firsts), (second, seconds) in combinations(groups.items(), 2):
        common = [seed for seed in firsts if seed in seconds]
        if len(common) < 2:
            continue
        difference = paired_difference(
            [firsts[seed].accuracy for seed in common], [seconds[seed].accuracy for seed in common]
        )
        tested.append((first, second, difference))
        rows.append(
            {
                "first": first,
                "second": second,
                "seeds": difference.n,
                "difference": difference.mean,
                "sd": difference.sd,
                "low": difference.low,
                "high": difference.high,
                "p": difference.p,
            }
        )
    columns = ["first", "second", "seeds", "difference", "sd", "low", "high", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_holm"] = holm_correction(table["p"].tolist())
    verdicts = [
        _seed_verdict(first, second, difference, p, len(table))
        for (first, second, difference), p in zip(tested, table["p_holm"], strict=True)
    ]
    table["better"] = [better for better, _ in verdicts]
    table["verdict"] = [verdict for _, verdict in verdicts]
    return table


def _seed_verdict(
    first: str, second: str, difference: PairedDifference, p: float, pairs: int
) -> tuple[str, str]:
    if difference.mean == 0 and difference.sd == 0:
        return "", f"a tie: the same accuracy with each of {difference.n} seeds"
    points = f"{abs(difference.mean) * 100:.2f} points on average over {difference.n} seeds"
    said = f"{points}, {format_p(p)}{_corrected(pairs)}"
    if p >= ALPHA:
        return "", f"no significant difference: {said}"
    better = first if difference.mean > 0 else second
    return better, f"{better} is better: {said}"
