"""One step of SGD on BaseCNN, and the evaluation in the same precision, as fast as the device permits.

`make_step` chooses: on a processor forward and backward are written out operator by operator (`CpuStep`), on
a GPU autograd does it (`CudaStep`). Both keep float32 master weights and give plain SGD's results within
rounding.
"""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hw2.model import BaseCNN, preprocess

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_PREPARE_CHUNK = (
    10_000  # pictures converted at a time, so that preparing needs little memory beyond its result
)


class Step(Protocol):
    """What a training drives. `prepared` is whatever `prepare` returned."""

    def prepare(self, images: Tensor) -> Any:
        """The whole set, uint8 [N, 28, 28], in the layout and precision that the step reads."""
        ...

    def __call__(self, prepared: Any, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Trains on the pictures at `index` (int64 [B]); labels: int64 [N].

        Returns the batch's mean loss (float32 []) and the number of right answers (int64 []), both with the
        weights before the update, and never waits for the device.
        """
        ...

    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        """Mean loss and accuracy (a share of 1) over the whole set."""
        ...

    def state(self) -> dict[str, Tensor]:
        """A float32 copy in `state_dict`'s layout; with momentum also `momentum.<name>`."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Goes back to a `state()`; what follows is bit-equal."""
        ...


def make_step(
    model: BaseCNN, *, lr: float, momentum: float, precision: str, device: str, batch_size: int
) -> Step:
    """A step that starts from `model`'s weights (copied, `model` itself is left alone)."""
    if device == "cpu":
        return CpuStep(model, lr=lr, momentum=momentum, dtype=_DTYPES[precision], batch_size=batch_size)
    return CudaStep(model, lr=lr, momentum=momentum, dtype=_DTYPES[precision], device=device)


def _inner(name: str, tensor: Tensor) -> Tensor:
    """A parameter in channels-last order; fc1's columns go from (c, y, x) to (y, x, c)."""
    if name == "fc1.weight":
        return tensor.reshape(10, 64, 14, 14).permute(0, 2, 3, 1).reshape(10, -1)
    if tensor.ndim == 4:
        return tensor.permute(0, 2, 3, 1)
    return tensor


def _outer(name: str, tensor: Tensor) -> Tensor:
    """The inverse of `_inner`."""
    if name == "fc1.weight":
        return tensor.reshape(10, 14, 14, 64).permute(0, 3, 1, 2).reshape(10, -1)
    if tensor.ndim == 4:
        return tensor.permute(0, 3, 1, 2)
    return tensor


class CpuStep:
    """Forward, backward and update through oneDNN's operators, everything in channels-last order."""

    def __init__(
        self, model: BaseCNN, *, lr: float, momentum: float, dtype: torch.dtype, batch_size: int
    ) -> None:
        self._lr = lr
        self._momentum = momentum
        self._dtype = dtype
        self._masters: dict[str, Tensor] = {}
        self._velocities: dict[str, Tensor] = {}
        for name, tensor in model.state_dict().items():
            self._masters[name] = _inner(name, tensor.detach().to(torch.float32)).clone(
                memory_format=torch.contiguous_format
            )
            if momentum:
                self._velocities[name] = torch.zeros_like(self._masters[name])
        self._refresh()

    def prepare(self, images: Tensor) -> Tensor:
        prepared = torch.empty(len(images), 1, 28, 28, dtype=self._dtype)
        for start in range(0, len(images), _PREPARE_CHUNK):
            part = images[start : start + _PREPARE_CHUNK]
            prepared[start : start + len(part)] = preprocess(part)
        return prepared

    @torch.no_grad()
    def __call__(self, prepared: Any, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        x = prepared.index_select(0, index)
        y = labels.index_select(0, index)
        size = len(index)
        weights = self._weights

        first = _convolution(x, weights["conv1.weight"], weights["conv1.bias"], "relu")
        second = _convolution(first, weights["conv2.weight"], weights["conv2.bias"], "none")
        pooled, where = torch.ops.aten.max_pool2d_with_indices(second, [2, 2])
        flat = pooled.permute(0, 2, 3, 1).reshape(size, -1)
        logits = functional.linear(flat, weights["fc1.weight"], weights["fc1.bias"]).float()
        log_p = torch.log_softmax(logits, 1)
        loss = functional.nll_loss(log_p, y)
        correct = (logits.argmax(1) == y).sum()

        d_logits = log_p.exp()
        d_logits.scatter_add_(1, y.unsqueeze(1), torch.full((size, 1), -1.0))
        d_logits /= size
        grads = {"fc1.bias": d_logits.sum(0)}
        d_logits = d_logits.to(self._dtype)
        grads["fc1.weight"] = d_logits.t() @ flat
        d_flat = d_logits @ weights["fc1.weight"]
        # The pool only moves gradients, so conv2's bias can sum the small side.
        grads["conv2.bias"] = d_flat.view(-1, 64).sum(0, dtype=torch.float32)
        d_pooled = d_flat.view(size, 14, 14, 64).permute(0, 3, 1, 2)
        d_second = torch.ops.aten.max_pool2d_with_indices_backward(
            d_pooled, second, [2, 2], [2, 2], [0, 0], [1, 1], False, where
        )
        d_first, grads["conv2.weight"], _ = _convolution_backward(
            d_second, first, weights["conv2.weight"], [True, True, False]
        )
        d_first = torch.ops.aten.threshold_backward(d_first, first, 0)
        _, grads["conv1.weight"], grads["conv1.bias"] = _convolution_backward(
            d_first, x, weights["conv1.weight"], [False, True, True]
        )
        self._update(grads)
        return loss, correct

    @torch.no_grad()
    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        weights = self._weights
        loss = torch.zeros((), dtype=torch.float64)
        correct = torch.zeros((), dtype=torch.int64)
        for x, y in zip(torch.split(prepared, batch_size), torch.split(labels, batch_size), strict=True):
            first = _convolution(x, weights["conv1.weight"], weights["conv1.bias"], "relu")
            second = _convolution(first, weights["conv2.weight"], weights["conv2.bias"], "none")
            flat = functional.max_pool2d(second, 2).permute(0, 2, 3, 1).reshape(len(x), -1)
            logits = functional.linear(flat, weights["fc1.weight"], weights["fc1.bias"]).float()
            loss += functional.cross_entropy(logits, y, reduction="sum")
            correct += (logits.argmax(1) == y).sum()
        return float(loss) / len(labels), int(correct) / len(labels)

    def state(self) -> dict[str, Tensor]:
        state = {name: _outer(name, tensor).contiguous().clone() for name, tensor in self._masters.items()}
        for name, tensor in self._velocities.items():
            state[f"momentum.{name}"] = _outer(name, tensor).contiguous().clone()
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self._masters.items():
            tensor.copy_(_inner(name, state[name]))
        for name, tensor in self._velocities.items():
            tensor.copy_(_inner(name, state[f"momentum.{name}"]))
        self._refresh()

    def _update(self, grads: dict[str, Tensor]) -> None:
        for name, master in self._masters.items():
            grad = grads[name].permute(0, 2, 3, 1) if master.ndim == 4 else grads[name]
            if self._momentum:
                grad = self._velocities[name].mul_(self._momentum).add_(grad)
            master.add_(grad, alpha=-self._lr)
        self._refresh()

    def _refresh(self) -> None:
        self._weights = {
            name: (tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor).to(self._dtype)
            for name, tensor in self._masters.items()
        }


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [1, 1], [1, 1], [1, 1], 1, activation, [], ""
    )
    return result


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
    )
    return result


class CudaStep:
    """The same through autograd; data, weights and results stay on the device."""

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
        logits = self._logits(prepared[index])
        loss = functional.cross_entropy(logits, y)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach(), (logits.detach().argmax(1) == y).sum()

    @torch.no_grad()
    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        correct = torch.zeros((), dtype=torch.int64, device=self._device)
        for x, y in zip(torch.split(prepared, batch_size), torch.split(labels, batch_size), strict=True):
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
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            logits: Tensor = self._net(images)
        return logits.float()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True, memory_format=torch.contiguous_format)
