"""What models make of pictures that are no digits, as tables: from predictions alone, without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hw2.constants import NUM_CLASSES
from hw2.detector import Detector
from hw2.evaluation_result import Evaluation
from hw2.measures import threshold_shares
from hw2.outlier_measures import RESAMPLES, measure
from hw2.outliers import Scorer, joint_scores
from hw2.types import BoolArray, FloatArray

# The score that is registered with a model, by the name of its column among the predictions.
SHIPPED = "outlier_score"
TOGETHER = "together"
MEAN = f"mean_{SHIPPED}"


@dataclass(frozen=True, eq=False)
class Judged:
    """One model's answers on one image set. scores: by name, each float64 [N], the shipped one first."""

    evaluation: Evaluation
    scores: Mapping[str, FloatArray]
    rejected: BoolArray

    @classmethod
    def of(cls, evaluation: Evaluation, detector: Detector, scorer: Scorer) -> "Judged":
        """With every score of one model."""
        shipped = detector.score(evaluation)
        return cls(evaluation, {SHIPPED: shipped, **scorer.scores(evaluation)}, detector.rejected(shipped))


Judgements = Mapping[str, Judged]  # by model


def joint(judgements: Judgements) -> dict[str, FloatArray]:
    """By name, the scores of all models together: the mean of their shipped scores, then what their answers say.

    None for a single model.
    """
    if len(judgements) < 2:
        return {}
    shipped = np.mean([judged.scores[SHIPPED] for judged in judgements.values()], axis=0)
    return {MEAN: shipped, **joint_scores([judged.evaluation for judged in judgements.values()])}


def measures_table(
    digits: Judgements, outliers: Mapping[str, Judgements], resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Every score of every model, and those of the models together, against every set of outliers.

    Columns: outliers, model (TOGETHER for a score of several), score, digits and pictures (how many), then
    those of `Measures.row`.
    """
    rows = []
    digits_together = joint(digits)
    for name, judgements in outliers.items():
        scores = [(model, judged.scores, digits[model].scores) for model, judged in judgements.items()]
        scores.append((TOGETHER, joint(judgements), digits_together))
        for model, of_outliers, of_digits in scores:
            for score, values in of_outliers.items():
                measured = measure(of_digits[score], values, resamples)
                counts = {"digits": len(of_digits[score]), "pictures": len(values)}
                rows.append({"outliers": name, "model": model, "score": score, **counts, **measured.row()})
    return pd.DataFrame(rows)


def thresholds_table(
    digits: Judgements, outliers: Mapping[str, Judgements], thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """What each model's own threshold does to pictures that it has never seen.

    Columns: model, outliers, threshold, digits and pictures (how many), then digits_kept (share of all
    digits), accuracy_on_kept (share right of those) and outliers_rejected, each with the ends of its 95 %
    Wilson interval. Where no digit is kept, there is no accuracy on them.
    """
    rows = []
    for name, judgements in outliers.items():
        for model, judged in judgements.items():
            of_digits = digits[model]
            shares = threshold_shares(of_digits.evaluation.correct, of_digits.rejected, judged.rejected)
            row: dict[str, str | float] = {
                "model": model,
                "outliers": name,
                "threshold": thresholds[model],
                "digits": len(of_digits.rejected),
                "pictures": len(judged.rejected),
            }
            for share, (value, low, high) in shares.items():
                row |= {share: value, f"{share}_low": low, f"{share}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def disagreements(table: pd.DataFrame) -> list[int]:
    """The pictures of an `outlier_table`, by index, that its models take for different digits."""
    votes = table.groupby("index")["predicted"].nunique()
    return [int(index) for index in votes.index[votes > 1]]


@dataclass(frozen=True)
class Matches:
    """How many answers are the number of the picture's class, as the study counts them."""

    matched: int
    answers: int

    @classmethod
    def of(cls, tables: Sequence[pd.DataFrame]) -> "Matches":
        """From `outlier_table`s of sets of ten classes; of any other set, a match would mean nothing."""
        together = pd.concat(tables)
        return cls(int(together["matches"].sum()), len(together))

    @property
    def blind(self) -> float:
        """Probability that blind guessing among ten digits matches none of so many."""
        return float((1 - 1 / NUM_CLASSES) ** self.answers)

    def __str__(self) -> str:
        said = f"{self.matched} of {self.answers} match"
        if self.matched:
            return f"{said}; a blind guess would match {self.answers / NUM_CLASSES:g} on average"
        return (
            f"{said}; a blind guess matches none of {self.answers} with a probability of "
            f"{100 * self.blind:.2g} %, so this says little: see what is rejected"
        )
