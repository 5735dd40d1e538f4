"""Measures against hand-worked cases, against other libraries, and predictions through a file and back."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hw2.errors import DataError, ExperimentError
from hw2.evaluation import (
    PREDICTION_COLUMNS,
    Evaluation,
    Predictions,
    calibration_error,
    confusion_matrix,
    confusion_table,
    coverage_table,
    cross_entropy,
    evaluate,
    predictions_frame,
    read_predictions,
    reliability_table,
    softmax,
    wilson_interval,
    write_predictions,
)
from hw2.model import BaseCNN, new_model


@dataclass(frozen=True, eq=False)
class Pictures:
    """As much of an image set as an evaluation needs."""

    images: torch.Tensor
    labels: torch.Tensor
    name: str = "some-digits"
    split: str = "test"
    sha256: str = "f" * 64

    def __len__(self) -> int:
        return len(self.images)


def some_pictures(count: int, seed: int = 5) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    return Pictures(images, torch.randint(0, 10, (count,), generator=generator))


def evaluation_of(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    n = len(labels)
    return Evaluation(
        name="hand-made",
        sha256="a" * 64,
        labels=labels.astype(np.int64),
        logits=logits.astype(np.float32),
        relu_means=np.zeros((n, 32), np.float32),
        pool_means=np.zeros((n, 64), np.float32),
        seconds=1.0,
    )


@pytest.fixture
def random_evaluation() -> Evaluation:
    generator = np.random.default_rng(3)
    return evaluation_of(generator.normal(size=(57, 10)) * 3, generator.integers(0, 10, 57))


class TestOnePassOverThePictures:
    def test_every_picture_is_evaluated_whatever_the_batch_size(self) -> None:
        model, pictures = new_model(1), some_pictures(23)
        for batch_size in (1, 7, 23, 1000):
            assert evaluate(model, pictures, batch_size).logits.shape == (23, 10)  # type: ignore[arg-type]

    def test_the_outputs_are_those_of_the_model(self) -> None:
        model, pictures = new_model(1), some_pictures(11)
        evaluation = evaluate(model, pictures, batch_size=4)  # type: ignore[arg-type]
        with torch.no_grad():
            logits, relu_means, pool_means = model.outputs(pictures.images)
        np.testing.assert_allclose(evaluation.logits, logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(evaluation.relu_means, relu_means.numpy(), atol=1e-5)
        np.testing.assert_allclose(evaluation.pool_means, pool_means.numpy(), atol=1e-5)
        np.testing.assert_array_equal(evaluation.labels, pictures.labels.numpy())
        assert (evaluation.name, evaluation.sha256) == ("some-digits", "f" * 64)
        assert evaluation.logits.dtype == np.float32
        assert evaluation.seconds > 0

    def test_the_model_is_left_as_it_was(self) -> None:
        model = new_model(1).train()
        before = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
        evaluate(model, some_pictures(3))  # type: ignore[arg-type]
        assert model.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name][0])
            assert value.stride() == before[name][1]
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_progress_ends_with_the_number_of_pictures(self) -> None:
        seen: list[int] = []
        evaluate(new_model(1), some_pictures(10), batch_size=4, on_progress=seen.append)  # type: ignore[arg-type]
        assert seen == [4, 8, 10]

    def test_a_set_without_pictures_is_refused(self) -> None:
        with pytest.raises(DataError, match="some-digits test: no pictures"):
            evaluate(new_model(1), some_pictures(0))  # type: ignore[arg-type]

    def test_a_model_that_answers_with_no_number_is_refused(self) -> None:
        model: BaseCNN = new_model(1)
        with torch.no_grad():
            model.fc1.bias[3] = float("nan")
        with pytest.raises(ExperimentError, match="6 of 6 pictures of some-digits is not a number"):
            evaluate(model, some_pictures(6))  # type: ignore[arg-type]


class TestWhatFollowsFromLogits:
    def test_an_evaluation_cannot_be_written_to(self, random_evaluation: Evaluation) -> None:
        with pytest.raises(ValueError, match="read-only"):
            random_evaluation.logits[0, 0] = 1
        with pytest.raises(AttributeError):
            random_evaluation.seconds = 2  # type: ignore[misc]

    def test_two_of_three_right_is_an_accuracy_of_two_thirds(self) -> None:
        evaluation = evaluation_of(np.eye(10)[[4, 0, 9]] * 5, np.array([4, 0, 8]))
        assert evaluation.predicted.tolist() == [4, 0, 9]
        assert evaluation.correct.tolist() == [True, True, False]
        assert evaluation.accuracy == pytest.approx(2 / 3)
        assert evaluation.n == 3

    def test_probabilities_and_loss_equal_pytorchs(self, random_evaluation: Evaluation) -> None:
        logits = torch.from_numpy(random_evaluation.logits.astype(np.float64))
        np.testing.assert_allclose(
            random_evaluation.probabilities, torch.softmax(logits, 1).numpy(), rtol=1e-12
        )
        expected = torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(random_evaluation.labels.copy())
        )
        assert random_evaluation.loss == pytest.approx(float(expected), rel=1e-12)
        np.testing.assert_array_equal(
            random_evaluation.confidence, random_evaluation.probabilities.max(axis=1)
        )

    def test_huge_logits_neither_overflow_nor_lose_the_loss(self) -> None:
        logits = np.array([[1e4, -1e4, 0.0]])
        assert softmax(logits).tolist() == [[1.0, 0.0, 0.0]]
        assert cross_entropy(np.array([1]), logits) == pytest.approx(2e4)

    def test_confusion_counts_labels_in_rows_and_predictions_in_columns(self) -> None:
        matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 2, 1, 2]), classes=4)
        assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
        table = confusion_table(matrix, ("zero", "one", "two", "three"))
        assert table["label"].tolist() == ["zero", "one", "two", "three"]
        assert table["predicted_2"].tolist() == [1, 0, 1, 0]

    def test_confusion_equals_scikit_learns(self, random_evaluation: Evaluation) -> None:
        from sklearn import metrics

        ours = confusion_matrix(random_evaluation.labels, random_evaluation.predicted)
        theirs = metrics.confusion_matrix(
            random_evaluation.labels, random_evaluation.predicted, labels=range(10)
        )
        np.testing.assert_array_equal(ours, theirs)


class TestWilsonInterval:
    @given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
    def test_it_holds_the_share_and_equals_statsmodels(self, counts: tuple[int, int]) -> None:
        from statsmodels.stats.proportion import proportion_confint

        correct, n = counts
        low, high = wilson_interval(correct, n)
        assert 0 <= low <= correct / n <= high <= 1
        assert (low, high) == pytest.approx(proportion_confint(correct, n, method="wilson"), abs=1e-12)

    def test_all_right_still_leaves_room_for_doubt(self) -> None:
        low, high = wilson_interval(10, 10)
        assert low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)  # n / (n + z^2)
        assert high == 1.0

    @pytest.mark.parametrize(("correct", "n"), [(0, 0), (3, 2), (-1, 2)])
    def test_impossible_counts_are_refused(self, correct: int, n: int) -> None:
        with pytest.raises(ValueError, match="expected 0 <= correct <= n"):
            wilson_interval(correct, n)


class TestCalibration:
    def test_a_confidence_of_exactly_one_counts(self) -> None:
        confidence, correct = np.array([1.0, 1.0, 1.0, 1.0]), np.array([True, True, True, False])
        table = reliability_table(confidence, correct)
        assert table["count"].tolist() == [0] * 14 + [4]
        assert calibration_error(confidence, correct) == pytest.approx(0.25)

    def test_a_confidence_on_an_edge_belongs_to_the_bin_below(self) -> None:
        table = reliability_table(np.array([0.0, 0.2, 0.4]), np.array([True, True, True]), bins=5)
        assert table["count"].tolist() == [2, 1, 0, 0, 0]

    def test_two_bins_worked_by_hand(self) -> None:
        confidence = np.array([0.6, 0.8, 0.2, 0.4])
        correct = np.array([True, False, True, False])
        # Each bin has half of the pictures and accuracy 0.5; mean confidence is 0.3 in one, 0.7 in the other.
        assert calibration_error(confidence, correct, bins=2) == pytest.approx(0.2)

    @given(
        arrays.arrays(np.float64, st.integers(1, 60), elements=st.floats(0.1, 1.0)),
        st.integers(0, 2**32 - 1),
    )
    def test_no_picture_is_lost_and_the_error_equals_a_plain_loop(
        self, confidence: np.ndarray, seed: int
    ) -> None:
        correct = np.random.default_rng(seed).random(len(confidence)) < 0.7
        table = reliability_table(confidence, correct)
        assert table["count"].sum() == len(confidence)
        error = 0.0
        for low, high in zip(table["low"], table["high"], strict=True):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
        assert calibration_error(confidence, correct) == pytest.approx(error, abs=1e-12)

    def test_it_is_that_of_the_evaluation(self, random_evaluation: Evaluation) -> None:
        expected = calibration_error(random_evaluation.confidence, random_evaluation.correct)
        assert random_evaluation.calibration_error == expected


class TestAccuracyAgainstCoverage:
    def test_the_surest_come_first_and_the_last_row_is_the_accuracy(self) -> None:
        sureness = np.array([0.9, 0.5, 0.8, 0.7])
        correct = np.array([True, False, True, False])
        table = coverage_table(sureness, correct, points=4)
        assert table["count"].tolist() == [1, 2, 3, 4]
        assert table["accuracy"].tolist() == pytest.approx([1, 1, 2 / 3, 0.5])
        assert table["least_sureness"].tolist() == [0.9, 0.8, 0.7, 0.5]
        assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1.0]

    @given(
        st.lists(st.tuples(st.sampled_from([0.2, 0.5, 1.0]), st.booleans()), min_size=1, max_size=40),
        st.randoms(),
    )
    def test_the_order_of_pictures_does_not_matter(
        self, pictures: list[tuple[float, bool]], random: object
    ) -> None:
        shuffled = list(pictures)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        tables = [
            coverage_table(np.array([sure for sure, _ in some]), np.array([right for _, right in some]))
            for some in (pictures, shuffled)
        ]
        pd.testing.assert_frame_equal(*tables)


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
