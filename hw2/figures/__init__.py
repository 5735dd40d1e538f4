"""Every figure. Each is drawn from a table that is saved beside it, and from nothing else but images.

Tables have no index: written with `to_csv(index=False)` and read again, they draw the same figure.
"""

from hw2.data.image_set import examples_table
from hw2.figures.comparison import accuracy_intervals, pareto, seed_accuracies
from hw2.figures.outliers import outlier_matrix, outlier_predictions, probability_vectors
from hw2.figures.run import confusion_matrices, confusion_matrix, dataset_examples, loss_curve, reliability
from hw2.figures.scores import accuracy_against_coverage, outlier_scores, roc_curves
from hw2.figures.search import search_curves, search_importance, search_parameters, search_spending
from hw2.figures.style import png
from hw2.outliers.curves import outlier_scores_table, roc_table
from hw2.outliers.tables import outlier_matrix_table, outlier_table

__all__ = [
    "accuracy_against_coverage", "accuracy_intervals", "confusion_matrices", "confusion_matrix",
    "dataset_examples", "examples_table", "loss_curve", "outlier_matrix", "outlier_matrix_table",
    "outlier_predictions", "outlier_scores", "outlier_scores_table", "outlier_table", "pareto", "png",
    "probability_vectors", "reliability", "roc_curves", "roc_table", "search_curves", "search_importance",
    "search_parameters", "search_spending", "seed_accuracies",
]  # fmt: skip
