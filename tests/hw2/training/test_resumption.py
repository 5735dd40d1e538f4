"""Whatever a training is told, it goes on bit for bit where it was stopped, and keeps what it says."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hw2.common.errors import CheckpointError
from hw2.data.image_set import Dataset, load_dataset
from hw2.models.factory import new_model, weights_sha256
from hw2.train_step.augment import transform_of
from hw2.train_step.factory import make_train_step
from hw2.training import checkpoint
from hw2.training.config import TrainingConfig
from hw2.training.early_stopping import kept_result
from hw2.training.runtime import ResolvedRuntime
from hw2.training.schedule import learning_rate
from hw2.training.split import split_validation
from hw2.training.trainer import Progress, Trainer, TrainingState, shuffled_indices

RUNTIME = ResolvedRuntime("float32", "cpu", 1)
NET = """
from torch import nn
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.1)
        self.last = nn.Linear(784, 10)
    def forward(self, pixels):
        return self.last(self.drop(self.norm(self.first(pixels)).relu()).flatten(1))
"""
WAYS: dict[str, dict[str, Any]] = {
    "kernels, augmented, cosine": {"augment": "shift,rotate", "schedule": "cosine", "momentum": 0.9},
    "nesterov, one-cycle": {
        "lr": 0.01,
        "momentum": 0.9,
        "nesterov": True,
        "schedule": "one-cycle",
        "weight_decay": 5e-4,
        "augment": "flip,shift",
    },
    "adamw, clipped": {
        "optimizer": "adamw",
        "lr": 0.003,
        "clip_norm": 0.5,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "augment": "crop",
    },
    "own net, adamw": {"model": "small.py:Small", "optimizer": "adamw", "lr": 0.01, "augment": "flip,crop"},
    "patience": {"patience": 1, "lr": 0.01},
}


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return load_dataset("mnist-sample")


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    """What each way ends with where nothing stops it, once it has been trained."""
    return {}


@pytest.fixture(autouse=True)
def same_threads(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr("hw2.training.trainer.PROGRESS_INTERVAL", math.inf)
    Path("small.py").write_text(NET, encoding="utf-8")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def config(**options: Any) -> TrainingConfig:
    return TrainingConfig(**{"lr": 0.05, "epochs": 2, "batch_size": 8, "validation_size": 50, **options})


def training(sample: Dataset, requested: TrainingConfig, state: TrainingState | None = None) -> Trainer:
    """On 500 images: 63 batches of 8, the last of 4; reports after 50 batches and at the epochs' ends."""
    train, validation = split_validation(sample.train.subset(torch.arange(550)), 50)
    return Trainer(requested, RUNTIME, sample.sha256, train, validation, state)


class StopError(Exception):
    pass


def stop(sample: Dataset, requested: TrainingConfig, report: int, path: Path) -> TrainingState:
    """Train up to a report, or for 0 to the end of the first epoch, and take the state from the disk."""
    first = training(sample, requested)
    count = 0

    def on_progress(progress: Progress) -> None:
        nonlocal count
        count += 1
        if count == report:
            checkpoint.save(path, first.state())
            raise StopError

    if report:
        with pytest.raises(StopError):
            list(first.epochs(on_progress))
    else:
        next(iter(first.epochs()))
        checkpoint.save(path, first.state())
    return checkpoint.load(path)


def digests(training_: Trainer) -> tuple[str, str, list[Any]]:
    state = training_.state()
    history = [(r.train_loss, r.train_accuracy, r.validation_loss) for r in state.history]
    return weights_sha256(state.weights), weights_sha256(state.model().state_dict()), history


@pytest.mark.parametrize("report", [0, 1, 3], ids=["epoch's end", "first epoch", "second epoch"])
@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_stops_anywhere_goes_on_bit_for_bit(
    sample: Dataset, undisturbed: dict[str, Any], way: str, report: int, tmp_path: Path
) -> None:
    requested = config(**WAYS[way])
    if way not in undisturbed:
        whole = training(sample, requested)
        list(whole.epochs())
        undisturbed[way] = digests(whole)
    resumed = training(sample, requested, stop(sample, requested, report, tmp_path / "state.pt"))
    list(resumed.epochs())
    assert digests(resumed) == undisturbed[way]


