"""BaseCNN, the net of the reference study."""

from torch import Tensor, nn
from torch.nn import functional

from hw2.common.constants import IMAGE_SIZE, NUM_CLASSES
from hw2.models.net import ModelOutputs, Net, preprocess

FLAT_FEATURES = 64 * (IMAGE_SIZE // 2) ** 2


class BaseCNN(Net):
    """Two 3x3 convolutions (1 -> 32 -> 64), one max-pool, one linear layer: 144,266 parameters.

    Takes raw images (see `preprocess`) and returns logits; a softmax is only for showing probabilities.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(FLAT_FEATURES, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images).logits

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        pooled = functional.max_pool2d(self.conv2(functional.relu(self.conv1(pixels))), 2)
        logits: Tensor = self.fc1(pooled.flatten(1))
        return logits

    def forward_features(self, images: Tensor) -> ModelOutputs:
        early = functional.relu(self.conv1(preprocess(images)))  # [N, 32, 28, 28]
        pooled = functional.max_pool2d(self.conv2(early), 2)  # [N, 64, 14, 14]
        # The study has no activation after conv2.
        logits = self.fc1(pooled.flatten(1))
        return ModelOutputs(logits, early.mean(dim=(2, 3)), pooled.mean(dim=(2, 3)))

    def layers(self) -> list[tuple[str, str, int]]:
        return layer_table()


def layer_table() -> list[tuple[str, str, int]]:
    """List BaseCNN's layers as `Net.layers` does, without creating a net."""
    return [
        ("input, 1/255, minus mean, over scale", "1 x 28 x 28", 0),
        ("conv1 3x3, padding 1", "32 x 28 x 28", 320),
        ("ReLU", "32 x 28 x 28", 0),
        ("conv2 3x3, padding 1", "64 x 28 x 28", 18_496),
        ("max-pool 2x2", "64 x 14 x 14", 0),
        ("flatten", "12544", 0),
        ("fc1", "10", 125_450),
    ]
