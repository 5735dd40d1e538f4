"""SGD on BaseCNN on a processor in PyTorch's own operators: forward and backward written out, without autograd.

Everything is in channels-last order. A batch is cut into parts of `PART` pictures that stay in the cores'
caches; each core takes the next part as it gets free and does all of it alone, so that cores meet once a
batch instead of once an operator. The parts' gradients are added in their order: who computed them doesn't
change a bit.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hw2.model import CLASSES, BaseCNN, preprocess
from hw2.step_team import Team, keep_freed_memory

PART = 16  # pictures; measured: 8 to 32 are alike, 64 leaves the caches
_EVALUATION_PART = 50
_PREPARE_PART = 10_000


class DirectStep:
    """A `Step` on the processor with all of PyTorch's threads at the time it is made."""

    def __init__(
        self, model: BaseCNN, *, lr: float, momentum: float, dtype: torch.dtype, batch_size: int
    ) -> None:
        self._lr = lr
        self._momentum = momentum
        self._dtype = dtype
        keep_freed_memory()
        self._team = Team(torch.get_num_threads(), -(-batch_size // PART))
        self._shapes = {name: _inner(name, tensor).shape for name, tensor in model.state_dict().items()}
        size = sum(shape.numel() for shape in self._shapes.values())
        self._master = torch.zeros(size)
        self._velocity = torch.zeros(size if momentum else 0)
        self._working = self._master if dtype == torch.float32 else torch.zeros(size, dtype=dtype)
        self._weights = _Weights(self._views(self._working))
        self._gradients = torch.zeros(0, size)
        self._slice = -(-size // self._team.members)
        self._one_hot = torch.eye(CLASSES)
        self.load(
            {
                **model.state_dict(),
                **{f"momentum.{name}": torch.zeros_like(p) for name, p in model.state_dict().items()},
            }
        )

    def prepare(self, images: Tensor) -> Tensor:
        prepared = torch.empty(len(images), 1, 28, 28, dtype=self._dtype)
        for start in range(0, len(images), _PREPARE_PART):
            part = images[start : start + _PREPARE_PART]
            prepared[start : start + len(part)] = preprocess(part)
        return prepared

    def __call__(self, prepared: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.split(index, PART)
        if len(self._gradients) < len(parts):
            self._gradients = torch.zeros(len(parts), len(self._master))

        targets = labels.index_select(0, index)
        share = self._one_hot.index_select(0, targets) / len(index)

        def part(i: int) -> Tensor:
            x = prepared.index_select(0, parts[i])
            wanted = share[i * PART : i * PART + len(x)]
            return self._weights.gradients(x, wanted, len(index), self._views(self._gradients[i]))

        log_p = torch.cat(self._team.map(part, len(parts)))
        gradients = torch.split(self._gradients[: len(parts)], self._slice, dim=1)
        self._team.map(
            lambda i: self._update(slice(i * self._slice, (i + 1) * self._slice), gradients[i]),
            len(gradients),
        )
        return functional.nll_loss(log_p, targets), (log_p.argmax(1) == targets).sum()

    def evaluate(self, prepared: Tensor, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        size = min(batch_size, _EVALUATION_PART)
        images, targets = torch.split(prepared, size), torch.split(labels, size)

        def part(i: int) -> tuple[float, int]:
            logits = self._weights.logits(images[i])
            loss = functional.cross_entropy(logits, targets[i], reduction="sum")
            return float(loss), int((logits.argmax(1) == targets[i]).sum())

        losses, correct = zip(*self._team.map(part, len(images)), strict=True)
        return sum(losses) / len(labels), sum(correct) / len(labels)

    def state(self) -> dict[str, Tensor]:
        state = {name: _outer(name, tensor) for name, tensor in self._views(self._master).items()}
        if self._momentum:
            velocities = self._views(self._velocity)
            state |= {f"momentum.{name}": _outer(name, tensor) for name, tensor in velocities.items()}
        return state

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self._views(self._master).items():
            tensor.copy_(_inner(name, state[name].detach()))
        if self._momentum:
            for name, tensor in self._views(self._velocity).items():
                tensor.copy_(_inner(name, state[f"momentum.{name}"]))
        self._working.copy_(self._master)

    def _update(self, which: slice, gradients: Tensor) -> None:
        """Of one slice of all parameters; gradients: [parts, slice]."""
        gradient = gradients.sum(0)
        if self._momentum:
            gradient = self._velocity[which].mul_(self._momentum).add_(gradient)
        self._master[which].add_(gradient, alpha=-self._lr)
        if self._working is not self._master:
            self._working[which].copy_(self._master[which])

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        pieces = torch.split(flat, [shape.numel() for shape in self._shapes.values()])
        return {
            name: piece.view(shape) for (name, shape), piece in zip(self._shapes.items(), pieces, strict=True)
        }


class _Weights:
    """Forward and backward of BaseCNN with given weights, in their precision; loss and softmax in float32."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self._conv1 = weights["conv1.weight"].permute(0, 3, 1, 2)
        self._bias1 = weights["conv1.bias"]
        self._conv2 = weights["conv2.weight"].permute(0, 3, 1, 2)
        self._bias2 = weights["conv2.bias"]
        self._fc = weights["fc1.weight"]
        self._fc_bias = weights["fc1.bias"]

    def logits(self, x: Tensor) -> Tensor:
        """float32 [B, 10] of prepared pictures [B, 1, 28, 28]."""
        second = self._second(self._first(x))
        pooled = torch.maximum(second[:, :, 0::2], second[:, :, 1::2])
        pooled = torch.maximum(pooled[:, 0::2], pooled[:, 1::2])
        return self._linear(pooled.view(len(x), -1))

    def gradients(self, x: Tensor, wanted: Tensor, batch: int, gradients: dict[str, Tensor]) -> Tensor:
        """Writes a part's share of the mean loss's gradient; returns the log-softmax, float32 [B, 10].

        x: prepared [B, 1, 28, 28]; wanted: float32 [B, 10], 1/batch at each label, else 0; batch: pictures in
        the whole batch.
        """
        size = len(x)
        first = self._first(x)  # [B, 32, 28, 28] in channels-last order, as all below
        second = self._second(first)  # [B, 28, 28, 64]
        left, right = second[:, :, 0::2], second[:, :, 1::2]  # [B, 28, 14, 64]
        wide = torch.maximum(left, right)
        right_wins = right - left  # above 0: as in PyTorch, the first of equals is the maximum
        upper, lower = wide[:, 0::2], wide[:, 1::2]  # [B, 14, 14, 64]
        pooled = torch.maximum(upper, lower)
        lower_wins = lower - upper
        flat = pooled.view(size, -1)

        log_p = torch.log_softmax(self._linear(flat), 1)
        d_logits = log_p.exp().div_(batch).sub_(wanted)
        gradients["fc1.bias"].copy_(d_logits.sum(0))
        d_logits = d_logits.to(x.dtype)
        gradients["fc1.weight"].copy_(d_logits.t() @ flat)

        d_pooled = (d_logits @ self._fc).view(size, 14, 14, 64)
        # The pool only moves gradients, so the bias may sum the smaller side.
        gradients["conv2.bias"].copy_(d_pooled.view(-1, 64).sum(0))
        # A gradient goes where the maximum was. What it overwrites isn't needed any more.
        d_upper, d_lower = upper, lower
        torch.ops.aten.threshold_backward(d_pooled, lower_wins, 0, grad_input=d_lower)
        torch.sub(d_pooled, d_lower, out=d_upper)
        torch.ops.aten.threshold_backward(wide, right_wins, 0, grad_input=right)
        torch.sub(wide, right, out=left)

        d_first, d_conv2 = _convolution_backward(second.permute(0, 3, 1, 2), first, self._conv2, True)
        gradients["conv2.weight"].copy_(d_conv2.permute(0, 2, 3, 1))
        d_first = torch.ops.aten.threshold_backward(d_first, first, 0)
        gradients["conv1.bias"].copy_(d_first.permute(0, 2, 3, 1).reshape(-1, 32).sum(0))
        _, d_conv1 = _convolution_backward(d_first, x, self._conv1, False)
        gradients["conv1.weight"].copy_(d_conv1.permute(0, 2, 3, 1))
        return log_p

    def _first(self, x: Tensor) -> Tensor:
        return _convolution(x, self._conv1, self._bias1, "relu")

    def _second(self, first: Tensor) -> Tensor:
        return _convolution(first, self._conv2, self._bias2, "none").permute(0, 2, 3, 1)

    def _linear(self, flat: Tensor) -> Tensor:
        # The small side first: MKL's float32 kernel is 1.5 to 5 times faster so.
        return (self._fc @ flat.t()).t().float() + self._fc_bias


def _convolution(x: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, weight, bias, [1, 1], [1, 1], [1, 1], 1, activation, [], ""
    )
    return result


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, for_x: bool) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [for_x, True, False]
    )
    return result[:2]


def _inner(name: str, tensor: Tensor) -> Tensor:
    """A parameter in channels-last order; fc1's columns go from (c, y, x) to (y, x, c)."""
    if name == "fc1.weight":
        return tensor.reshape(10, 64, 14, 14).permute(0, 2, 3, 1).reshape(10, -1)
    return tensor.permute(0, 2, 3, 1) if tensor.ndim == 4 else tensor


def _outer(name: str, tensor: Tensor) -> Tensor:
    """The inverse of `_inner`, as a copy."""
    if name == "fc1.weight":
        tensor = tensor.reshape(10, 14, 14, 64).permute(0, 3, 1, 2).reshape(10, -1)
    elif tensor.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor.clone(memory_format=torch.contiguous_format)
