"""SGD through autograd, for any net on any device; data, weights and results stay on the device."""

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


class AutogradStep:
    """A `TrainStep` that, with BaseCNN, never waits for the device within an epoch."""

    def __init__(self, model: Net, *, lr: float, momentum: float, dtype: torch.dtype, device: str) -> None:
        self._device = torch.device(device)
        self._dtype = dtype
        self._momentum = momentum
        # A custom net may draw random numbers (dropout); BaseCNN doesn't.
        self._draws = not isinstance(model, BaseCNN)
        self._net = copy.deepcopy(model).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = [parameter for parameter in self._net.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(trained, lr=lr, momentum=momentum, fused=True)

    @property
    def lr(self) -> float:
        """The learning rate of the batches to come."""
        return float(self._optimizer.param_groups[0]["lr"])

    @lr.setter
    def lr(self, rate: float) -> None:
        self._optimizer.param_groups[0]["lr"] = rate

    def prepare(self, images: Tensor) -> Tensor:
        return images.to(self._device)

    def __call__(self, prepared: Any, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        y = labels[index]
        self._net.train()
        seeded = _seeded_by(index, self._device) if self._draws else nullcontext()
        with self._net_errors(), _deterministic(), seeded:
            logits = self._logits(prepared[index])
            loss = functional.cross_entropy(logits, y)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
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
        state = {name: _copy(tensor) for name, tensor in self._net.state_dict().items()}
        if self._momentum:
            for name, parameter in self._net.named_parameters():
                velocity = self._optimizer.state[parameter].get("momentum_buffer")
                state[f"momentum.{name}"] = (
                    torch.zeros_like(state[name]) if velocity is None else _copy(velocity)
                )
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        self._net.load_state_dict({k: v for k, v in state.items() if not k.startswith("momentum.")})
        if self._momentum:
            for name, parameter in self._net.named_parameters():
                velocity = torch.empty_like(parameter).copy_(state[f"momentum.{name}"])
                self._optimizer.state[parameter]["momentum_buffer"] = velocity

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
