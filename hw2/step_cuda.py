"""SGD on BaseCNN on a GPU, through autograd; data, weights and results stay on the device."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hw2.model import BaseCNN, preprocess


class CudaStep:
    """A `Step` that never waits for the device within an epoch."""

    def __init__(
        self, model: BaseCNN, *, lr: float, momentum: float, dtype: torch.dtype, device: str
    ) -> None:
        self._device = torch.device(device)
        self._dtype = dtype
        self._momentum = momentum
        net = BaseCNN()
        net.load_state_dict(model.state_dict())
        self._net = net.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=lr, momentum=momentum, fused=True)

    def prepare(self, images: Tensor) -> Tensor:
        return images.to(self._device)

    def __call__(self, prepared: Any, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        y = labels[index]
        with _exactly():
            logits = self._logits(prepared[index])
            loss = functional.cross_entropy(logits, y)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
        self._optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    @torch.no_grad()
    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for x, y in zip(torch.split(prepared, batch_size), torch.split(labels, batch_size), strict=True):
            with _exactly():
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

    def _logits(self, images: Tensor) -> Tensor:
        net = self._net
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            first = functional.relu(
                net.conv1(preprocess(images).contiguous(memory_format=torch.channels_last))
            )
            pooled = functional.max_pool2d(net.conv2(first), 2)
            logits: Tensor = net.fc1(pooled.flatten(1))
        return logits.float()


def _exactly() -> AbstractContextManager[None]:
    """The same bits each time; float32 as it is, not rounded to 10 bits before each product."""
    flags: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
