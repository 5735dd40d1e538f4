"""Trainings of nets with batch norm and dropout that are resumed within an epoch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hw2.data.image_set import load_dataset
from hw2.models.factory import weights_sha256
from hw2.training import checkpoint, trainer
from hw2.training.config import TrainingConfig
from hw2.training.runtime import ResolvedRuntime
from hw2.training.trainer import Progress, Trainer, TrainingState

RUNTIME = ResolvedRuntime("float32", "cpu", 1)


class Stop(Exception):
    """Ends a training in the middle."""


@pytest.mark.parametrize(
    ("model", "momentum", "counter"),
    [
        ("resnet20", 0.0, "bn1.num_batches_tracked"),
        ("resnet20", 0.9, "bn1.num_batches_tracked"),
        ("torchvision:mnasnet0_5", 0.9, "net.layers.1.num_batches_tracked"),  # with dropout
    ],
)
def test_a_training_resumed_within_an_epoch_is_bit_equal(
    model: str, momentum: float, counter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "BATCH_INTERVAL", 4)
    train = load_dataset("mnist-sample").train.subset(torch.arange(20))
    images = replace(train, name="small", images=train.images[:, ::3, ::3][:, :8, :8].clone())
    config = TrainingConfig(
        model=model, epochs=2, batch_size=2, lr=0.02, momentum=momentum, validation_size=0
    )

    def finish(state: TrainingState | None = None) -> TrainingState:
        training = Trainer(config, RUNTIME, "data", images, None, state)
        list(training.epochs())
        return training.state()

    whole = finish()
    training = Trainer(config, RUNTIME, "data", images, None)

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            checkpoint.save(Path("state.pt"), training.state())
            raise Stop

    with pytest.raises(Stop):
        list(training.epochs(stop))
    state = checkpoint.load(Path("state.pt"))
    assert (state.epoch, 0 < state.batch < 10) == (1, True)
    assert weights_sha256(finish(state).weights) == weights_sha256(whole.weights)
    assert int(whole.weights[counter]) == 20
    assert state.model().custom == (model, "")
