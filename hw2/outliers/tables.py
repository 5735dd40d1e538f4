"""Tables of models' scores and predictions on images that are no digits; no model is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hw2.common.constants import DIGITS, NUM_CLASSES
from hw2.common.formatting import plural
from hw2.common.types import BoolArray, FloatArray
from hw2.data.image_set import ImageSet
from hw2.evaluation.metrics import confusion_matrix, confusion_table, threshold_shares
from hw2.evaluation.result import Evaluation
from hw2.outliers.detector import OutlierDetector
from hw2.outliers.metrics import RESAMPLES, ood_metrics
from hw2.outliers.scores import Scorer, score_ensemble

# The score that is registered with a model, by the name of its column among the predictions.
DEFAULT_SCORE = "outlier_score"
ENSEMBLE = "together"
MEAN = f"mean_{DEFAULT_SCORE}"


@dataclass(frozen=True, eq=False)
class ScoredEvaluation:
    """One model's answers on one image set.

    scores: by name, each float64 [N], DEFAULT_SCORE first; rejected: None for a model without a score of its own, which
    has no DEFAULT_SCORE either.
    """

    evaluation: Evaluation
    scores: Mapping[str, FloatArray]
    rejected: BoolArray | None

    @classmethod
    def of(cls, evaluation: Evaluation, detector: OutlierDetector | None, scorer: Scorer) -> ScoredEvaluation:
        """With every score of one model; without its own where it has none."""
        if detector is None:
            return cls(evaluation, scorer.scores(evaluation), None)
        default = detector.score(evaluation)
        return cls(
            evaluation, {DEFAULT_SCORE: default, **scorer.scores(evaluation)}, detector.is_outlier(default)
        )


THRESHOLD_COLUMNS = [
    *("model", "outliers", "threshold", "digits", "pictures"),
    *(
        f"{share}{end}"
        for share in ("digits_kept", "accuracy_on_kept", "outliers_rejected")
        for end in ("", "_low", "_high")
    ),
]
ScoredEvaluations = Mapping[str, ScoredEvaluation]  # by model


def ensemble_scores(evaluations: ScoredEvaluations) -> dict[str, FloatArray]:
    """Compute scores of all models together, by name: the mean of their default scores, then those of their logits.

    None for a single model.
    """
    if len(evaluations) < 2:
        return {}
    together = score_ensemble([scored.evaluation for scored in evaluations.values()])
    if any(DEFAULT_SCORE not in scored.scores for scored in evaluations.values()):
        return together
    return {
        MEAN: np.mean([scored.scores[DEFAULT_SCORE] for scored in evaluations.values()], axis=0),
        **together,
    }


def metrics_table(
    digits: ScoredEvaluations, outliers: Mapping[str, ScoredEvaluations], resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Tabulate every score of every model and of the ensemble, against every set of outliers.

    Columns: outliers, model (ENSEMBLE for a score of several), score, digits and images (how many), then
    those of `OODMetrics.row`.
    """
    rows = []
    of_ensemble = ensemble_scores(digits)
    for name, evaluations in outliers.items():
        scores = [(model, scored.scores, digits[model].scores) for model, scored in evaluations.items()]
        scores.append((ENSEMBLE, ensemble_scores(evaluations), of_ensemble))
        for model, of_outliers, of_digits in scores:
            for score, values in of_outliers.items():
                metrics = ood_metrics(of_digits[score], values, resamples)
                counts = {"digits": len(of_digits[score]), "pictures": len(values)}
                rows.append({"outliers": name, "model": model, "score": score, **counts, **metrics.row()})
    return pd.DataFrame(rows)


def thresholds_table(
    digits: ScoredEvaluations, outliers: Mapping[str, ScoredEvaluations], thresholds: Mapping[str, float]
) -> pd.DataFrame:
    """Tabulate what each model's own threshold rejects.

    Columns: model, outliers, threshold, digits and images (how many), then digits_kept (share of all
    digits), accuracy_on_kept (accuracy of those) and outliers_rejected, each with the ends of its 95 %
    Wilson interval. Where no digit is accepted, there is no accuracy on them. No row for a model without a threshold.
    """
    rows = []
    for name, evaluations in outliers.items():
        for model, scored in evaluations.items():
            of_digits = digits[model]
            if of_digits.rejected is None or scored.rejected is None:
                continue
            shares = threshold_shares(of_digits.evaluation.correct, of_digits.rejected, scored.rejected)
            row: dict[str, str | float] = {
                "model": model,
                "outliers": name,
                "threshold": thresholds[model],
                "digits": len(of_digits.rejected),
                "pictures": len(scored.rejected),
            }
            for share, (value, low, high) in shares.items():
                row |= {share: value, f"{share}_low": low, f"{share}_high": high}
            rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else THRESHOLD_COLUMNS)


