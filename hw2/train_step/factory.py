"""The training step, and the evaluation in the same precision, as fast as the device permits.

`make_train_step` chooses: for plain SGD on BaseCNN on a processor kernels compiled by numba around Winograd's
convolution; on a GPU, for a custom net, for all other updates and without numba, autograd. Both keep float32 master
weights and give plain SGD's results within rounding.
"""

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.base_cnn import BaseCNN
from hw2.models.net import Net
from hw2.train_step.augment import Transform
from hw2.train_step.options import UpdateRule

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TrainStep(Protocol):
    """What `Trainer` drives. `prepared` is whatever `prepare` returned."""

    lr: float
    """The learning rate of the batches to come."""

    def prepare(self, images: Tensor) -> Any:
        """Convert the whole set, uint8 [N, H, W] or [N, H, W, 3], to the layout and precision that the step reads."""
        ...

    def __call__(
        self, prepared: Any, labels: Tensor, index: Tensor, transform: Transform | None = None
    ) -> tuple[Tensor, Tensor]:
        """Train on the images at `index` (int64 [B]), changed by `transform`; labels: int64 [N].

        Returns the batch's mean loss (float32 []) and the number of correct predictions (int64 []), both with the
        weights before the update, and never waits for the device.
        """
        ...

    def evaluate(self, prepared: Any, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        """Compute mean loss and accuracy (a share of 1) over the whole set."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Copy the state as float32 in `state_dict`'s layout; the optimizer's own as `momentum.<name>` and the like."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore a `state()`; what follows is bit-equal."""
        ...


def has_kernels(model: Net) -> bool:
    """Whether there are kernels for this net: for BaseCNN on images as the study's."""
    return isinstance(model, BaseCNN) and fits_kernels(model.spec)


def fits_kernels(spec: ImageSpec) -> bool:
    """Whether BaseCNN has kernels for images of this size and so many classes, however they are normalized."""
    return spec.shape == STUDY.shape and spec.num_classes == STUDY.num_classes


def backend_name(device: str, by_autograd: bool = False) -> str:
    """Name the backend of a step here, which decides the last bits. by_autograd: where kernels don't serve at all."""
    if device != "cpu" or by_autograd or find_spec("numba") is None:
        return "autograd"
    return f"winograd, numba {version('numba')}"


def needs_compilation(device: str, by_autograd: bool = False) -> bool:
    """Whether the next step here is compiled first, which takes some 20 s, once for this source and place."""
    if backend_name(device, by_autograd) == "autograd":
        return False
    from hw2.train_step.simd import compiled_before

    return not compiled_before()


def make_train_step(
    model: Net, *, lr: float, rule: UpdateRule, precision: str, device: str, batch_size: int
) -> TrainStep:
    """Create a step that starts from a copy of `model`'s weights."""
    dtype = _DTYPES[precision]
    if backend_name(device, not (has_kernels(model) and rule.is_plain)) == "autograd":
        from hw2.train_step.autograd import AutogradStep

        return AutogradStep(model, lr=lr, rule=rule, dtype=dtype, device=device)
    from hw2.train_step.winograd import WinogradStep

    assert isinstance(model, BaseCNN)
    return WinogradStep(model, lr=lr, momentum=rule.momentum, dtype=dtype, batch_size=batch_size)
