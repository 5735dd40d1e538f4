"""Predictions through a file and back."""

from pathlib import Path

import numpy as np
import pytest

from hw2.common.errors import DataError
from hw2.evaluation.predictions import (
    PREDICTION_COLUMNS,
    Predictions,
    predictions_frame,
    read_predictions,
    write_predictions,
)
from hw2.evaluation.result import Evaluation
from tests.support.evaluations import random_evaluation


@pytest.fixture(name="random_evaluation")
def fixture_random_evaluation() -> Evaluation:
    return random_evaluation()


class TestStoredPredictions:
    def test_a_frame_has_the_designs_columns(self, random_evaluation: Evaluation) -> None:
        frame = predictions_frame(random_evaluation, None, None)
        assert list(frame.columns) == PREDICTION_COLUMNS
        assert frame["index"].tolist() == list(range(57))
        assert frame["outlier_score"].isna().all()
        assert frame["rejected"].isna().all()

    @pytest.mark.parametrize("with_scores", [True, False])
    def test_what_went_into_a_file_comes_out(
        self, random_evaluation: Evaluation, tmp_path: Path, with_scores: bool
    ) -> None:
        score = np.linspace(0, 1, 57) if with_scores else None
        rejected = score > 0.95 if score is not None else None
        write_predictions(tmp_path / "test.parquet", predictions_frame(random_evaluation, score, rejected))
        stored = read_predictions(tmp_path / "test.parquet")
        assert (stored.name, stored.sha256) == ("hand-made", "a" * 64)
        np.testing.assert_array_equal(stored.labels, random_evaluation.labels)
        np.testing.assert_array_equal(stored.predicted, random_evaluation.predicted)
        np.testing.assert_array_equal(stored.logits, random_evaluation.logits)
        if score is None:
            assert stored.outlier_score is None
            assert stored.rejected is None
        else:
            np.testing.assert_array_equal(stored.outlier_score, score)
            np.testing.assert_array_equal(stored.rejected, rejected)

    def test_a_missing_column_is_named(self, random_evaluation: Evaluation) -> None:
        frame = predictions_frame(random_evaluation).drop(columns=["label", "logit_3"])
        with pytest.raises(DataError, match="predictions without label, logit_3; expected the columns index"):
            Predictions.from_frame(frame)

    def test_a_file_with_a_missing_column_is_named(
        self, random_evaluation: Evaluation, tmp_path: Path
    ) -> None:
        path = tmp_path / "test.parquet"
        write_predictions(path, predictions_frame(random_evaluation).drop(columns=["label"]))
        with pytest.raises(DataError, match=r"test\.parquet: predictions without label"):
            read_predictions(path)

    @pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"no parquet at all"])
    def test_a_damaged_file_is_named_in_one_line(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "test.parquet"
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            read_predictions(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent\.parquet"):
            read_predictions(tmp_path / "absent.parquet")
