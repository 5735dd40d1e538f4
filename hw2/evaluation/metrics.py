"""Metrics of predictions: interval, loss, confusion, calibration. Arrays in, numbers and tables out."""

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hw2.common.constants import NUM_CLASSES
from hw2.common.types import BoolArray, FloatArray, IntArray

CALIBRATION_BINS = 15


def softmax(logits: ArrayLike) -> FloatArray:
    """Compute probabilities, float64 [N, C], from logits [N, C]."""
    exponentials = np.exp(_shifted(logits))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def cross_entropy(labels: IntArray, logits: ArrayLike) -> float:
    """Average -log softmax(logits)[label] in nats, in float64."""
    shifted = _shifted(logits)
    of_label = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - of_label).mean())


def _shifted(logits: ArrayLike) -> FloatArray:
    """Subtract each row's largest logit, so that no exponential overflows."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(values - values.max(axis=1, keepdims=True), dtype=np.float64)


def wilson_interval(correct: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Compute the score interval of a proportion: E. B. Wilson, JASA 22 (1927), 209-212.

    By its closed formula: statsmodels has it too, but its import would cost each training run a second.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"expected 0 <= correct <= n and n > 0, found {correct} of {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share = correct / n
    center = share + z * z / (2 * n)
    margin = z * float(np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2))
    scale = 1 + z * z / n
    # Rounding would otherwise leave a bound of 1e-17 where it is exactly 0 or 1.
    low = 0.0 if correct == 0 else (center - margin) / scale
    high = 1.0 if correct == n else (center + margin) / scale
    return low, high


def wilson_bounds(correct: ArrayLike, n: ArrayLike) -> FloatArray:
    """Compute the low and the high ends, [2, K], of K Wilson intervals; NaN where n is 0."""
    pairs = zip(np.asarray(correct).tolist(), np.asarray(n).tolist(), strict=True)
    return np.array([wilson_interval(c, k) if k else (np.nan, np.nan) for c, k in pairs]).reshape(-1, 2).T


def threshold_shares(
    correct: BoolArray, rejected: BoolArray, outliers_rejected: BoolArray
) -> dict[str, tuple[float, float, float]]:
    """Compute shares at a threshold, with 95 % Wilson intervals; NaN where there is nothing to count.

    digits_kept: of all digits [N]; accuracy_on_kept: accuracy on those; outliers_rejected: of all outliers [M].
    """
    shares = {
        "digits_kept": ~rejected,
        "accuracy_on_kept": correct[~rejected],
        "outliers_rejected": outliers_rejected,
    }
    return {
        name: (float(flags.mean()), *wilson_interval(int(flags.sum()), len(flags)))
        if len(flags)
        else (np.nan, np.nan, np.nan)
        for name, flags in shares.items()
    }


def confusion_matrix(labels: IntArray, predicted: IntArray, classes: int = NUM_CLASSES) -> IntArray:
    """Count, int64 [classes, classes]: row = label, column = predicted."""
    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_accuracy_table(labels: IntArray, predicted: IntArray, classes: Sequence[str]) -> pd.DataFrame:
    """Tabulate each class's accuracy, low and high (95 % Wilson interval), with label, class, images and right."""
    images = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels[labels == predicted], minlength=len(classes))
    low, high = wilson_bounds(right, images)
    with np.errstate(invalid="ignore"):
        accuracy = right / images
    return pd.DataFrame(
        {
            "label": np.arange(len(classes)),
            "class": list(classes),
            "images": images,
            "right": right,
            "accuracy": accuracy,
            "low": low,
            "high": high,
        }
    )


def balanced_accuracy(labels: IntArray, predicted: IntArray) -> float:
    """Average the accuracies of the classes that have images, each counted alike."""
    images = np.bincount(labels)
    right = np.bincount(labels[labels == predicted], minlength=len(images))
    return float((right[images > 0] / images[images > 0]).mean())


def differ_in_size(labels: IntArray) -> bool:
    """Whether a class has twice as many images as another one, so that the plain accuracy says little of that."""
    images = np.bincount(labels)
    images = images[images > 0]
    return bool(images.max() >= 2 * images.min())


def top_accuracy(labels: IntArray, logits: ArrayLike, k: int) -> float:
    """Compute the share of the images whose label is among the k classes with the largest logits [N, classes]."""
    values = np.asarray(logits)
    of_label = values[np.arange(len(labels)), labels]
    return float(((values > of_label[:, None]).sum(axis=1) < k).mean())