@pytest.mark.parametrize(
    "option",
    [
        {"optimizer": "adamw"},
        {"momentum": 0.9, "nesterov": True},
        {"weight_decay": 0.01},
        {"label_smoothing": 0.1},
        {"clip_norm": 0.01},
        {"schedule": "cosine"},
        {"schedule": "one-cycle", "warmup": 0},
        {"augment": "flip"},
        {"augment": "shift"},
        {"augment": "crop"},
        {"augment": "rotate"},
    ],
    ids=str,
)
def test_each_option_trains_other_weights(sample: Dataset, option: dict[str, Any]) -> None:
    weights = set()
    for options in ({"momentum": option.get("momentum", 0.0)}, option):
        one = training(sample, config(epochs=1, **{"lr": 0.01, "warmup": 20, **options}))
        list(one.epochs())
        weights.add(digests(one)[1])
    assert len(weights) == 2


@pytest.mark.parametrize("option", [{"momentum": 0.5}, {"optimizer": "adamw"}], ids=["kernels", "autograd"])
def test_each_batch_has_the_rate_and_the_draws_of_its_place_in_the_training(
    sample: Dataset, option: dict[str, Any]
) -> None:
    requested = config(lr=0.01, schedule="cosine", warmup=5, augment="flip,shift", seed=3, **option)
    one = training(sample, requested)
    list(one.epochs())
    train, _ = split_validation(sample.train.subset(torch.arange(550)), 50)
    step = make_train_step(
        new_model(3), lr=1.0, rule=requested.update_rule, precision="float32", device="cpu", batch_size=8
    )
    prepared, number = step.prepare(train.images), 0
    for epoch in (1, 2):
        for batch, index in enumerate(shuffled_indices(3, epoch, 500).split(8), 1):
            number += 1
            step.lr = learning_rate("cosine", 0.01, 5, number, 2 * 63)
            step(prepared, train.labels, index, transform_of("flip,shift", 3, epoch, batch))
    assert weights_sha256(step.state()) == digests(one)[0]


def test_a_state_of_a_schedule_over_epochs_serves_no_other_number_of_them(sample: Dataset) -> None:
    for schedule in ("cosine", "one-cycle"):
        state = training(sample, config(schedule=schedule)).state()
        training(sample, config(schedule=schedule), state)
        with pytest.raises(CheckpointError, match="another configuration"):
            training(sample, config(schedule=schedule, epochs=1), state)


EARLY = config(lr=0.02, momentum=0.9, patience=2, epochs=30)
"""At a high rate with momentum, so that the validation loss soon rises."""


def stopped_early(sample: Dataset) -> Trainer:
    one = training(sample, EARLY)
    list(one.epochs())
    return one


def test_patience_ends_a_training_and_keeps_the_best_epoch_s_weights(sample: Dataset) -> None:
    one = stopped_early(sample)
    losses = [result.validation_loss for result in one.history]
    best = losses.index(min(losses)) + 1  # type: ignore[type-var]
    assert len(losses) == best + 2 < 30
    alone = training(sample, dataclasses.replace(one.config, patience=None, epochs=best))
    list(alone.epochs())
    assert digests(one)[1] == weights_sha256(alone.state().model().state_dict())
    assert digests(one)[0] != digests(one)[1]
    assert kept_result(one.history, 2).epoch == best


def test_a_training_that_patience_has_ended_stays_ended(sample: Dataset, tmp_path: Path) -> None:
    one = stopped_early(sample)
    checkpoint.save(tmp_path / "state.pt", one.state())
    again = training(
        sample, dataclasses.replace(one.config, epochs=40), checkpoint.load(tmp_path / "state.pt")
    )
    assert list(again.epochs()) == []
    assert digests(again) == digests(one)


def test_with_patience_a_shorter_training_is_the_beginning_of_a_longer_one(sample: Dataset) -> None:
    longer = training(sample, EARLY)
    for epochs, _ in enumerate(longer.epochs(), 1):
        shorter = training(sample, dataclasses.replace(longer.config, epochs=epochs))
        list(shorter.epochs())
        assert digests(shorter) == digests(longer)
    assert epochs < longer.config.epochs
