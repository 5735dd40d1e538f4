"""What decides the identity of a configuration with another net than BaseCNN, and what the net is called."""

import shutil
from pathlib import Path

import pytest

from hw2.common.errors import ConfigurationError
from hw2.training import fingerprint as fingerprint_module
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import code_hash, config_hash, fingerprint
from hw2.training.runtime import ResolvedRuntime

RUNTIME = ResolvedRuntime("float32", "cpu", 2)
NET = "class Net: ..."


def test_the_code_of_one_net_is_no_part_of_another_s_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "hw2"
    shutil.copytree(Path(fingerprint_module.__file__).parent.parent / "models", package / "models")
    monkeypatch.setattr(fingerprint_module, "__file__", str(package / "training" / "fingerprint.py"))
    monkeypatch.setattr(fingerprint_module, "code_hash", code_hash.__wrapped__)
    Path("net.py").write_text(NET, encoding="utf-8")
    models = ("base-cnn", "resnet20", "torchvision:resnet18", "net.py:Net")
    configs = [TrainingConfig(model=model) for model in models]
    for stem, changed in (
        ("base_cnn", {"base-cnn"}),
        ("resnet20", {"resnet20"}),
        ("torchvision_net", {"torchvision:resnet18"}),
        ("custom_net", {"net.py:Net"}),
        ("wrapped_net", {"torchvision:resnet18", "net.py:Net"}),
        ("factory", set(models)),
    ):
        before = [config_hash(config, "data") for config in configs]
        with (package / "models" / f"{stem}.py").open("a", encoding="utf-8") as file:
            file.write("ANOTHER = 1\n")
        after = [config_hash(config, "data") for config in configs]
        assert {m for m, x, y in zip(models, before, after, strict=True) if x != y} == changed


def test_torchvision_s_version_is_part_of_the_fingerprint_of_its_nets_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configs = [TrainingConfig(model=model) for model in ("base-cnn", "resnet20", "torchvision:resnet18")]
    before = [fingerprint(config, "data", RUNTIME) for config in configs]
    monkeypatch.setattr(fingerprint_module, "version", lambda _: "0.1")
    after = [fingerprint(config, "data", RUNTIME) for config in configs]
    assert [x == y for x, y in zip(before, after, strict=True)] == [True, True, False]


def test_a_net_without_kernels_is_trained_by_autograd_and_its_fingerprint_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(
        "hw2.train_step.factory.backend_name", lambda _, custom: calls.append(custom) or "step"
    )
    for model in ("base-cnn", "resnet20", "torchvision:resnet18"):
        fingerprint(TrainingConfig(model=model), "data", RUNTIME)
    assert calls == [False, True, True]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("base-cnn", "base-cnn"),
        ("resnet20", "resnet20"),
        ("torchvision:resnet18", "torchvision-resnet18"),
        ("nets/small_net.py:SmallNet", "small-net"),
        ("small-net.py:SmallNet", "small-net"),
        ("nets.py:SmallNet", "nets.small-net"),
        ("small.py:Net", "small.net"),
        ("my nets!.py:Net", "my-nets-.net"),
    ],
)
def test_a_net_s_name_has_the_file_unless_it_is_named_like_the_class(model: str, name: str) -> None:
    config = TrainingConfig(model=model, model_source="class SmallNet: ..." if ".py:" in model else "")
    assert config.model_name == name
    assert config.name == "lr=0.001 epochs=10" + ("" if model == "base-cnn" else f" model={name}")


def test_two_files_with_one_class_name_have_two_names() -> None:
    for stem in ("shallow", "deep", "net"):
        Path(f"{stem}.py").write_text(NET, encoding="utf-8")
    names = [TrainingConfig(model=f"{stem}.py:Net").model_name for stem in ("shallow", "deep", "net")]
    assert names == ["shallow.net", "deep.net", "net"]


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("resnet-20", "did you mean resnet20?"),
        ("torchvison:resnet18", "did you mean torchvision:NAME?"),
        ("net.py:Resnet20", "would go by the name resnet20, which is taken"),
        (
            "net.py",
            "must be base-cnn, resnet20, torchvision:NAME or FILE.py:CLASS; did you mean net.py:Resnet20?",
        ),
    ],
)
def test_a_name_that_is_none_is_refused_with_what_is_near(model: str, hint: str) -> None:
    Path("net.py").write_text("class Resnet20: ...", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=hint.replace("?", r"\?")) as refusal:
        TrainingConfig(model=model)
    assert "\n" not in str(refusal.value)
