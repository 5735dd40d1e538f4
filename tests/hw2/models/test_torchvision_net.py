"""torchvision's own nets on small images: their first layers, what is scored, what is refused."""

import sys

import pytest
import torch
from torch import nn

from hw2.common.errors import ConfigurationError
from hw2.common.image_spec import ImageSpec
from hw2.models.factory import model_from_weights, new_model, weights_sha256
from hw2.models.net import Net
from hw2.models.torchvision_net import TorchvisionNet

GREY = ImageSpec(("a", "b", "c"), 1, 8, 8)
COLOR = ImageSpec(("a", "b", "c"), 3, 32, 32, (0.5,) * 3, (0.5,) * 3)
RESNET = "torchvision:resnet18"


def make(name: str, spec: ImageSpec, seed: int = 0) -> Net:
    return new_model(seed, (f"torchvision:{name}", ""), spec).eval()


def first_convolution(net: Net) -> nn.Conv2d:
    return next(module for module in net.modules() if isinstance(module, nn.Conv2d))


def raw_images(spec: ImageSpec) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, *spec.shape), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("name", "spec", "kernel", "stride", "features"),
    [
        ("mnasnet0_5", GREY, 3, 1, (16, 160)),
        ("mobilenet_v3_small", GREY, 3, 1, (16, 1024)),
        ("regnet_x_400mf", GREY, 3, 1, (32, 400)),
        ("shufflenet_v2_x0_5", GREY, 3, 1, (24, 1024)),
        ("shufflenet_v2_x0_5", COLOR, 3, 1, (24, 1024)),
        ("squeezenet1_1", COLOR, 3, 2, (64, 512)),
    ],
)
def test_a_family_takes_small_images_by_its_rule(
    name: str, spec: ImageSpec, kernel: int, stride: int, features: tuple[int, int]
) -> None:
    net = make(name, spec)
    first = first_convolution(net)
    assert (first.in_channels, first.kernel_size[0], first.stride[0]) == (spec.channels, kernel, stride)
    outputs = net.forward_features(raw_images(spec))
    assert [tuple(each.shape) for each in outputs] == [(2, 3), *((2, width) for width in features)]
    torch.testing.assert_close(outputs.logits, net(raw_images(spec)))
    assert sum(row[2] for row in net.layers()) == sum(p.numel() for p in net.parameters())


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "spec", "kernel", "stride", "features"),
    [
        ("resnet18", GREY, 3, 1, (64, 512)),
        ("resnext50_32x4d", GREY, 3, 1, (64, 1024)),
        ("wide_resnet50_2", GREY, 3, 1, (64, 1024)),
        ("densenet121", GREY, 3, 1, (64, 1024)),
        ("googlenet", GREY, 3, 1, (64, 1024)),
        ("mobilenet_v2", GREY, 3, 1, (32, 320)),
        ("efficientnet_b0", GREY, 3, 1, (32, 320)),
        ("efficientnet_v2_s", GREY, 3, 1, (24, 256)),
        ("vgg11", COLOR, 3, 1, (64, 512)),
        ("convnext_tiny", COLOR, 4, 4, (96, 768)),
        ("swin_t", COLOR, 4, 4, (96, 768)),
        ("swin_v2_t", COLOR, 4, 4, (96, 768)),
        ("vit_b_16", COLOR, 16, 16, (768, 768)),
        ("inception_v3", ImageSpec(("a", "b"), 1, 80, 80), 3, 2, (32, 192)),
    ],
)
def test_so_does_each_larger_one(
    name: str, spec: ImageSpec, kernel: int, stride: int, features: tuple[int, int]
) -> None:
    net = make(name, spec)
    first = first_convolution(net)
    assert (first.in_channels, first.kernel_size[0], first.stride[0]) == (spec.channels, kernel, stride)
    outputs = net.forward_features(raw_images(spec))
    assert [tuple(each.shape) for each in outputs] == [(2, len(spec.classes)), *((2, w) for w in features)]


def test_a_resnet_keeps_every_pixel_up_to_its_second_stage_and_scores_what_its_last_layer_is_given() -> None:
    net = make("resnet18", GREY)
    assert isinstance(net, TorchvisionNet)
    rows = {row[0].partition(" ")[0]: row[1] for row in net.layers()}
    assert rows["conv1"] == rows["maxpool"] == rows["layer1.1.conv2"] == "64 x 8 x 8"
    assert rows["layer4.1.conv2"] == "512 x 1 x 1"
    outputs = net.forward_features(raw_images(GREY))
    torch.testing.assert_close(net.net.fc(outputs.late_features), outputs.logits)  # type: ignore[operator]
    first = torch.relu(net.net.bn1(net.net.conv1(net.preprocess(raw_images(GREY)))))  # type: ignore[operator]
    torch.testing.assert_close(outputs.early_features, first.mean(dim=(2, 3)))


def test_a_shufflenet_keeps_every_pixel_up_to_its_second_stage() -> None:
    rows = {row[0].partition(" ")[0]: row[1] for row in make("shufflenet_v2_x0_5", GREY).layers()}
    assert rows["conv1.0"] == rows["maxpool"] == "24 x 8 x 8"


def test_weights_are_a_function_of_the_seed_and_go_back_into_the_net() -> None:
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    nets = [make("shufflenet_v2_x0_5", GREY, seed) for seed in (0, 0, 1)]
    digests = [weights_sha256(net.state_dict()) for net in nets]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.rand(1), drawn)
    again = model_from_weights(nets[2].state_dict(), nets[2].custom, GREY)
    assert torch.equal(again(raw_images(GREY)), nets[2](raw_images(GREY)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnt18", "torchvision has no such classifier; did you mean torchvision:resnet18"),
        ("fcn_resnet50", "torchvision has no such classifier"),
        ("", "torchvision has no such classifier; torchvision.models.list_models() lists them"),
        ("alexnet", "Output size is too small; it was given float32 [N, 1, 8, 8]: choose another net"),
        ("squeezenet1_1", "Output size is too small"),
    ],
)
def test_what_torchvision_has_not_or_cannot_take_these_images_is_refused_in_one_line(
    name: str, words: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        make(name, GREY)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert f"torchvision:{name}" in str(refusal.value)


def test_a_machine_without_torchvision_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ConfigurationError, match="needs torchvision, which isn't installed here"):
        make("resnet18", GREY)
