"""Every figure. Each is drawn from a table that is saved beside it, and from nothing else but pictures.

Tables have no index: written with `to_csv(index=False)` and read again, they draw the same figure.
"""

from hw2.figure_style import png
from hw2.figures_comparison import accuracy_intervals, pareto
from hw2.figures_outliers import (
    outlier_matrix,
    outlier_matrix_table,
    outlier_predictions,
    outlier_table,
    probability_vectors,
)
from hw2.figures_scores import (
    accuracy_against_coverage,
    outlier_scores,
    outlier_scores_table,
    roc_curves,
    roc_table,
)
from hw2.figures_training import (
    confusion_matrices,
    confusion_matrix,
    dataset_examples,
    examples_table,
    loss_curve,
    reliability,
)

__all__ = [
    "accuracy_against_coverage",
    "accuracy_intervals",
    "confusion_matrices",
    "confusion_matrix",
    "dataset_examples",
    "examples_table",
    "loss_curve",
    "outlier_matrix",
    "outlier_matrix_table",
    "outlier_predictions",
    "outlier_scores",
    "outlier_scores_table",
    "outlier_table",
    "pareto",
    "png",
    "probability_vectors",
    "reliability",
    "roc_curves",
    "roc_table",
]
