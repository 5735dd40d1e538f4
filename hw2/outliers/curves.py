"""Tables of outlier scores and of their ROC curves, from which figures are drawn."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hw2.common.constants import TARGET_RECALL
from hw2.common.types import FloatArray

HISTOGRAM_BINS = 60
ROC_POINTS = 200


def outlier_scores_table(scores: Mapping[str, FloatArray], threshold: float) -> pd.DataFrame:
    """Count an outlier score in bins: low, high, rejected, and each set's images in (low, high], by name.

    The digits are the first set. The threshold is an edge, and what lies above it is rejected. The last bin
    also holds what lies above it, a thousandth of the scores at most.
    """
    finite = np.concatenate(list(scores.values()))
    finite = finite[np.isfinite(finite)]
    lowest, highest = float(finite.min()), float(np.quantile(finite, 0.999))
    width = (max(highest, threshold) - min(lowest, threshold) or 1.0) / HISTOGRAM_BINS
    below = max(1, round((threshold - lowest) / width))
    above = max(1, HISTOGRAM_BINS - below)
    accepted = np.linspace(min(lowest, threshold - width), threshold, below + 1)
    rejected = np.linspace(threshold, max(highest, threshold + width), above + 1)
    edges = np.concatenate([accepted, rejected[1:]])
    table = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rejected": edges[:-1] >= threshold})
    for name, values in scores.items():
        bin_index = np.clip(np.searchsorted(edges, values, side="left") - 1, 0, len(table) - 1)
        table[name] = np.bincount(bin_index, minlength=len(table))
    return table


def roc_table(scores: Mapping[str, tuple[FloatArray, FloatArray]]) -> pd.DataFrame:
    """Compute ROC curves of scores given by name as (digits, outliers); outliers are the positive class.

    Columns: score, auroc, digits_rejected and outliers_rejected (shares of 1), point: "digits" where 95 % of
    digits are accepted, "outliers" where 95 % of outliers are rejected, else empty. Long curves are thinned.
    """
    from sklearn.metrics import auc, roc_curve  # imported here: it costs a second

    curves = []
    for name, (digits, outliers) in scores.items():
        is_outlier = np.repeat([0, 1], [len(digits), len(outliers)])
        false, true, _ = roc_curve(is_outlier, np.concatenate([digits, outliers]), drop_intermediate=False)
        keeps = int(np.searchsorted(false, 1 - TARGET_RECALL + 1e-12, side="right")) - 1
        rejects = int(np.searchsorted(true, TARGET_RECALL - 1e-12, side="left"))
        even = np.searchsorted(false + true, np.linspace(0, 2, ROC_POINTS))
        chosen = np.unique([*even.clip(max=len(false) - 1), keeps, rejects, 0, len(false) - 1])
        point = np.where(chosen == keeps, "digits", np.where(chosen == rejects, "outliers", ""))
        if keeps == rejects:
            point[chosen == keeps] = "both"
        rates = {"digits_rejected": false[chosen], "outliers_rejected": true[chosen]}
        curves.append(
            pd.DataFrame({"score": name, "auroc": float(auc(false, true)), **rates, "point": point})
        )
    return pd.concat(curves, ignore_index=True)
