"""The fast step does what plain SGD with autograd does, and does it again bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hw2.models.base_cnn import BaseCNN
from hw2.models.factory import new_model
from hw2.train_step.autograd import AutogradStep
from hw2.train_step.factory import TrainStep, backend_name, make_train_step, needs_compilation
from hw2.train_step.options import UpdateRule
from hw2.train_step.winograd import WinogradStep
from hw2.training.runtime import native_bfloat16

PRECISIONS = [
    "float32",
    pytest.param(
        "bfloat16",
        marks=pytest.mark.skipif(not native_bfloat16(), reason="this processor doesn't compute in bfloat16"),
    ),
]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def _images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Grey blobs on black, so that there are ties between neighbors as in real digits."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 28, 28), generator=generator, dtype=torch.uint8)
    images[:, :6] = 0
    images[:, :, 20:] = 0
    return images, torch.randint(0, 10, (count,), generator=generator)


def _step(precision: str = "float32", lr: float = 0.05, momentum: float = 0.0, seed: int = 0) -> TrainStep:
    return make_train_step(
        new_model(seed),
        lr=lr,
        rule=UpdateRule(momentum=momentum),
        precision=precision,
        device="cpu",
        batch_size=64,
    )


def _plain_gradient(images: Tensor, labels: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Of new_model(0), through autograd, all in one precision."""
    model = new_model(0).to(dtype)
    pixels = ((images.double().unsqueeze(1) / 255 - 0.1307) / 0.5).to(dtype)
    hidden = functional.max_pool2d(model.conv2(functional.relu(model.conv1(pixels))), 2)
    functional.cross_entropy(model.fc1(hidden.flatten(1)), labels).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _error(result: Tensor, expected: Tensor) -> float:
    return float((result.double() - expected.double()).norm() / expected.double().norm())


def _check_gradient(images: Tensor, labels: Tensor, precision: str) -> None:
    """No further from the exact one than twice what PyTorch's modules are in this precision."""
    exact = _plain_gradient(images, labels, torch.float64)
    plain = _plain_gradient(images, labels, getattr(torch, precision))
    step = _step(precision, lr=1.0)
    before = step.state()
    step(step.prepare(images), labels, torch.arange(len(images)))
    after = step.state()
    for name, gradient in exact.items():
        allowed = 2 * _error(plain[name], gradient) + (0.02 if precision == "bfloat16" else 1e-4)
        assert _error(before[name] - after[name], gradient) < allowed, name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", [64, 13, 1])
