"""A net of a person's own: what is taken from it, and that its training is exact."""

from pathlib import Path

import pytest
import torch

from hw2.common.errors import ConfigurationError, NetError
from hw2.common.image_spec import ImageSpec
from hw2.data.image_set import ImageSet, load_dataset
from hw2.evaluation.evaluate import evaluate
from hw2.models.custom_net import CustomNet
from hw2.models.factory import model_from_weights, new_model, weights_sha256
from hw2.models.net import preprocess
from hw2.outliers.detector import OutlierDetector
from hw2.training import checkpoint
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import config_hash, fingerprint
from hw2.training.runtime import ResolvedRuntime, resolve_runtime
from hw2.training.trainer import Progress, Trainer, TrainingState

SOURCE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 6, 5, stride=4), nn.BatchNorm2d(6), nn.ReLU()
        self.pool, self.drop, self.last = nn.MaxPool2d(2), nn.Dropout(0.5), nn.Linear(54, 10)
    def forward(self, x):
        return self.last(self.drop(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1)))
"""
OWN = ("Net", SOURCE)


@pytest.fixture
def images() -> ImageSet:
    return load_dataset("mnist-sample").train.subset(torch.arange(640))


def config(**changed: object) -> TrainingConfig:
    Path("net.py").write_text(SOURCE, encoding="utf-8")
    plain = {"model": "net.py:Net", "epochs": 2, "batch_size": 8, "lr": 0.02, "validation_size": 0}
    return TrainingConfig(**{**plain, **changed})  # type: ignore[arg-type]


def trained(requested: TrainingConfig, images: ImageSet, state: TrainingState | None = None) -> TrainingState:
    training = Trainer(requested, RUNTIME, "data", images, None, state)
    for _ in training.epochs():
        pass
    return training.state()


RUNTIME = ResolvedRuntime("float32", "cpu", 1)


class Stop(Exception):
    """Ends a training in the middle."""


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_dropout_and_running_means_are_the_same_after_a_resumption_in_the_middle(
    momentum: float, images: ImageSet
) -> None:
    requested = config(momentum=momentum)
    whole = trained(requested, images)
    training = Trainer(requested, RUNTIME, "data", images, None)

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            checkpoint.save(Path("state.pt"), training.state())
            raise Stop

    with pytest.raises(Stop):
        list(training.epochs(stop))
    torch.rand(7)  # the global generator is nobody's
    resumed = trained(requested, images, checkpoint.load(Path("state.pt")))
    assert resumed.history[0].train_loss == whole.history[0].train_loss
    assert weights_sha256(resumed.weights) == weights_sha256(whole.weights)
    assert int(resumed.weights["net.norm.num_batches_tracked"]) == 160
    torch.testing.assert_close(
        resumed.model()(images.images[:3]), whole.model()(images.images[:3]), rtol=0, atol=0
    )


def test_another_seed_makes_other_weights_and_the_global_generator_is_left_alone(images: ImageSet) -> None:
    torch.manual_seed(5)
    first = trained(config(epochs=1), images)
    second = trained(config(epochs=1, seed=1), images)
    assert weights_sha256(first.weights) != weights_sha256(second.weights)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))


def test_the_means_are_of_the_first_activation_and_of_the_last_images(images: ImageSet) -> None:
    net = new_model(1, OWN).eval()
    assert isinstance(net, CustomNet)
    outputs = net.forward_features(images.images[:5])
    inside = net.net
    first = inside.relu(inside.norm(inside.conv(preprocess(images.images[:5]))))  # type: ignore[operator]
    torch.testing.assert_close(outputs.early_features, first.mean(dim=(2, 3)))
    torch.testing.assert_close(outputs.late_features, inside.pool(first).mean(dim=(2, 3)))  # type: ignore[operator]
    torch.testing.assert_close(outputs.logits, net(images.images[:5]))


def test_a_class_may_name_its_layers(images: ImageSet) -> None:
    named = SOURCE.replace(
        "class Net(nn.Module):", "class Net(nn.Module):\n    strokes, shapes = 'conv', 'last'"
    )
    outputs = new_model(1, ("Net", named)).eval().forward_features(images.images[:5])
    assert torch.equal(outputs.late_features, outputs.logits)
    assert (outputs.early_features < 0).any()


FITTING = """
from torch import nn
class Net(nn.Module):
    def __init__(self, {arguments}):
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Linear(4, classes)
    def forward(self, x):
        return self.last(self.conv(x).mean(dim=(2, 3)))
