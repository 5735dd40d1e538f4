"""Each update is PyTorch's own, and a state holds all of it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hw2.models.factory import new_model
from hw2.train_step.autograd import AutogradStep
from hw2.train_step.factory import TrainStep, backend_name, make_train_step
from hw2.train_step.optimizer import net_weights
from hw2.train_step.options import UpdateRule
from hw2.train_step.winograd import WinogradStep

RULES = {
    "nesterov": UpdateRule(momentum=0.9, nesterov=True),
    "weight decay": UpdateRule(momentum=0.9, weight_decay=0.01),
    "label smoothing": UpdateRule(label_smoothing=0.1),
    "clip norm": UpdateRule(clip_norm=0.5),
    "adamw": UpdateRule(optimizer="adamw"),
    "adamw all": UpdateRule(optimizer="adamw", weight_decay=0.1, label_smoothing=0.2, clip_norm=0.5),
}


def _images(count: int = 96) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 10, (count,), generator=generator)


def _step(rule: UpdateRule, lr: float = 0.01) -> TrainStep:
    return make_train_step(new_model(0), lr=lr, rule=rule, precision="float32", device="cpu", batch_size=32)


def _train_plainly(rule: UpdateRule, images: Tensor, labels: Tensor, lr: float = 0.01) -> dict[str, Tensor]:
    """With PyTorch's optimizers as anybody would write it, in float64."""
    model = new_model(0).double()
    options: dict[str, Any] = {"lr": lr, "weight_decay": rule.weight_decay}
    if rule.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), **options)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), momentum=rule.momentum, nesterov=rule.nesterov, **options
        )
    for index in torch.arange(len(images)).split(32):
        logits = model.forward_preprocessed(model.preprocess(images[index]).double())
        smoothed = functional.one_hot(labels[index], 10).double()
        smoothed = smoothed * (1 - rule.label_smoothing) + rule.label_smoothing / 10
        loss = -(smoothed * logits.log_softmax(1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        if rule.clip_norm is not None:
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
            for gradient in gradients:
                gradient *= min(1.0, rule.clip_norm / float(norm))
        optimizer.step()
    return model.state_dict()


@pytest.mark.parametrize("name", RULES)
def test_an_update_is_that_of_torch(name: str) -> None:
    rule = RULES[name]
    images, labels = _images()
    step = _step(rule)
    prepared = step.prepare(images)
    for index in torch.arange(len(images)).split(32):
        step(prepared, labels, index)
    before = {key: weight.double() for key, weight in new_model(0).state_dict().items()}
    ours = net_weights(step.state())
    for key, expected in _train_plainly(rule, images, labels).items():
        moved = (expected - before[key]).norm()
        # Where a gradient is about 0, AdamW's first step is its sign.
        allowed = 0.02 if rule.optimizer == "adamw" else 5e-3
        assert float((ours[key].double() - expected).norm() / moved) < allowed, key


@pytest.mark.parametrize("name", RULES)
def test_a_state_goes_on_bit_for_bit(name: str) -> None:
    images, labels = _images()
    one, other = _step(RULES[name]), _step(RULES[name])
    prepared = one.prepare(images)
    first, *rest = torch.arange(len(images)).split(32)
    other.load(one.state())  # one that has not begun is a state, too
    for each in (one, other):
        each(prepared, labels, first)
    again = _step(RULES[name])
    again.load(other.state())
    for index in rest:
        assert torch.equal(one(prepared, labels, index)[0], again(prepared, labels, index)[0])
    expected, state = one.state(), again.state()
    assert state.keys() == expected.keys()
    for key, tensor in expected.items():
        assert tensor.dtype == torch.float32
        assert torch.equal(state[key], tensor), key


def test_adamw_s_moments_and_steps_are_in_the_state_and_not_among_the_weights() -> None:
    images, labels = _images()
    step = _step(RULES["adamw"])
    for index in torch.arange(64).split(32):
        step(step.prepare(images), labels, index)
    state, names = step.state(), list(new_model(0).state_dict())
    assert net_weights(state).keys() == set(names)
    for name in names:
        assert state[f"exp_avg.{name}"].shape == state[f"exp_avg_sq.{name}"].shape == state[name].shape
        assert float(state[f"step.{name}"]) == 2
        assert float(state[f"exp_avg_sq.{name}"].sum()) > 0


def test_kernels_serve_plain_sgd_alone_and_a_step_is_what_it_is_called() -> None:
    for rule in (UpdateRule(), UpdateRule(momentum=0.9)):
        assert rule.is_plain
        assert isinstance(_step(rule), WinogradStep)
    for rule in RULES.values():
        assert not rule.is_plain
        assert isinstance(_step(rule), AutogradStep)
    assert backend_name("cpu", by_autograd=True) == "autograd"
    assert backend_name("cpu", by_autograd=False) != "autograd"


@pytest.mark.parametrize("rule", [UpdateRule(), UpdateRule(label_smoothing=0.1)], ids=["kernels", "autograd"])
def test_a_step_trains_on_the_images_as_they_are_changed(rule: UpdateRule) -> None:
    images, labels = _images()
    index = torch.randperm(96, generator=torch.Generator().manual_seed(3))[:32]
    one, other = _step(rule), _step(rule)
    first = one(one.prepare(images), labels, index, lambda batch: batch.flip(2))
    second = other(other.prepare(images.flip(2)), labels, index)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    for name, weight in one.state().items():
        assert torch.equal(weight, other.state()[name]), name