def test_the_gradient_is_the_plain_one(precision: str, size: int) -> None:
    _check_gradient(*_images(size, seed=size), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_where_all_pixels_are_equal_the_gradient_is_still_the_plain_one(precision: str) -> None:
    _check_gradient(torch.zeros(20, 28, 28, dtype=torch.uint8), torch.arange(20) % 10, precision)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_several_batches_and_a_smaller_last_one_give_the_weights_of_torch_sgd(momentum: float) -> None:
    images, labels = _images(150)
    plain = new_model(0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=momentum)
    step = _step(momentum=momentum)
    prepared = step.prepare(images)
    for index in torch.split(torch.randperm(150, generator=torch.Generator().manual_seed(1)), 64):
        logits = plain(images[index])
        expected = functional.cross_entropy(logits, labels[index])
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        loss, correct = step(prepared, labels, index)
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
        assert int(correct) == int((logits.argmax(1) == labels[index]).sum())
    for name, weight in plain.state_dict().items():
        assert _error(step.state()[name], weight) < 1e-4, name


def test_each_batch_has_the_rate_that_was_set_before_it() -> None:
    images, labels = _images(64)
    ways = [
        _step(lr=1.0),
        AutogradStep(new_model(0), lr=1.0, rule=UpdateRule(), dtype=torch.float32, device="cpu"),
    ]
    for step in ways:
        prepared = step.prepare(images)
        for rate in (0.0, 0.05):
            before = step.state()
            step.lr = rate
            step(prepared, labels, torch.arange(64))
        gradient = _plain_gradient(images, labels, torch.float32)
        for name, weight in step.state().items():
            assert _error(weight, before[name] - 0.05 * gradient[name]) < 1e-4, name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_repeated_on_any_number_of_threads_every_bit_is_the_same(precision: str) -> None:
    images, labels = _images(130)
    results = []
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        step = _step(precision, momentum=0.5)
        prepared = step.prepare(images)
        losses = [step(prepared, labels, index)[0] for index in torch.split(torch.arange(130), 64)]
        results.append({"losses": torch.stack(losses), **step.state()})
    for other in results[1:]:
        assert all(torch.equal(results[0][name], other[name]) for name in results[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_loaded_state_goes_on_bit_for_bit(precision: str, momentum: float) -> None:
    images, labels = _images(128)
    first, second = torch.arange(128).split(64)
    one = _step(precision, momentum=momentum)
    prepared = one.prepare(images)
    one(prepared, labels, first)
    other = _step(precision, momentum=momentum, seed=7)
    other.load(one.state())
    assert torch.equal(one(prepared, labels, second)[0], other(prepared, labels, second)[0])
    assert one.state().keys() == other.state().keys()
    assert all(torch.equal(one.state()[name], other.state()[name]) for name in one.state())


def test_the_state_is_a_standard_state_dict_and_a_copy() -> None:
    images, labels = _images(64)
    model = new_model(0)
    step = _step(momentum=0.9)
    before = step.state()
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    saved = {name: weight.clone() for name, weight in before.items()}
    step(step.prepare(images), labels, torch.arange(64))
    assert all(torch.equal(before[name], saved[name]) for name in saved)
    after = step.state()
    names = list(model.state_dict())
    assert list(after) == names + [f"momentum.{name}" for name in names]
    assert all(tensor.dtype == torch.float32 and tensor.is_contiguous() for tensor in after.values())
    model.load_state_dict({name: after[name] for name in names})


def test_the_model_that_a_step_starts_from_is_left_alone() -> None:
    images, labels = _images(64)
    model = new_model(0)
    step = make_train_step(model, lr=0.1, rule=UpdateRule(), precision="float32", device="cpu", batch_size=64)
    step(step.prepare(images), labels, torch.arange(64))
    for name, weight in new_model(0).state_dict().items():
        assert torch.equal(model.state_dict()[name], weight)


def test_the_evaluation_is_that_of_the_model() -> None:
    images, labels = _images(130)
    step = _step()
    prepared = step.prepare(images)
    step(prepared, labels, torch.arange(64))
    model = BaseCNN()
    model.load_state_dict(step.state())
    with torch.no_grad():
        logits = model(images)
    loss, accuracy = step.evaluate(prepared, labels)
    assert loss == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert accuracy == pytest.approx(float((logits.argmax(1) == labels).double().mean()))


@pytest.mark.skipif(not native_bfloat16(), reason="this processor doesn't compute in bfloat16")
def test_bfloat16_learns_what_float32_learns() -> None:
    images, _ = _images(64)
    labels = (images[:, 6:, :20].float().mean(dim=(1, 2)) * 1000).long() % 10
    losses = {}
    for precision in ("float32", "bfloat16"):
        step = _step(precision, lr=0.05)
        prepared = step.prepare(images)
        losses[precision] = [float(step(prepared, labels, torch.arange(64))[0]) for _ in range(15)]
    assert losses["float32"][-1] < 0.9 * losses["float32"][0]
    assert losses["bfloat16"][-1] == pytest.approx(losses["float32"][-1], rel=0.05)


@pytest.mark.parametrize("case", ["too few images", "a label 10"])
def test_what_lies_beyond_an_end_is_refused_by_the_caller_s_thread(case: str) -> None:
    images, labels = _images(64)
    if case == "a label 10":
        labels[40] = 10
    step = _step()
    prepared = step.prepare(images if case == "a label 10" else images[:10])
    with pytest.raises((IndexError, RuntimeError)):
        step(prepared, labels, torch.arange(64))


def test_a_part_that_fails_ends_the_step_and_leaves_it_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = _images(64)
    torch.set_num_threads(2)
    step = _step()
    prepared = step.prepare(images)
    with monkeypatch.context() as patch:
        patch.setattr(step, "_gradients", _fail)
        with pytest.raises(MemoryError):
            step(prepared, labels, torch.arange(64))
    assert torch.get_num_threads() == 2
    assert torch.isfinite(step(prepared, labels, torch.arange(64))[0])


def _fail(*_: object) -> None:
    raise MemoryError


def test_without_numba_the_step_is_autograd_s_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(_step(), WinogradStep)
    assert backend_name("cpu").startswith("winograd, numba ")
    monkeypatch.setattr("hw2.train_step.factory.find_spec", lambda name: None)
    assert isinstance(_step(), AutogradStep)
    assert backend_name("cpu") == "autograd"
    assert not needs_compilation("cpu")


def test_no_kernel_is_compiled_once_a_step_is_made() -> None:
    step = _step()
    assert not needs_compilation("cpu")
    known = {name: len(kernel.signatures) for name, kernel in _kernels()}
    images, labels = _images(100)
    prepared = step.prepare(images)
    step(prepared, labels, torch.arange(64))
    step.evaluate(prepared, labels)
    assert {name: len(kernel.signatures) for name, kernel in _kernels()} == known
    assert all(known[name] for name in ("forward", "pool", "unpool", "backward", "channel_sums"))


def test_kernels_that_nobody_has_compiled_yet_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert needs_compilation("cpu")
    assert not needs_compilation("cuda")


def _kernels() -> list[tuple[str, Any]]:
    from hw2.train_step import winograd_kernels

    return [(name, value) for name, value in vars(winograd_kernels).items() if hasattr(value, "signatures")]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_way_of_a_gpu_gives_the_same_weights(momentum: float) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = _images(100)
    options: Any = {"lr": 0.05, "rule": UpdateRule(momentum=momentum)}
    here = make_train_step(new_model(0), precision="float32", device="cpu", batch_size=64, **options)
    there = AutogradStep(new_model(0), dtype=torch.float32, device=device, **options)
    prepared, moved = here.prepare(images), there.prepare(images)
    for number, index in enumerate(torch.split(torch.arange(100), 64)):
        if number == 1:
            there.load(there.state())
        expected, right = here(prepared, labels, index)
        loss, correct = there(moved, labels.to(device), index.to(device))
        assert float(loss) == pytest.approx(float(expected), rel=1e-4)
        assert int(correct) == int(right)
    state = there.state()
    for name, weight in here.state().items():
        assert _error(state[name], weight) < 1e-3, name
    assert there.evaluate(moved, labels.to(device)) == pytest.approx(
        here.evaluate(prepared, labels), rel=1e-4
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_way_of_a_gpu_repeats_its_bits_also_from_a_state(precision: str, momentum: float) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, labels = _images(128)
    first, second = torch.arange(128).to(device).split(64)

    def step() -> AutogradStep:
        dtype = getattr(torch, precision)
        return AutogradStep(
            new_model(0), lr=0.05, rule=UpdateRule(momentum=momentum), dtype=dtype, device=device
        )

    one, same, other = step(), step(), step()
    prepared = one.prepare(images)
    for each in (one, same):
        each(prepared, labels.to(device), first)
    other.load(one.state())
    losses = [each(prepared, labels.to(device), second)[0] for each in (one, same, other)]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])
    for name, weight in one.state().items():
        assert torch.equal(weight, same.state()[name]), name
        assert torch.equal(weight, other.state()[name]), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_is_never_waited_for_within_an_epoch() -> None:
    images, labels = _images(128)
    step = AutogradStep(new_model(0), lr=0.05, rule=UpdateRule(), dtype=torch.bfloat16, device="cuda")
    prepared, moved, order = step.prepare(images), labels.cuda(), torch.arange(128).cuda()
    step(prepared, moved, order[:64])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for index in order.split(64):
            step(prepared, moved, index)
    finally:
        torch.cuda.set_sync_debug_mode("default")