"""


@pytest.mark.parametrize(
    ("height", "width", "size"), [(8, 8, 8), (8, 10, (8, 10))], ids=["square", "not square"]
)
def test_a_constructor_gets_what_it_names_of_classes_channels_and_size(
    height: int, width: int, size: object
) -> None:
    spec = ImageSpec(("a", "b", "c"), 3, height, width, (0.5,) * 3, (0.5,) * 3)
    for arguments in ("classes, channels, size", "size, *, channels=1, classes=10, dropout=0.5"):
        net = new_model(0, ("Net", FITTING.format(arguments=arguments)), spec).eval()
        assert isinstance(net, CustomNet)
        assert net.net.size == size
        assert net(torch.zeros(2, *spec.shape, dtype=torch.uint8)).shape == (2, 3)
    with pytest.raises(
        ConfigurationError, match=r"expected a tensor \[N, 3\] of logits; let its constructor take"
    ):
        new_model(
            0, ("Net", FITTING.format(arguments="channels, size, outputs=7").replace("classes)", "7)")), spec
        )


def test_of_layers_too_wide_for_the_outlier_score_the_last_narrow_one_is_taken(images: ImageSet) -> None:
    wide = SOURCE.replace("self.pool(self.relu", "self.wide(self.relu").replace("self.pool, ", "self.wide, ")
    wide = wide.replace("nn.MaxPool2d(2)", "nn.Conv2d(6, 1025, 6, stride=6)").replace(
        "Linear(54", "Linear(1025"
    )
    outputs = new_model(0, ("Net", wide)).eval().forward_features(images.images[:5])
    assert outputs.late_features.shape == (5, 6)


def test_layers_are_listed_with_all_parameters() -> None:
    net = new_model(0, OWN)
    assert ("conv Conv2d", "6 x 6 x 6", 156) in net.layers()
    assert sum(row[2] for row in net.layers()) == sum(each.numel() for each in net.parameters())


def test_its_detector_comes_back_bit_equal_and_one_of_two_nets_mixed_is_refused(images: ImageSet) -> None:
    net = new_model(0, OWN).eval()
    parts = (
        evaluate(net, images.subset(torch.arange(320))),
        evaluate(net, images.subset(torch.arange(320, 640))),
    )
    detector = OutlierDetector.fit(*parts)
    again = OutlierDetector.from_state_dict(detector.state_dict())
    assert (again.score(parts[1]) == detector.score(parts[1])).all()
    mixed = {**detector.state_dict(), "strokes_whitening": torch.eye(32)}
    with pytest.raises(Exception, match=r"strokes_whitening has shape \(32, 32\), expected \(6, 6\)"):
        OutlierDetector.from_state_dict(mixed)


def test_weights_go_back_into_their_class() -> None:
    net = new_model(3, OWN).eval()
    again = model_from_weights(net.state_dict(), OWN)
    assert weights_sha256(again.state_dict()) == weights_sha256(net.state_dict())


def test_the_text_decides_both_identities_and_the_place_of_the_file_decides_nothing() -> None:
    requested = config()
    Path("moved.py").write_text(SOURCE, encoding="utf-8")
    moved = TrainingConfig(**{**vars(requested), "model": "moved.py:Net", "model_source": ""})
    Path("net.py").write_text(SOURCE.replace("0.5", "0.4"), encoding="utf-8")
    saved = TrainingConfig(**vars(requested))
    changed = TrainingConfig(**{**vars(requested), "model_source": ""})
    runtime = resolve_runtime(TrainingConfig(threads=1))
    identities = [
        (config_hash(each, "data"), fingerprint(each, "data", runtime))
        for each in (requested, moved, saved, changed)
    ]
    assert identities[0] == identities[1] == identities[2]
    assert identities[0][0] != identities[3][0]
    assert identities[0][1] != identities[3][1]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (
            "raise KeyError('strokes')",
            "Net failed at work: KeyError: 'strokes'; mend the class and start again",
        ),
        ("import sys; sys.exit(0)", r"Net would have ended the program \(sys.exit\(0\)\)"),
        ("return x.flatten(1)[:, :3] * self.last.bias.sum()", "Net failed at work: IndexError: Target"),
    ],
)
def test_what_its_forward_does_wrong_in_training_is_one_line(line: str, named: str, images: ImageSet) -> None:
    source = SOURCE.replace("(self, x):\n", f"(self, x):\n        if self.training:\n            {line}\n")
    requested = TrainingConfig(**{**vars(config()), "model_source": source})
    with pytest.raises(NetError, match=named):
        trained(requested, images)
    net = new_model(0, ("Net", source.replace("if self.training", "if len(x) == 5"))).eval()
    if "[:, :3]" not in line:
        with pytest.raises(NetError, match=named):
            net.forward_features(images.images[:5])


def test_a_file_that_ends_the_program_when_it_is_read_is_one_line() -> None:
    with pytest.raises(NetError, match="Net would have ended the program"):
        new_model(0, ("Net", f"raise SystemExit('enough')\n{SOURCE}"))


def test_a_layer_too_wide_for_the_outlier_score_is_refused() -> None:
    wide = SOURCE.replace("nn.Conv2d(1, 6,", "nn.Conv2d(1, 2000,").replace(
        "BatchNorm2d(6)", "BatchNorm2d(2000)"
    )
    wide = wide.replace("Linear(54,", "Linear(18000,")
    with pytest.raises(ConfigurationError, match="layer relu has 2,000 channels, at most 1,024"):
        new_model(0, ("Net", wide))
