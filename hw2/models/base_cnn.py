"""BaseCNN, the net of the study."""

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
        """Logits, float32 [N, 10], of raw images."""
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