def disagreements(table: pd.DataFrame) -> list[int]:
    """List the images of an `outlier_table`, by index, for which its models predict different digits."""
    votes = table.groupby("index")["predicted"].nunique()
    return [int(index) for index in votes.index[votes > 1]]


@dataclass(frozen=True)
class LabelMatches:
    """How many predictions are the number of the image's class, as the reference study counts them."""

    matched: int
    answers: int

    @classmethod
    def of(cls, tables: Sequence[pd.DataFrame]) -> LabelMatches:
        """Count over `outlier_table`s of sets of ten classes; of any other set, a match would mean nothing."""
        answers = pd.concat(tables)
        return cls(int(answers["matches"].sum()), len(answers))

    @property
    def chance_of_none(self) -> float:
        """Probability that blind guessing among ten digits matches none of so many."""
        return float((1 - 1 / NUM_CLASSES) ** self.answers)

    def __str__(self) -> str:
        text = f"{self.matched} of {plural(self.answers, 'answer')} are the number of the image's class"
        if self.matched:
            return f"{text}; a blind guess would match {self.answers / NUM_CLASSES:g} on average"
        return (
            f"{text}; a blind guess matches none of {self.answers} with a probability of "
            f"{100 * self.chance_of_none:.2g} %, so this says little: see what is rejected"
        )


def example_indices(image_set: ImageSet, count: int) -> list[int]:
    """Choose the images that are shown one by one: the first, or all over a set in its classes' order."""
    count = min(count, len(image_set))
    if np.any(np.diff(image_set.labels.numpy()) < 0):
        return list(range(count))
    return [round(place) for place in np.linspace(0, len(image_set) - 1, count)]


def outlier_table(
    evaluations: Mapping[str, Evaluation],
    image_set: ImageSet,
    indices: Sequence[int] = tuple(range(10)),
    rejected: Mapping[str, BoolArray | None] | None = None,
) -> pd.DataFrame:
    """Tabulate each model's predictions, by its name, for the images at `indices` of a set.

    One row a model and image: model, index, label, class, predicted, predicted_class (the class with the
    digit's number, as the study reads it; empty where there is none), matches (predicted = label),
    confidence, rejected (empty where unknown), probability_0 to probability_9. Of a model of other classes than
    digits predicted_class is its own class, the probabilities are named by its classes, and there is nothing to match.
    """
    classes = image_set.classes
    rows = []
    for model, evaluation in evaluations.items():
        of_model = (rejected or {}).get(model)
        for index in indices:
            label, predicted = int(evaluation.labels[index]), int(evaluation.predicted[index])
            of_number = classes[predicted] if predicted < len(classes) else None
            digits = evaluation.classes == DIGITS
            rows.append(
                {
                    "model": model,
                    "index": index,
                    "label": label,
                    "class": classes[label],
                    "predicted": predicted,
                    "predicted_class": of_number if digits else evaluation.classes[predicted],
                    **({"matches": label == predicted} if digits else {}),
                    "confidence": evaluation.confidence[index],
                    "rejected": None if of_model is None else bool(of_model[index]),
                    **{
                        f"probability_{name}": p
                        for name, p in zip(evaluation.classes, evaluation.probabilities[index], strict=True)
                    },
                }
            )
    return pd.DataFrame(rows)


def outlier_matrix_table(evaluation: Evaluation, image_set: ImageSet) -> pd.DataFrame:
    """Tabulate which of the model's classes each class is predicted as, a `confusion_table` with both names."""
    size = max(len(image_set.classes), len(evaluation.classes))
    matrix = confusion_matrix(evaluation.labels, evaluation.predicted, size)
    shown = matrix[: len(image_set.classes), : len(evaluation.classes)]
    return confusion_table(shown, image_set.classes, evaluation.classes)
