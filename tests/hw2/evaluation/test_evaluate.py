"""One pass over the images, and what an evaluation says of itself."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from hw2.common.errors import DataError, Hw2Error
from hw2.evaluation.evaluate import evaluate
from hw2.evaluation.inference import KERNELS_FROM
from hw2.evaluation.metrics import calibration_error
from hw2.evaluation.result import Evaluation
from hw2.models.base_cnn import BaseCNN
from hw2.models.factory import new_model
from hw2.models.net import ModelOutputs
from hw2.train_step.winograd import WinogradStep
from tests.support.evaluations import evaluation_of, random_evaluation


@dataclass(frozen=True, eq=False)
class Images:
    """As much of an image set as an evaluation needs."""

    images: torch.Tensor
    labels: torch.Tensor
    name: str = "some-digits"
    split: str = "test"
    sha256: str = "f" * 64

    def __len__(self) -> int:
        return len(self.images)


def some_images(count: int, seed: int = 5) -> Images:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8, generator=generator)
    return Images(images, torch.randint(0, 10, (count,), generator=generator))


@pytest.fixture(name="random_evaluation")
def fixture_random_evaluation() -> Evaluation:
    return random_evaluation()


class TestOnePassOverTheImages:
    def test_every_image_is_evaluated_whatever_the_batch_size(self) -> None:
        model, images = new_model(1), some_images(23)
        for batch_size in (1, 7, 23, 1000):
            assert evaluate(model, images, batch_size).logits.shape == (23, 10)  # type: ignore[arg-type]

    @pytest.mark.parametrize("kernels_from", [0, 1_000])
    def test_the_outputs_are_those_of_the_model(
        self, kernels_from: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hw2.evaluation.inference.KERNELS_FROM", kernels_from)
        model, images = new_model(1), some_images(75)
        evaluation = evaluate(model, images, batch_size=43)  # type: ignore[arg-type]
        with torch.no_grad():
            logits, early_features, late_features = model.forward_features(images.images)
        np.testing.assert_allclose(evaluation.logits, logits.numpy(), atol=1e-4)
        np.testing.assert_allclose(evaluation.early_features, early_features.numpy(), atol=1e-5)
        np.testing.assert_allclose(evaluation.late_features, late_features.numpy(), atol=1e-5)
        np.testing.assert_array_equal(evaluation.labels, images.labels.numpy())
        assert (evaluation.name, evaluation.sha256) == ("some-digits", "f" * 64)
        assert evaluation.logits.dtype == np.float32
        assert evaluation.seconds > 0

    def test_the_model_is_left_as_it_was(self) -> None:
        model = new_model(1).train()
        before = {name: (value.clone(), value.stride()) for name, value in model.state_dict().items()}
        evaluate(model, some_images(3))  # type: ignore[arg-type]
        assert model.training
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name][0])
            assert value.stride() == before[name][1]
        assert all(parameter.grad is None for parameter in model.parameters())

    def test_the_model_is_asked_in_its_evaluation_mode(self) -> None:
        modes: list[bool] = []
        model = new_model(1).train()
        model.conv1.register_forward_hook(lambda layer, *_: modes.append(layer.training))
        evaluate(model, some_images(3))  # type: ignore[arg-type]
        assert modes == [False]

    def test_many_images_are_evaluated_by_the_kernels_and_few_without_loading_them(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[int] = []
        whole = WinogradStep.forward_features
        monkeypatch.setattr(
            WinogradStep,
            "forward_features",
            lambda self, images: calls.append(len(images)) or whole(self, images),
        )
        evaluate(new_model(1), some_images(KERNELS_FROM - 1))  # type: ignore[arg-type]
        assert calls == []
        evaluate(new_model(1), some_images(2 * KERNELS_FROM))  # type: ignore[arg-type]
        assert calls.count(KERNELS_FROM) == 2

    def test_a_net_that_only_derives_from_basecnn_is_asked_itself(self) -> None:
        class Reversed(BaseCNN):
            def forward_features(self, images: torch.Tensor) -> ModelOutputs:
                logits, *means = super().forward_features(images)
                return ModelOutputs(-logits, *means)

        torch.manual_seed(1)
        model, images = Reversed(), some_images(KERNELS_FROM)
        evaluation = evaluate(model, images)  # type: ignore[arg-type]
        np.testing.assert_allclose(evaluation.logits, model(images.images).detach().numpy(), atol=1e-4)

    def test_progress_ends_with_the_number_of_images(self) -> None:
        seen: list[int] = []
        evaluate(new_model(1), some_images(10), batch_size=4, on_progress=seen.append)  # type: ignore[arg-type]
        assert seen == [4, 8, 10]

    def test_a_set_without_images_is_refused(self) -> None:
        with pytest.raises(DataError, match="some-digits test: no images"):
            evaluate(new_model(1), some_images(0))  # type: ignore[arg-type]

    def test_a_model_that_answers_with_no_number_is_refused(self) -> None:
        model: BaseCNN = new_model(1)
        with torch.no_grad():
            model.fc1.bias[3] = float("nan")
        with pytest.raises(Hw2Error, match="6 of 6 images of some-digits is not a number"):
            evaluate(model, some_images(6))  # type: ignore[arg-type]


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

    def test_it_is_that_of_the_evaluation(self, random_evaluation: Evaluation) -> None:
        expected = calibration_error(random_evaluation.confidence, random_evaluation.correct)
        assert random_evaluation.calibration_error == expected
