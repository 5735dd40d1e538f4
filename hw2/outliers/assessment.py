"""Assessment of a trained model: its metrics on test images and on outliers, with its detector."""

from dataclasses import dataclass

import pandas as pd

from hw2.common.formatting import format_ci
from hw2.common.types import FloatArray
from hw2.data.image_set import ImageSet
from hw2.evaluation.evaluate import evaluate
from hw2.evaluation.metrics import auroc, threshold_shares
from hw2.evaluation.predictions import predictions_frame
from hw2.evaluation.result import Evaluation
from hw2.models.net import Net
from hw2.outliers.detector import OutlierDetector
from hw2.outliers.fit_sets import fit_sets


@dataclass(frozen=True, eq=False)
class Assessment:
    """A model's evaluation on test images (digits) and outliers, with the detector that was fitted for it."""

    test: Evaluation
    outliers: Evaluation
    detector: OutlierDetector
    test_scores: FloatArray
    outlier_scores: FloatArray

    def metrics(self) -> dict[str, float]:
        """Compute the metrics at the end of a run, by their names in MLflow. Shares are of 1, times in seconds."""
        low, high = self.test.accuracy_interval
        return {
            "test_seconds": self.test.seconds,
            "test_accuracy": self.test.accuracy,
            "test_accuracy_low": low,
            "test_accuracy_high": high,
            "test_loss": self.test.loss,
            "test_calibration_error": self.test.calibration_error,
            "outlier_auroc": auroc(self.test_scores, self.outlier_scores),
            "outlier_rejected": float(self.detector.is_outlier(self.outlier_scores).mean()),
            "test_rejected": float(self.detector.is_outlier(self.test_scores).mean()),
        }

    def threshold_summary(self) -> dict[str, str]:
        """Say what the model's own threshold rejects of images that it has never seen.

        Shares with their 95 % Wilson intervals: digits_kept of all digits, accuracy_on_kept of those (a dash where
        none is accepted), outliers_rejected of all outliers.
        """
        shares = threshold_shares(
            self.test.correct,
            self.detector.is_outlier(self.test_scores),
            self.detector.is_outlier(self.outlier_scores),
        )
        return {name: format_ci(*share) for name, share in shares.items()}

    def predictions(self) -> dict[str, pd.DataFrame]:
        """Tabulate the predictions for all test images and outliers, by the stem of their file."""
        sets = {"test": (self.test, self.test_scores), "outliers": (self.outliers, self.outlier_scores)}
        return {name: predictions_frame(e, s, self.detector.is_outlier(s)) for name, (e, s) in sets.items()}


def assess(
    model: Net, train: ImageSet, validation: ImageSet | None, test: ImageSet, outliers: ImageSet
) -> Assessment:
    """Evaluate the model on all of `test` and `outliers` in float32, as a reloaded one computes."""
    on_test = evaluate(model, test)
    on_outliers = evaluate(model, outliers)
    chosen = fit_sets(train, validation)
    detector = OutlierDetector.fit(
        evaluate(model, chosen.training),
        evaluate(model, chosen.held_out),
        threshold_from=chosen.threshold_from,
    )
    return Assessment(on_test, on_outliers, detector, detector.score(on_test), detector.score(on_outliers))
