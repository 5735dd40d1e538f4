"""Models that differ in the seed alone are repetitions of one configuration; configurations are then compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from hw2.common.formatting import ALPHA, format_p, join_names, plural
from hw2.common.types import BoolArray
from hw2.comparison.best import BestVerdict, compare_with_best
from hw2.comparison.model_predictions import (
    Configuration,
    FailedTraining,
    ModelPredictions,
    Setting,
    configuration_labels,
)
from hw2.comparison.seed_variance import Difference, compare_means, mean_interval
from hw2.comparison.significance import holm_correction

PAIR_COLUMNS = ["first", "second", "first_seeds", "second_seeds", "difference", "low", "high", "p"]


@dataclass(frozen=True, eq=False)
class Repetitions:
    """One configuration at its seeds: trained models by seed, and the seeds that failed.

    A seed failed where the loss became infinite, or the model is no better than chance.
    """

    label: str
    settings: Mapping[str, Setting]
    models: dict[str, ModelPredictions] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def is_compared(self) -> bool:
        """Whether two seeds or more have trained: with one, nobody knows how far seeds scatter."""
        return len(self.models) > 1

    @property
    def seeds(self) -> int:
        """Number of seeds, with those that failed."""
        return len(self.models) + len(self.failed)

    @cached_property
    def correct(self) -> BoolArray:
        """Whether each answer is right, bool [seeds that trained, images]."""
        return np.stack([model.correct for model in self.models.values()])

    @cached_property
    def accuracies(self) -> dict[str, float]:
        """The accuracy of each seed that trained."""
        return {seed: model.accuracy for seed, model in self.models.items()}

    @property
    def failure(self) -> str:
        """Say how many seeds failed, "" for none."""
        if not self.failed:
            return ""
        count = "none" if not self.models else str(len(self.failed))
        which = f"(seed{'s' * (len(self.failed) > 1)} {join_names(self.failed)})"
        verb = "trained" if not self.models else "didn't train"
        return f"{count} of {plural(self.seeds, 'seed')} {verb} {which}"


@dataclass(frozen=True, eq=False)
class ConfigurationComparison:
    """The verdicts on configurations, as tables without index.

    table: a row a configuration: configuration, seeds (that trained), failed (seeds), models (that trained), mean, low,
        high (95 %, over seeds and images), sd, least, most; NaN where unknown.
    pairs: a row a pair of those with two or more trained seeds: first, second, first_seeds, second_seeds, difference,
        low, high (95 %), p, p_holm, better ("" for none), verdict.
    best: None where fewer than two configurations have two trained seeds. notes: a line for each seed that failed and
        each configuration or model that is not compared.
    """

    configurations: tuple[Repetitions, ...]
    table: pd.DataFrame
    pairs: pd.DataFrame
    best: BestVerdict | None
    notes: tuple[str, ...]

    def pair(self, first: str, second: str) -> dict[str, Any]:
        """Find the row of `pairs` for two configurations by label, in either order; KeyError where there is none."""
        return find_pair(self.pairs, first, second)

    @property
    def has_repetitions(self) -> bool:
        """Whether any configuration has more than one seed."""
        return any(one.seeds > 1 for one in self.configurations)


def find_pair(pairs: pd.DataFrame, first: str, second: str) -> dict[str, Any]:
    """Find the row of two names in a table of pairs, in either order; KeyError where there is none."""
    both = pairs[["first", "second"]].isin((first, second)).all(axis=1)
    if not both.any():
        raise KeyError((first, second))
    return {str(key): value for key, value in pairs[both].iloc[0].items()}


def compare_configurations(
    models: Sequence[ModelPredictions], failed: Sequence[FailedTraining] = ()
) -> ConfigurationComparison:
    """Compare configurations; the models have answered the same images, which the caller has checked."""
    configurations, notes = _group(models, failed)
    compared = [one for one in configurations if one.is_compared]
    best = compare_with_best({one.label: one.correct for one in compared}) if len(compared) > 1 else None
    return ConfigurationComparison(
        configurations=tuple(configurations),
        table=pd.DataFrame([_row(one) for one in configurations]),
        pairs=_pairs(compared),
        best=best,
        notes=(*notes, *_notes(configurations)),
    )


def _group(
    models: Sequence[ModelPredictions], failed: Sequence[FailedTraining]
) -> tuple[list[Repetitions], list[str]]:
    """Group by configuration in the order of the models; of models with the same seed, the first counts."""
    everything = [*models, *failed]
    labels = configuration_labels([item.without_seed for item in everything])
    groups: dict[Configuration, Repetitions] = {}
    seen: dict[tuple[str, str], str] = {}
    notes = []
    for label, item in zip(labels, everything, strict=True):
        seed = "?" if item.seed is None else str(item.seed)
        group = groups.setdefault(item.without_seed, Repetitions(label, dict(item.without_seed)))
        first = seen.setdefault((label, seed), item.name)
        if first != item.name:
            if isinstance(item, ModelPredictions):
                notes.append(f"{item.name} is {label} with seed {seed}, as is {first}, which counts")
        elif isinstance(item, ModelPredictions) and item.is_trained:
            group.models[seed] = item
        elif seed not in group.failed:
            group.failed.append(seed)
    return list(groups.values()), notes


def _notes(configurations: Sequence[Repetitions]) -> list[str]:
    notes = [f"{one.failure} of {one.label}" for one in configurations if one.failed]
    most = max(one.seeds for one in configurations)
    for one in configurations:
        if most > 1 and len(one.models) == 1:
            (seed,) = one.models
            notes.append(
                f"{one.label} has one trained seed ({seed}) and others have up to {most}: it is compared as a model "
                "only; train it with more seeds"
            )
    return notes


def _row(one: Repetitions) -> dict[str, object]:
    accuracies = np.array(list(one.accuracies.values()) or [np.nan])
    low, high = mean_interval(one.correct) if one.is_compared else (np.nan, np.nan)
    return {
        "configuration": one.label,
        "seeds": ", ".join(one.models),
        "failed": ", ".join(one.failed),
        "models": len(one.models),
        "mean": accuracies.mean(),
        "low": low,
        "high": high,
        "sd": accuracies.std(ddof=1) if one.is_compared else np.nan,
        "least": accuracies.min(),
        "most": accuracies.max(),
    }


def _pairs(compared: Sequence[Repetitions]) -> pd.DataFrame:
    def means(first: Repetitions, second: Repetitions) -> Difference:
        return compare_means(first.correct, second.correct)

    rows = [
        (first.label, second.label, len(first.models), len(second.models), *means(first, second))
        for first, second in combinations(compared, 2)
    ]
    table = pd.DataFrame(rows, columns=PAIR_COLUMNS)
    table["p_holm"] = holm_correction(table["p"].tolist())
    significant = table["p_holm"] < ALPHA
    table["better"] = np.where(
        significant, np.where(table["difference"] > 0, table["first"], table["second"]), ""
    )
    table["verdict"] = [_verdict(row, len(table)) for row in table.to_dict("records")]
    return table


def _verdict(row: Mapping[object, object], pairs: int) -> str:
    corrected = f" (corrected for {pairs} pairs)" if pairs > 1 else ""
    numbers = {key: 100 * float(str(row[key])) for key in ("difference", "low", "high")}
    if row["better"] == row["second"]:  # what is better comes first
        numbers = {"difference": -numbers["difference"], "low": -numbers["high"], "high": -numbers["low"]}
    evidence = (
        f"{numbers['difference']:.2f} points ({numbers['low']:.2f} to {numbers['high']:.2f}), "
        f"{format_p(float(str(row['p_holm'])))}{corrected}"
    )
    return f"{row['better']} is better: {evidence}" if row["better"] else f"can't be told apart: {evidence}"