def largest_confusions_table(matrix: IntArray, classes: Sequence[str], rows: int = 20) -> pd.DataFrame:
    """Tabulate what is mistaken most often: label, predicted, images, and their share of the label's images."""
    mistakes = matrix.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes.ravel(), kind="stable")[:rows]
    pairs = [divmod(int(cell), matrix.shape[1]) for cell in order if mistakes.ravel()[cell]]
    return pd.DataFrame(
        [
            (
                classes[label],
                classes[predicted],
                int(matrix[label, predicted]),
                matrix[label, predicted] / matrix[label].sum(),
            )
            for label, predicted in pairs
        ],
        columns=["label", "predicted", "images", "share"],
    )


def auroc(digits: ArrayLike, outliers: ArrayLike) -> float:
    """Estimate the probability that an outlier scores above a digit, ties half: Mann & Whitney (1947).

    digits: [N], outliers: [M], larger is more of an outlier. scikit-learn has it too, but its import would cost each
    training run a second.
    """
    ascending, scores = np.sort(np.asarray(digits)), np.asarray(outliers)
    below = (
        np.searchsorted(ascending, scores, "left").sum() + np.searchsorted(ascending, scores, "right").sum()
    )
    return float(below / (2 * ascending.size * scores.size))


def confusion_table(
    matrix: IntArray, row_names: Sequence[str] | None = None, column_names: Sequence[str] | None = None
) -> pd.DataFrame:
    """Tabulate a confusion matrix: the label's name, then a column of counts for each predicted class.

    Without names, these are the numbers of the classes.
    """
    names = row_names or tuple(str(row) for row in range(len(matrix)))
    columns = column_names or tuple(str(column) for column in range(matrix.shape[1]))
    table = pd.DataFrame(matrix, columns=[f"predicted_{column}" for column in columns])
    table.insert(0, "label", list(names[: len(matrix)]))
    return table


def reliability_table(
    confidence: FloatArray, correct: BoolArray, bins: int = CALIBRATION_BINS
) -> pd.DataFrame:
    """Compare confidence with accuracy in `bins` bins of equal width, (low, high]; the last one includes 1.

    Columns: low, high, count, confidence (mean), accuracy, accuracy_low and accuracy_high (95 % Wilson
    interval); the last four are NaN in an empty bin.
    After Guo et al., On calibration of modern neural networks (ICML 2017).
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_index = np.searchsorted(edges[1:-1], confidence, side="left")
    count = np.bincount(bin_index, minlength=bins)
    num_correct = np.bincount(bin_index, weights=correct, minlength=bins).astype(np.int64)
    with np.errstate(invalid="ignore"):
        mean_confidence = np.bincount(bin_index, weights=confidence, minlength=bins) / count
        accuracy = num_correct / count
    low, high = wilson_bounds(num_correct, count)
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "count": count,
            "confidence": mean_confidence,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
        }
    )


def calibration_error(confidence: FloatArray, correct: BoolArray, bins: int = CALIBRATION_BINS) -> float:
    """Compute the expected calibration error: |accuracy - confidence| of each bin, weighted by its images."""
    table = reliability_table(confidence, correct, bins)
    gap = (table["accuracy"] - table["confidence"]).abs()
    return float((gap * table["count"]).sum() / table["count"].sum())


def coverage_table(confidence: FloatArray, correct: BoolArray, points: int = 100) -> pd.DataFrame:
    """Compute accuracy against coverage: on the most confident images, in `points` steps up to all of them.

    confidence: [N], larger = more confident (or an outlier score negated). Images of equal confidence
    count with their mean, so that the table doesn't depend on their order. Columns: coverage, count,
    least_sureness, accuracy, accuracy_low and accuracy_high (95 % Wilson interval).
    """
    n = len(correct)
    order = np.argsort(-confidence, kind="stable")
    _, group, size = np.unique(-confidence[order], return_inverse=True, return_counts=True)
    mean_of_group = np.bincount(group, weights=correct[order]) / size
    expected = np.cumsum(mean_of_group[group])
    count = np.unique(np.ceil(np.linspace(0, n, points + 1)[1:]).astype(np.int64))
    num_correct = expected[count - 1]
    low, high = wilson_bounds(np.rint(num_correct).astype(np.int64), count)
    return pd.DataFrame(
        {
            "coverage": count / n,
            "count": count,
            "least_sureness": confidence[order][count - 1],
            "accuracy": num_correct / count,
            "accuracy_low": low,
            "accuracy_high": high,
        }
    )
