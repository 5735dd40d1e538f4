"""Assessment of a trained model: its metrics on test images and on outliers, with its detector."""

from dataclasses import dataclass

import pandas as pd

from hw2.common.formatting import format_ci
from hw2.common.types import BoolArray, FloatArray
from hw2.data.image_set import ImageSet
from hw2.evaluation.evaluate import evaluate
from hw2.evaluation.metrics import auroc, differ_in_size, threshold_shares
from hw2.evaluation.predictions import predictions_frame
from hw2.evaluation.result import Evaluation
from hw2.models.net import Net
from hw2.outliers.detector import OutlierDetector
from hw2.outliers.fit_sets import fit_sets

TOP5_ABOVE = 10  # classes


@dataclass(frozen=True, eq=False)
class Assessment:
    """A model's evaluation on test images and outliers, with the detector that was fitted for it.

    detector and scores: None where there were too few images to fit one.
    """

    test: Evaluation
    outliers: Evaluation
    detector: OutlierDetector | None
    test_scores: FloatArray | None
    outlier_scores: FloatArray | None

    def metrics(self) -> dict[str, float]:
        """Compute the metrics at the end of a run, by their names in MLflow. Shares are of 1, times in seconds."""
        low, high = self.test.accuracy_interval
        values = {
            "test_seconds": self.test.seconds,
            "test_accuracy": self.test.accuracy,
            "test_accuracy_low": low,
            "test_accuracy_high": high,
            "test_loss": self.test.loss,
            "test_calibration_error": self.test.calibration_error,
        }
        if differ_in_size(self.test.labels):
            values["test_balanced_accuracy"] = self.test.balanced_accuracy
        if len(self.test.classes) > TOP5_ABOVE:
            values["test_top5_accuracy"] = self.test.top5_accuracy
        if self.detector is None or self.test_scores is None or self.outlier_scores is None:
            return values
        return values | {
            "outlier_auroc": auroc(self.test_scores, self.outlier_scores),
            "outlier_rejected": float(self.detector.is_outlier(self.outlier_scores).mean()),
            "test_rejected": float(self.detector.is_outlier(self.test_scores).mean()),
        }

    def threshold_summary(self) -> dict[str, str]:
        """Say what the model's own threshold rejects of images that it has never seen.

        Shares with their 95 % Wilson intervals: digits_kept of all digits, accuracy_on_kept of those (a dash where
        none is accepted), outliers_rejected of all outliers. Nothing without a detector.
        """
        if self.detector is None or self.test_scores is None or self.outlier_scores is None:
            return {}
        shares = threshold_shares(
            self.test.correct,
            self.detector.is_outlier(self.test_scores),
            self.detector.is_outlier(self.outlier_scores),
        )
        return {name: format_ci(*share) for name, share in shares.items()}

    def predictions(self) -> dict[str, pd.DataFrame]:
        """Tabulate the predictions for all test images and outliers, by the stem of their file."""
        sets = {"test": (self.test, self.test_scores), "outliers": (self.outliers, self.outlier_scores)}
        return {name: predictions_frame(e, s, self.rejected(s)) for name, (e, s) in sets.items()}

    def rejected(self, scores: FloatArray | None) -> BoolArray | None:
        """Mark scores above the threshold; None where there are none."""
        return None if self.detector is None or scores is None else self.detector.is_outlier(scores)


def assess(
    model: Net,
    train: ImageSet,
    validation: ImageSet | None,
    test: ImageSet,
    outliers: ImageSet,
    *,
    fit_detector: bool = True,
) -> Assessment:
    """Evaluate the model on all of `test` and `outliers` in float32, as a reloaded one computes.

    fit_detector: whether it gets an outlier score, for which there must be enough images.
    """
    on_test = evaluate(model, test)
    on_outliers = evaluate(model, outliers)
    if not fit_detector:
        return Assessment(on_test, on_outliers, None, None, None)
    chosen = fit_sets(train, validation)
    detector = OutlierDetector.fit(
        evaluate(model, chosen.training),
        evaluate(model, chosen.held_out),
        threshold_from=chosen.threshold_from,
    )
    return Assessment(on_test, on_outliers, detector, detector.score(on_test), detector.score(on_outliers))
