"""BaseCNN, the net of the reference study."""

from torch import Tensor, nn
from torch.nn import functional

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net import ModelOutputs, Net


class BaseCNN(Net):
    """Two 3x3 convolutions (to 32 and 64 channels), one max-pool, one linear layer; on MNIST 144,266 parameters.

    Takes raw images (see `preprocess`) and returns logits; a softmax is only for showing probabilities.
    """

    def __init__(self, spec: ImageSpec = STUDY) -> None:
        super().__init__(spec)
        self.conv1 = nn.Conv2d(spec.channels, 32, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3, padding=1)
        self.fc1 = nn.Linear(flat_features(spec), spec.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_features(images).logits

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        pooled = functional.max_pool2d(self.conv2(functional.relu(self.conv1(pixels))), 2)
        logits: Tensor = self.fc1(pooled.flatten(1))
        return logits

    def forward_features(self, images: Tensor) -> ModelOutputs:
        early = functional.relu(self.conv1(self.preprocess(images)))  # [N, 32, H, W]
        pooled = functional.max_pool2d(self.conv2(early), 2)  # [N, 64, H / 2, W / 2]
        # The study has no activation after conv2.
        logits = self.fc1(pooled.flatten(1))
        return ModelOutputs(logits, early.mean(dim=(2, 3)), pooled.mean(dim=(2, 3)))

    def layers(self) -> list[tuple[str, str, int]]:
        return layer_table(self.spec)


def flat_features(spec: ImageSpec) -> int:
    """Count what the linear layer takes of one image."""
    return 64 * (spec.height // 2) * (spec.width // 2)


def layer_table(spec: ImageSpec = STUDY) -> list[tuple[str, str, int]]:
    """List BaseCNN's layers as `Net.layers` does, without creating a net."""
    size, half = f"{spec.height} x {spec.width}", f"{spec.height // 2} x {spec.width // 2}"
    flat = flat_features(spec)
    return [
        ("input, 1/255, minus mean, over scale", f"{spec.channels} x {size}", 0),
        ("conv1 3x3, padding 1", f"32 x {size}", 32 * (9 * spec.channels + 1)),
        ("ReLU", f"32 x {size}", 0),
        ("conv2 3x3, padding 1", f"64 x {size}", 18_496),
        ("max-pool 2x2", f"64 x {half}", 0),
        ("flatten", str(flat), 0),
        ("fc1", str(spec.num_classes), (flat + 1) * spec.num_classes),
    ]
