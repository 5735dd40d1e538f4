"""The rate of each batch is that of PyTorch's own schedulers, which are computed otherwise."""

import dataclasses

import pytest
import torch
from torch.optim import lr_scheduler

from hw2.common.errors import ConfigurationError
from hw2.training.config import TrainingConfig


def rates_of_torch(make: object, batches: int, lr: float = 0.3) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(batches):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def rates(config: TrainingConfig, batches: int) -> list[float]:
    return [config.rate(batch, batches) for batch in range(1, batches + 1)]


@pytest.mark.parametrize("batches", [2, 3, 4, 7, 10, 100, 1_001])
def test_one_cycle_is_that_of_torch(batches: int) -> None:
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.3, total_steps=batches, cycle_momentum=False
        ),
        batches - 1,  # the last one's step would be one too many
    )
    ours = rates(TrainingConfig(lr=0.3, schedule="one-cycle"), batches)
    assert ours[:-1] == pytest.approx(expected, rel=1e-9)
    assert ours[-1] == pytest.approx(0.3 / 25 / 1e4, rel=1e-9)


def test_one_cycle_of_a_single_batch_is_a_number() -> None:
    assert TrainingConfig(schedule="one-cycle").rate(1, 1) > 0


@pytest.mark.parametrize("batches", [1, 2, 100])
def test_cosine_without_a_warm_up_is_that_of_torch(batches: int) -> None:
    expected = rates_of_torch(
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=batches), batches
    )
    assert rates(TrainingConfig(lr=0.3, schedule="cosine", warmup=0), batches) == pytest.approx(expected)


def test_cosine_begins_after_the_warm_up() -> None:
    ours = rates(TrainingConfig(lr=0.3, schedule="cosine", warmup=20), 100)
    assert ours[:20] == rates(TrainingConfig(lr=0.3, warmup=20), 20)
    assert ours[20:] == pytest.approx(
        rates_of_torch(lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=80), 80)
    )
    assert 0 < ours[-1] < 0.001


def test_a_training_that_ends_in_its_warm_up_has_a_rate_for_each_batch() -> None:
    assert rates(TrainingConfig(lr=0.3, schedule="cosine", warmup=20), 10) == pytest.approx(
        [0.015 * batch for batch in range(1, 11)]
    )


def test_one_cycle_has_its_own_rise_and_no_warm_up_beside_it() -> None:
    config = TrainingConfig(schedule="one-cycle")
    assert config == TrainingConfig(schedule="one-cycle", warmup=0)
    assert config.name == "lr=0.001 epochs=10 schedule=one-cycle"
    with pytest.raises(ConfigurationError, match="warmup is 50 but the schedule one-cycle"):
        dataclasses.replace(config, warmup=50)
