"""ResNet-20 for small images: He et al., Deep residual learning for image recognition, CVPR 2016, section 4.2."""

from torch import Tensor, nn
from torch.nn import functional

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.net import ModelOutputs, Net
from hw2.models.net_source import RESNET20

WIDTHS = (16, 32, 64)
BLOCKS = 3  # a stage, each of two convolutions: 6 x 3 + 2 layers with weights


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A): every second pixel, new channels zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == outputs else 2
        self.added = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = x[:, :, :: self.stride, :: self.stride] if self.added else x
        if self.added:
            before = self.added // 2
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, before, self.added - before))
        return functional.relu(residual + shortcut)


class ResNet20(Net):
    """Three stages of three residual blocks; in color with ten classes 269,722 parameters.

    Takes raw images of any size (see `preprocess`) and returns logits.
    """

    custom = (RESNET20, "")

    def __init__(self, spec: ImageSpec = STUDY) -> None:
        super().__init__(spec)
        self.conv1 = nn.Conv2d(spec.channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.stages = nn.Sequential(
            *(_stage(inputs, outputs) for inputs, outputs in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False))
        )
        self.fc = nn.Linear(WIDTHS[-1], spec.num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_preprocessed(self, pixels: Tensor) -> Tensor:
        return self._outputs(pixels)[2]

    def forward_features(self, images: Tensor) -> ModelOutputs:
        early, pooled, logits = self._outputs(self.preprocess(images))
        return ModelOutputs(logits, early.mean(dim=(2, 3)), pooled)

    def _outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what the first ReLU gives [N, 16, H, W], what is pooled of the last stage [N, 64], and logits."""
        early = functional.relu(self.bn1(self.conv1(pixels)))
        pooled = self.stages(early).mean(dim=(2, 3))
        logits: Tensor = self.fc(pooled)
        return early, pooled, logits

    def layers(self) -> list[tuple[str, str, int]]:
        height, width = self.spec.height, self.spec.width
        rows = [("input, 1/255, minus mean, over scale", f"{self.spec.channels} x {height} x {width}", 0)]
        rows.append(("conv1 3x3, batch norm, ReLU", _shape(0, height, width), _count(self.conv1, self.bn1)))
        for number, stage in enumerate(self.stages):
            if number:
                height, width = (height + 1) // 2, (width + 1) // 2
            name = f"stage {number + 1}, {BLOCKS} residual blocks"
            rows.append((name, _shape(number, height, width), _count(stage)))
        rows.append(("mean of each channel", str(WIDTHS[-1]), 0))
        return [*rows, ("fc", str(self.spec.num_classes), _count(self.fc))]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    blocks = (ResidualBlock(outputs if number else inputs, outputs) for number in range(BLOCKS))
    return nn.Sequential(*blocks)


def _shape(stage: int, height: int, width: int) -> str:
    return f"{WIDTHS[stage]} x {height} x {width}"


def _count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
