"""ResNet-20: its layers, its initialization, its shortcuts."""

import pytest
import torch

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.factory import model_from_weights, new_model, weights_sha256
from hw2.models.resnet20 import ResidualBlock, ResNet20

NET = ("resnet20", "")
COLOR = ImageSpec(STUDY.classes, 3, 32, 32, (0.5,) * 3, (0.5,) * 3)


def raw_images(spec: ImageSpec, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *spec.shape), dtype=torch.uint8, generator=generator)


def test_it_has_the_layers_and_parameters_of_the_paper() -> None:
    net = new_model(0, NET, COLOR)
    weighted = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(weighted) == 20
    assert sum(parameter.numel() for parameter in net.parameters()) == 269_722
    assert sum(row[2] for row in net.layers()) == 269_722
    assert [row[1] for row in net.layers()] == [
        "3 x 32 x 32", "16 x 32 x 32", "16 x 32 x 32", "32 x 16 x 16", "64 x 8 x 8", "64", "10",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("channels", "height", "width", "classes"),
    [(1, 8, 8, 2), (3, 9, 13, 5), (1, 128, 128, 100), (3, 8, 128, 3)],
)
def test_it_takes_images_of_any_size(channels: int, height: int, width: int, classes: int) -> None:
    names = tuple(f"class {number}" for number in range(classes))
    spec = ImageSpec(names, channels, height, width, (0.5,) * channels, (0.5,) * channels)
    net = new_model(0, NET, spec).eval()
    outputs = net.forward_features(raw_images(spec))
    assert [tuple(each.shape) for each in outputs] == [(2, classes), (2, 16), (2, 64)]
    stages = [tuple(map(int, row[1].split(" x "))) for row in net.layers()[2:5]]
    inside = net.stages[0](net.conv1(net.preprocess(raw_images(spec))))  # type: ignore[index, operator]
    for number, shape in enumerate(stages):
        if number:
            inside = net.stages[number](inside)  # type: ignore[index, operator]
        assert tuple(inside.shape[1:]) == shape


def test_a_shortcut_takes_every_second_pixel_and_adds_empty_channels() -> None:
    block = ResidualBlock(16, 32).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 9, 8)
    y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any()
    assert not y[:, 24:].any()


def test_initial_weights_are_those_of_kaiming_and_a_function_of_the_seed() -> None:
    digests = [weights_sha256(new_model(seed, NET, COLOR).state_dict()) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    net = new_model(0, NET, COLOR)
    assert isinstance(net, ResNet20)
    # From 32 to 64 channels: sqrt(2 / (64 x 9)).
    weight = net.stages[2][0].conv1.weight  # type: ignore[index, union-attr]
    assert float(weight.detach().std()) == pytest.approx((2 / 576) ** 0.5, rel=0.02)


def test_features_and_logits_come_from_one_pass() -> None:
    net = new_model(0, NET, COLOR).eval()
    outputs = net.forward_features(raw_images(COLOR))
    torch.testing.assert_close(net(raw_images(COLOR)), outputs.logits)
    torch.testing.assert_close(net.fc(outputs.late_features), outputs.logits)  # type: ignore[operator]
    assert (outputs.early_features >= 0).all()


def test_a_model_comes_back_from_its_weights() -> None:
    net = new_model(3, NET, COLOR).eval()
    again = model_from_weights(net.state_dict(), NET, COLOR)
    assert torch.equal(again(raw_images(COLOR)), net(raw_images(COLOR)))
