"""Which of several candidates is best, which can't be told from it, and which are worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hw2.common.errors import ComparisonError
from hw2.common.formatting import ALPHA, format_p, format_percent, join_names
from hw2.common.types import BoolArray
from hw2.comparison.seed_variance import Difference, compare_means
from hw2.comparison.significance import best_correction, paired_test


@dataclass(frozen=True, eq=False)
class BestVerdict:
    """The candidate with the highest accuracy, and how the others compare with it.

    seeds: how many the best has. rivals: those that can't be told from it at the 5 % level; worse: those that can.
    table: a row for each of the others, the most accurate first: candidate, difference (from the best), low, high
        (95 %), p, p_corrected, rival.
    """

    best: str
    accuracy: float
    seeds: int
    rivals: tuple[str, ...]
    worse: tuple[str, ...]
    table: pd.DataFrame

    def sentences(self) -> list[str]:
        """Say who is best, who can't be told from it, and who is worse: one sentence each, with numbers."""
        average = f" on average over {self.seeds} seeds" if self.seeds > 1 else ""
        lines = [f"The best: {self.best}, {format_percent(self.accuracy, 2)}{average}."]
        for names, words in ((self.rivals, "Can't be told from it"), (self.worse, "Worse")):
            if names:
                lines.append(f"{words}: {'; '.join(map(self._describe, names))}.")
        return lines

    def _describe(self, name: str) -> str:
        row = self.table[self.table["candidate"] == name].to_dict("records")[0]
        difference, low, high = (f"{100 * row[key]:+.2f}" for key in ("difference", "low", "high"))
        return f"{name} ({difference} points, {low} to {high}, {format_p(float(row['p_corrected']))})"


def compare_with_best(correct: Mapping[str, BoolArray]) -> BestVerdict:
    """Compare each candidate with the most accurate one.

    With one seed each, by McNemar's exact test over the images; with several, over seeds and images. p-values are
    corrected for all the candidates there are, since the best was chosen by the same answers.

    Args:
        correct: Whether each answer is right, bool [images] or [seeds, images], by the candidate's name; the images are
            the same.

    Raises:
        ComparisonError: No candidate, other numbers of images, or one seed among candidates with several.
    """
    arrays = {name: np.atleast_2d(array) for name, array in correct.items()}
    _require_comparable(arrays)
    ranked = sorted(arrays, key=lambda name: -arrays[name].mean())
    best, others = ranked[0], ranked[1:]
    rows = [_difference(arrays[name], arrays[best]) for name in others]
    table = pd.DataFrame(rows, columns=Difference._fields)
    table.insert(0, "candidate", others)
    table["p_corrected"] = best_correction(table["p"].tolist())
    table["rival"] = table["p_corrected"] >= ALPHA
    return BestVerdict(
        best=best,
        accuracy=float(arrays[best].mean()),
        seeds=len(arrays[best]),
        rivals=tuple(table.loc[table["rival"], "candidate"]),
        worse=tuple(table.loc[~table["rival"], "candidate"]),
        table=table,
    )


def _difference(first: BoolArray, second: BoolArray) -> Difference:
    if len(first) > 1:
        return compare_means(first, second)
    test = paired_test(first[0], second[0])
    return Difference(test.difference, test.low, test.high, test.p)


def _require_comparable(arrays: Mapping[str, BoolArray]) -> None:
    if not arrays:
        raise ComparisonError("no candidate to compare; name at least one")
    if len(images := {array.shape[1] for array in arrays.values()}) > 1:
        raise ComparisonError(
            f"the candidates have answers to {_numbers(sorted(images))} images; compare answers to the same images"
        )
    single = [name for name, array in arrays.items() if len(array) == 1]
    if 0 < len(single) < len(arrays):
        raise ComparisonError(
            f"{single[0]} has one seed and others have several; give it more seeds, or compare one seed of each"
        )


def _numbers(numbers: Sequence[int]) -> str:
    return join_names([f"{number:,}" for number in numbers])
