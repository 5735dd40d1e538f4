"""What every net is here, and BaseCNN, the net of the study; each has its preprocessing inside."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from hw2.constants import IMAGE_SIZE, NUM_CLASSES

# MNIST's mean pixel and a scale, both in units of [0, 1]. 0.5 instead of MNIST's deviation of 0.3081: at that
# scale a learning rate of 0.1 diverges, at this one it is stable and meets the study's accuracies.
MEAN = 0.1307
SCALE = 0.5

FLAT_FEATURES = 64 * (IMAGE_SIZE // 2) ** 2


class ModelOutputs(NamedTuple):
    """All that outlier scores need, from one pass over N pictures."""

    logits: Tensor  # float32 [N, 10]
    relu_means: Tensor  # float32 [N, 32], each channel's mean after the first ReLU
    pool_means: Tensor  # float32 [N, 64], each channel's mean after pooling
    # Of another net than BaseCNN: of an early and of a late layer, of any widths.


def preprocess(images: Tensor) -> Tensor:
    """Raw pictures as the net takes them.

    images: uint8 or float, 0 to 255, [N, 28, 28] or [N, 1, 28, 28]. Returns float32 [N, 1, 28, 28].
    """
    scaled = images.reshape(-1, 1, IMAGE_SIZE, IMAGE_SIZE).to(torch.float32)
    return (scaled * (1 / 255) - MEAN) * (1 / SCALE)


# Another net than BaseCNN: its class, and the Python text that has it.
OwnSource = tuple[str, str]


class Net(nn.Module):
    """A classifier of raw pictures (see `preprocess`) into ten classes."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [N, 10], of raw pictures."""
        return self.scores(preprocess(images))

    def scores(self, pixels: Tensor) -> Tensor:
        """Logits [N, 10] of preprocessed pictures; all that a training needs."""
        raise NotImplementedError

    def outputs(self, images: Tensor) -> ModelOutputs:
        """Logits and the channel means that outlier scores are computed from, in one pass."""
        raise NotImplementedError

    def layers(self) -> list[tuple[str, str, int]]:
        """Each layer's name, output shape (one picture, channels x height x width) and number of parameters."""
        raise NotImplementedError


class BaseCNN(Net):
    """Two 3x3 convolutions (1 -> 32 -> 64), one max-pool, one linear layer: 144,266 parameters.

    Takes raw pictures (see `preprocess`) and returns logits; a softmax is only for showing probabilities.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(FLAT_FEATURES, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 [N, 10], of raw pictures."""
        return self.outputs(images).logits

    def scores(self, pixels: Tensor) -> Tensor:
        """As `outputs`, without the means."""
        pooled = functional.max_pool2d(self.conv2(functional.relu(self.conv1(pixels))), 2)
        logits: Tensor = self.fc1(pooled.flatten(1))
        return logits

    def outputs(self, images: Tensor) -> ModelOutputs:
        """Logits and the channel means that outlier scores are computed from, in one pass."""
        first = functional.relu(self.conv1(preprocess(images)))  # [N, 32, 28, 28]
        pooled = functional.max_pool2d(self.conv2(first), 2)  # [N, 64, 14, 14]
        # The study has no activation after conv2.
        logits = self.fc1(pooled.flatten(1))
        return ModelOutputs(logits, first.mean(dim=(2, 3)), pooled.mean(dim=(2, 3)))

    def layers(self) -> list[tuple[str, str, int]]:
        """As `layer_table`."""
        return layer_table()


@overload
def new_model(seed: int) -> BaseCNN: ...
@overload
def new_model(seed: int, own: OwnSource | None) -> Net: ...
def new_model(seed: int, own: OwnSource | None = None) -> Net:
    """BaseCNN, or the net of `own`, with PyTorch's default initialisation, a pure function of `seed`.

    The global generator is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BaseCNN() if own is None else _own(own)


def model_from_weights(weights: Mapping[str, Tensor], own: OwnSource | None = None) -> Net:
    """BaseCNN, or the net of `own`, with the given `state_dict`, ready to predict."""
    if own is None:
        with torch.device("meta"):
            model: Net = BaseCNN()
    else:
        model = new_model(0, own)
    model.load_state_dict(dict(weights), assign=True)
    return model.eval().requires_grad_(False)


def _own(own: OwnSource) -> Net:
    from hw2.own_net import OwnNet

    return OwnNet(*own)


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of a `state_dict`, whatever its order and memory layout."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def layer_table() -> list[tuple[str, str, int]]:
    """`Net.layers` of BaseCNN."""
    return [
        ("input, 1/255, minus mean, over scale", "1 x 28 x 28", 0),
        ("conv1 3x3, padding 1", "32 x 28 x 28", 320),
        ("ReLU", "32 x 28 x 28", 0),
        ("conv2 3x3, padding 1", "64 x 28 x 28", 18_496),
        ("max-pool 2x2", "64 x 14 x 14", 0),
        ("flatten", "12544", 0),
        ("fc1", "10", 125_450),
    ]
