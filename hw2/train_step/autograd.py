"""Any update through autograd, for any net on any device; data, weights and results stay on the device."""

import copy
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hw2.common.errors import NetError
from hw2.models.base_cnn import BaseCNN
from hw2.models.net import Net
from hw2.models.wrapped_net import WrappedNet
from hw2.train_step.augment import Transform
from hw2.train_step.optimizer import (
    net_weights,
    new_optimizer,
    read_optimizer_state,
    restore_optimizer_state,
)
from hw2.train_step.options import UpdateRule


class AutogradStep:
    """A `TrainStep` that, with BaseCNN, never waits for the device within an epoch."""

    def __init__(self, model: Net, *, lr: float, rule: UpdateRule, dtype: torch.dtype, device: str) -> None:
        self._device = torch.device(device)
        self._dtype = dtype
        self._rule = rule
        # A custom net may draw random numbers (dropout); BaseCNN doesn't.
        self._draws = not isinstance(model, BaseCNN)
        self._net = copy.deepcopy(model).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained = [parameter for parameter in self._net.parameters() if parameter.requires_grad]
        self._optimizer = new_optimizer(rule, self._trained, lr)

    @property
    def lr(self) -> float:
        """The learning rate of the batches to come."""
        return float(self._optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, rate: float) -> None:
        self._optimizer.param_groups[0]["lr"] = rate

    def prepare(self, images: Tensor) -> Tensor:
        return images.to(self._device)

    def __call__(
        self, prepared: Any, labels: Tensor, index: Tensor, transform: Transform | None = None
    ) -> tuple[Tensor, Tensor]:
        x, y = prepared[index], labels[index]
        if transform is not None:
            x = transform(x)
        self._net.train()
        seeded = _seeded_by(index, self._device) if self._draws else nullcontext()
        with self._net_errors(), _deterministic(), seeded:
            logits = self._logits(x)
            loss = functional.cross_entropy(logits, y, label_smoothing=self._rule.label_smoothing)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        if self._rule.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._trained, self._rule.clip_norm)
        self._optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    @torch.no_grad()
    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        self._net.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for x, y in zip(torch.split(prepared, batch_size), torch.split(labels, batch_size), strict=True):
            with self._net_errors(), _deterministic():
                logits = self._logits(x)
            loss += functional.cross_entropy(logits, y, reduction="sum")
            correct += (logits.argmax(1) == y).sum()
        return float(loss) / len(labels), int(correct) / len(labels)

    def state(self) -> dict[str, Tensor]:
        own = read_optimizer_state(self._optimizer, self._rule, self._net.named_parameters())
        return {name: _copy(tensor) for name, tensor in {**self._net.state_dict(), **own}.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        self._net.load_state_dict(net_weights(state))
        restore_optimizer_state(self._optimizer, self._rule, self._net.named_parameters(), state)

    def _net_errors(self) -> AbstractContextManager[None]:
        return self._net.one_line_errors(NetError) if isinstance(self._net, WrappedNet) else nullcontext()

    def _logits(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits: Tensor = self._net.forward_preprocessed(
                self._net.preprocess(images).contiguous(memory_format=torch.channels_last)
            )
        return logits.float()


def _deterministic() -> AbstractContextManager[None]:
    """Give the same bits each time; float32 as it is, not rounded to 10 bits before each product."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


@contextmanager
def _seeded_by(index: Tensor, device: torch.device) -> Iterator[None]:
    """Seed PyTorch by the batch alone, whose order has the seed and the epoch in it.

    So a training that resumes within an epoch needs no generator's state.
    """
    digest = hashlib.sha256(index.cpu().numpy().tobytes()).digest()
    with torch.random.fork_rng([] if device.type == "cpu" else [torch.cuda.current_device()]):
        torch.manual_seed(int.from_bytes(digest[:7]))
        yield


def _copy(tensor: Tensor) -> Tensor:
    # Whole numbers are counters of a layer and stay what they are.
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
