"""The net of the study: its layers, its preprocessing, its identity."""

import pytest
import torch

from hw2.common.errors import DataError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.base_cnn import BaseCNN, layer_table
from hw2.models.factory import model_from_weights, new_model, weights_sha256
from hw2.models.net import preprocess

COLOR = ImageSpec(("a", "b"), 3, 9, 12, (0.5,) * 3, (0.5,) * 3)


def raw_images(count: int = 5) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def test_it_has_144266_parameters_where_the_study_has_them() -> None:
    counts = {name: p.numel() for name, p in BaseCNN().named_parameters()}
    assert counts["conv1.weight"] + counts["conv1.bias"] == 320
    assert counts["conv2.weight"] + counts["conv2.bias"] == 18_496
    assert counts["fc1.weight"] + counts["fc1.bias"] == 125_450
    assert sum(counts.values()) == 144_266 == sum(row[2] for row in layer_table())


def test_state_dict_has_the_standard_layout_and_nothing_else() -> None:
    assert {name: tuple(t.shape) for name, t in BaseCNN().state_dict().items()} == {
        "conv1.weight": (32, 1, 3, 3),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 3, 3),
        "conv2.bias": (64,),
        "fc1.weight": (10, 12_544),
        "fc1.bias": (10,),
    }


def test_a_pixel_goes_from_0_to_255_to_the_scale_that_was_measured() -> None:
    ends = preprocess(torch.tensor([0, 255], dtype=torch.uint8).repeat(392).reshape(1, 28, 28))
    assert ends.shape == (1, 1, 28, 28)
    torch.testing.assert_close(ends.unique(), torch.tensor([-0.1307 / 0.5, (1 - 0.1307) / 0.5]))


def test_every_shape_and_type_of_raw_images_gives_the_same_logits() -> None:
    model, images = new_model(0).eval(), raw_images()
    logits = model(images)
    torch.testing.assert_close(model(images.unsqueeze(1)), logits)
    torch.testing.assert_close(model(images.float()), logits)


@pytest.mark.parametrize(
    ("spec", "shape", "forms"),
    [
        (STUDY, (2, 3, 28, 28), r"\[N, 28, 28\] or \[N, 1, 28, 28\]"),
        (STUDY, (4, 14, 28), r"\[N, 28, 28\] or \[N, 1, 28, 28\]"),
        (STUDY, (28, 28), r"\[N, 28, 28\] or"),
        (COLOR, (2, 3, 9, 12), r"\[N, 9, 12, 3\]$"),
        (COLOR, (2, 1, 9, 12, 3), r"\[N, 9, 12, 3\]$"),
    ],
)
def test_images_of_another_shape_are_refused_and_never_taken_for_other_images(
    spec: ImageSpec, shape: tuple[int, ...], forms: str
) -> None:
    with pytest.raises(DataError, match=f"this net takes {forms}"):
        new_model(0, None, spec)(torch.zeros(shape, dtype=torch.uint8))


def test_the_second_convolution_has_no_activation_behind_it() -> None:
    model = new_model(0)
    with torch.no_grad():
        model.conv2.weight.zero_()
        model.conv2.bias.fill_(-3.0)
    torch.testing.assert_close(model.forward_features(raw_images()).late_features, torch.full((5, 64), -3.0))


def test_one_pass_gives_logits_and_the_means_of_both_feature_maps() -> None:
    model = new_model(0)
    images = raw_images()
    outputs = model.forward_features(images)
    first = torch.relu(model.conv1(preprocess(images)))
    torch.testing.assert_close(outputs.early_features, first.mean(dim=(2, 3)))
    pooled = torch.nn.functional.max_pool2d(model.conv2(first), 2)
    torch.testing.assert_close(outputs.late_features, pooled.mean(dim=(2, 3)))
    torch.testing.assert_close(outputs.logits, model.fc1(pooled.flatten(1)))


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    weights = [weights_sha256(new_model(seed).state_dict()) for seed in (0, 0, 1)]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.rand(1), expected)


def test_a_digest_knows_values_and_names_but_no_memory_layout() -> None:
    weights = new_model(0).state_dict()
    digest = weights_sha256(weights)
    turned = {name: weights[name] for name in reversed(weights)}
    turned["conv2.weight"] = weights["conv2.weight"].contiguous(memory_format=torch.channels_last)
    assert weights_sha256(turned) == digest
    changed = dict(weights)
    changed["fc1.bias"] = weights["fc1.bias"].clone()
    changed["fc1.bias"][3] += 1e-6
    assert weights_sha256(changed) != digest


def test_a_model_comes_back_from_its_weights() -> None:
    model = new_model(3).eval()
    again = model_from_weights(model.state_dict())
    assert torch.equal(again(raw_images()), model(raw_images()))
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
