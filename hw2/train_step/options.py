"""What a training step can be told beside the learning rate, as plain values. PyTorch isn't imported."""

from dataclasses import dataclass

OPTIMIZERS = ("sgd", "adamw")
AUGMENTATIONS = ("flip", "shift", "crop", "rotate")


@dataclass(frozen=True)
class UpdateRule:
    """How a batch's loss and its gradient become an update of the weights.

    weight_decay: as in PyTorch, part of SGD's gradient, and apart from AdamW's. label_smoothing: share of a label that
    is spread over all classes. clip_norm: the longest that a gradient of all parameters together may be; None for any.
    """

    optimizer: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is SGD, at most with momentum, on the cross-entropy: the update that kernels compute."""
        return self == UpdateRule(momentum=self.momentum)
