"""What is asked of a training, and the two identities of it."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hw2.common.errors import ConfigurationError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.data.image_set import load_dataset
from hw2.train_step import factory
from hw2.training import fingerprint as fingerprint_module
from hw2.training import runtime as runtime_module
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import (
    HASHED_SOURCES,
    NET_SOURCES,
    code_hash,
    config_hash,
    fingerprint,
    syntax_sha256,
)
from hw2.training.runtime import ResolvedRuntime, native_bfloat16, resolve_runtime
from hw2.training.trainer import Trainer

RUNTIME = ResolvedRuntime("float32", "cpu", 2)
NET = """
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(784, 10)
    def forward(self, pixels):
        return self.last(pixels.flatten(1))
"""


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"epochs": 0},
        {"epochs": -1},
        {"epochs": 1.5},
        {"batch_size": 0},
        {"seed": -1},
        {"threads": -1},
        {"threads": 3_000_000_000},
        {"epochs": 10**30},
        {"seed": 2**63},
        {"momentum": 1.0},
        {"warmup": -1},
        {"warmup": 0.5},
        {"validation_size": -1},
        {"precision": "float16"},
        {"device": "tpu"},
        {"optimizer": "adam"},
        {"weight_decay": -0.1},
        {"weight_decay": float("inf")},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"clip_norm": 0.0},
        {"clip_norm": float("nan")},
        {"schedule": "linear"},
        {"augment": "mirror"},
        {"augment": "flip,flip"},
        {"augment": "flip,,shift"},
        {"augment": ("flip", "shift")},
        {"patience": 0},
        {"patience": 2, "validation_size": 0},
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.9, "optimizer": "adamw"},
        {"momentum": 0.9, "optimizer": "adamw"},
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_refused_by_name(wrong: dict[str, Any]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(ConfigurationError, match=name) as refusal:
        TrainingConfig(**wrong)
    assert str(value) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("wrong", "bounds"),
    [({"threads": 1_025}, "from 0 to 1,024"), ({"epochs": 1_000_001}, "from 1 to 1,000,000")],
    ids=str,
)
def test_a_number_beyond_its_bounds_is_answered_with_both(wrong: dict[str, Any], bounds: str) -> None:
    with pytest.raises(ConfigurationError, match=bounds):
        TrainingConfig(**wrong)
    TrainingConfig(**{name: value - 1 for name, value in wrong.items()})


@pytest.mark.parametrize(
    ("lr", "text"),
    [(0.1, "0.1"), (0.001, "0.001"), (1e-5, "1e-05"), (1000.0, "1000"), (0.1234567, "0.1234567")],
)
def test_two_rates_never_share_a_name(lr: float, text: str) -> None:
    assert TrainingConfig(lr=lr).name == f"lr={text} epochs=10"
    assert float(text) == lr


def test_the_rate_rises_over_the_warm_up_whatever_the_epochs_and_without_one_it_is_there_at_once() -> None:
    for epochs in (1, 50):
        config = TrainingConfig(lr=0.1, warmup=100, epochs=epochs)
        assert [config.rate(batch, 10**7) for batch in (1, 50, 99, 100, 101, 10**6)] == pytest.approx(
            [0.001, 0.05, 0.099, 0.1, 0.1, 0.1]
        )
        assert config.rate(100, 10**7) == 0.1
    assert {TrainingConfig(lr=0.1, warmup=0).rate(batch, 500) for batch in (1, 2, 500)} == {0.1}


def test_a_name_says_what_is_varied_and_what_is_unusual() -> None:
    assert TrainingConfig(lr=0.1, epochs=8).name == "lr=0.1 epochs=8"
    assert TrainingConfig(lr=0.1, epochs=8, warmup=0).name == "lr=0.1 epochs=8 warmup=0"
    assert (
        TrainingConfig(lr=0.1, epochs=8, seed=2, batch_size=128).name
        == "lr=0.1 epochs=8 batch_size=128 seed=2"
    )


def test_a_name_says_how_it_is_trained_where_that_is_unusual() -> None:
    config = TrainingConfig(
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        schedule="one-cycle",
        augment="shift, flip",
        patience=3,
    )
    assert config.name == (
        "lr=0.001 epochs=10 momentum=0.9 nesterov=True weight_decay=0.0005 schedule=one-cycle augment=flip,shift "
        "patience=3"
    )
    assert TrainingConfig(optimizer="adamw", label_smoothing=0.1, clip_norm=1.0).name == (
        "lr=0.001 epochs=10 optimizer=adamw label_smoothing=0.1 clip_norm=1.0"
    )


def test_the_order_of_augmentations_makes_no_other_configuration() -> None:
    assert TrainingConfig(augment="rotate,flip") == TrainingConfig(augment="flip,rotate")


def test_patience_has_validation_images_also_of_a_set_too_small_for_any() -> None:
    with pytest.raises(ConfigurationError, match="patience is 2 but validation_size is 0"):
        TrainingConfig(patience=2, batch_size=2).for_training_set(11)


def test_a_configuration_without_later_options_has_the_identity_that_it_had_before_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fingerprint_module, "code_hash", lambda *_: "code")
    assert config_hash(TrainingConfig(), "data")[:16] == "249c994397f90092"


@pytest.mark.parametrize(("images", "expected"), [(60_000, 5_000), (4_000, 333), (600, 50)])
def test_validation_takes_5000_images_or_a_twelfth_of_a_smaller_set(images: int, expected: int) -> None:
    assert TrainingConfig().for_training_set(images).validation_size == expected


def test_a_batch_is_not_larger_than_what_is_trained_on() -> None:
    TrainingConfig(batch_size=90, validation_size=10).for_training_set(100)
    with pytest.raises(ConfigurationError, match="batch_size is 91 but only 90"):
        TrainingConfig(batch_size=91, validation_size=10).for_training_set(100)
    with pytest.raises(ConfigurationError, match="validation_size is 100"):
        TrainingConfig(validation_size=100).for_training_set(100)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(TrainingConfig)])
def test_each_field_but_threads_makes_another_configuration(field: str) -> None:
    # The size that images are made into is part of the data.
    Path("net.py").write_text("class Net: ...", encoding="utf-8")
    other: Any = {
        "model": "net.py:Net",
        "optimizer": "adamw",
        "nesterov": True,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "schedule": "cosine",
        "augment": "flip",
        "dataset": "fashion-mnist",
        "precision": "float32",
        "device": "cpu",
        "momentum": 0.9,
        "lr": 0.5,
        "image_size": 16,
    }.get(field, 3)
    usual = TrainingConfig(momentum=0.5) if field == "nesterov" else TrainingConfig()
    changed = dataclasses.replace(usual, **{field: other})
    same = config_hash(changed, "data") == config_hash(usual, "data")
    assert same == (changed == usual or field in ("threads", "image_size"))
    if field not in ("threads", "image_size", "epochs", "model_source"):
        assert fingerprint(changed, "data", RUNTIME) != fingerprint(usual, "data", RUNTIME)


def test_data_and_code_are_part_of_both_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig()
    before = config_hash(config, "data"), fingerprint(config, "data", RUNTIME)
    assert config_hash(config, "other") != before[0]
    assert fingerprint(config, "other", RUNTIME) != before[1]
    monkeypatch.setattr(fingerprint_module, "code_hash", lambda _: "changed")
    assert config_hash(config, "data") != before[0]
    assert fingerprint(config, "data", RUNTIME) != before[1]


CODE = {
    "models/net.py": '''
"""A net."""
import torch
from hw2.common.constants import SCALE

HALF = 0.5  # of a pixel


def scale(pixel: float) -> float:
    """Scale a pixel."""
    if pixel < 0:
        raise ValueError(f"{pixel} is dark")
    return pixel * SCALE + HALF
''',
    "train_step/step.py": "def step(weight, gradient):\n    return weight - gradient\n",
}


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("A net.", "Another sentence.", True),
        ("Scale a pixel.", "Scale it.", True),
        ("of a pixel\n", "of one, or more\n\n", True),
        ("hw2.common.constants", "hw2.constants", True),
        ("is dark", "is below 0", True),
        ("HALF = 0.5", "HALF = 0.25", False),
        ("* SCALE", "/ SCALE", False),
        ("pixel < 0", "pixel <= 0", False),
    ],
)
def test_the_identity_of_code_is_what_it_computes(old: str, new: str, same: bool) -> None:
    assert old in CODE["models/net.py"]
    before = syntax_sha256(CODE.values())
    changed = {**CODE, "models/net.py": CODE["models/net.py"].replace(old, new)}
    assert (syntax_sha256(changed.values()) == before) == same


def test_the_name_of_a_file_is_not_part_of_the_code_s_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_module, "__file__", str(tmp_path / "training" / "fingerprint.py"))
    for name, text in CODE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    identity = code_hash.__wrapped__()
    assert identity == syntax_sha256(CODE.values())
    (tmp_path / "models/net.py").rename(tmp_path / "train_step/net.py")
    assert code_hash.__wrapped__() == identity
    (tmp_path / "training").mkdir()
    (tmp_path / "training/checkpoint.py").write_text("SIZE = 3", encoding="utf-8")
    assert code_hash.__wrapped__() == identity
    (tmp_path / "training/split.py").write_text("SEED = 3", encoding="utf-8")
    assert code_hash.__wrapped__() != identity


def test_every_module_that_decides_is_there() -> None:
    package = Path(fingerprint_module.__file__).parent.parent
    patterns = [*HASHED_SOURCES, *(pattern for kind in NET_SOURCES.values() for pattern in kind)]
    assert all(list(package.glob(pattern)) for pattern in patterns)


def test_a_fingerprint_is_equal_for_other_epochs_and_differs_by_what_auto_became() -> None:
    config = TrainingConfig()
    identity = fingerprint(config, "data", RUNTIME)
    assert fingerprint(dataclasses.replace(config, epochs=99), "data", RUNTIME) == identity
    for schedule in ("cosine", "one-cycle"):  # each of whose rates depends on the epochs
        scheduled = dataclasses.replace(config, schedule=schedule)
        longer = dataclasses.replace(scheduled, epochs=99)
        assert fingerprint(scheduled, "data", RUNTIME) != fingerprint(longer, "data", RUNTIME)
    assert fingerprint(config, "data", dataclasses.replace(RUNTIME, threads=1)) != identity
    assert fingerprint(config, "data", dataclasses.replace(RUNTIME, precision="bfloat16")) != identity


def test_a_fingerprint_names_the_step_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("net.py").write_text(NET, encoding="utf-8")
    named: list[bool] = []
    monkeypatch.setattr(factory, "backend_name", lambda _, by_autograd: named.append(by_autograd) or "step")
    color = ImageSpec(("a", "b"), 3, 32, 32, (0.5,) * 3, (0.5,) * 3)
    cases: list[tuple[dict[str, Any], ImageSpec, bool]] = [
        ({}, STUDY, False),
        ({"schedule": "cosine", "augment": "flip", "momentum": 0.9}, STUDY, False),
        ({"weight_decay": 0.1}, STUDY, True),
        ({"model": "net.py:Net"}, STUDY, True),
        ({}, color, True),
    ]
    for options, spec, by_autograd in cases:
        fingerprint(TrainingConfig(**options), "data", RUNTIME, spec)
        assert named.pop() is by_autograd, options


@pytest.mark.parametrize(
    ("machine", "onednn", "avx512_bf16", "amx", "native"),
    [
        ("x86_64", True, False, False, False),  # AVX-512 without it: oneDNN emulates
        ("x86_64", True, True, False, True),
        ("x86_64", True, False, True, True),
        ("x86_64", False, False, False, False),
        ("aarch64", True, False, False, True),
    ],
)
def test_a_processor_that_only_emulates_bfloat16_has_not_got_it(
    machine: str, onednn: bool, avx512_bf16: bool, amx: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert native_bfloat16() is native


def test_where_pytorch_has_no_onednn_its_operators_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert native_bfloat16() is False
    train = load_dataset("mnist-sample").train.subset(torch.arange(128))
    for model in ("base-cnn", "net.py:Net"):
        Path("net.py").write_text(NET, encoding="utf-8")
        config = TrainingConfig(epochs=1, validation_size=0, threads=1, device="cpu", model=model)
        (result,) = Trainer(config, resolve_runtime(config), "data", train, None).epochs()
        assert 0 < result.train_loss < 10


@pytest.mark.parametrize(
    ("name", "avx512_fp16", "amx", "faster"),
    [
        ("Intel Xeon", True, False, False),  # AMX hidden by a virtual machine
        ("Intel Xeon", True, True, True),
        ("Intel Xeon", False, False, True),  # Cooper Lake
        ("AMD EPYC", False, False, True),
    ],
)
def test_bfloat16_is_not_faster_on_an_intel_that_hides_amx(
    name: str, avx512_fp16: bool, amx: bool, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = {"cpu_name": name, "avx512_fp16": avx512_fp16, "amx_tile": amx}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert runtime_module.bfloat16_is_faster() is faster


@pytest.mark.parametrize(("native", "faster"), [(False, False), (False, True), (True, False), (True, True)])
def test_auto_is_bfloat16_only_where_the_processor_has_it_and_is_faster_in_it(
    native: bool, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(runtime_module, "native_bfloat16", lambda: native)
    monkeypatch.setattr(runtime_module, "bfloat16_is_faster", lambda: faster)
    chosen = resolve_runtime(TrainingConfig()).precision
    assert chosen == ("bfloat16" if native and faster else "float32")
    assert resolve_runtime(TrainingConfig(precision="float32")).precision == "float32"
    if native:
        assert resolve_runtime(TrainingConfig(precision="bfloat16")).precision == "bfloat16"
    else:
        with pytest.raises(ConfigurationError, match="bfloat16"):
            resolve_runtime(TrainingConfig(precision="bfloat16"))


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="no GPU"):
        resolve_runtime(TrainingConfig(device="cuda"))
    assert resolve_runtime(TrainingConfig()).device == "cpu"
