"""What is asked of a training, what `auto` becomes here, and by which names both are found again.

PyTorch is imported only where it is asked something, so that a command line can read the defaults at once.
"""

import ast
import dataclasses
import hashlib
import json
import math
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hw2 import net_file
from hw2.errors import ConfigurationError
from hw2.wording import shortest

PRECISIONS = ("auto", "float32", "bfloat16")
DEVICES = ("auto", "cpu", "cuda")
OPTIMIZERS = ("sgd",)
VALIDATION_SIZE = 5_000
_BOUNDS = {  # what PyTorch takes, and more threads or epochs than anybody has a use for
    "epochs": (1, 1_000_000),
    "batch_size": (1, 2**63 - 1),
    "seed": (0, 2**63 - 1),
    "threads": (0, 1_024),
}
SMALL_VALIDATION_SHARE = 12  # a set smaller than 60,000 gives a twelfth

# The modules whose code decides the weights: changing it makes another configuration. What this module decides is part
# of an identity by its value, and so are the data.
_DECIDING_MODULES = (
    "constants.py",
    "net.py",
    "model.py",
    "model_factory.py",
    "own_net.py",
    "split.py",
    "step*.py",
    "training.py",
)


@dataclass(frozen=True)
class TrainingConfig:
    """One configuration, as asked for; refuses what can't be trained (`ConfigurationError`).

    lr: finite, above 0. momentum: 0 to below 1. validation_size: pictures taken from the training set, or None
    for 5,000 (a twelfth of a set smaller than 60,000). epochs: 1 to 1,000,000. threads: processor threads, 0 for
    all cores, to 1,024. model: `base-cnn`, or FILE.py:CLASS for a net of one's own (see `hw2.own_net`); model_source is
    that file's text, read when the configuration is made and part of it from then on.
    """

    lr: float = 0.001
    epochs: int = 10
    batch_size: int = 64
    optimizer: str = "sgd"
    momentum: float = 0.0
    seed: int = 0
    dataset: str = "mnist"
    validation_size: int | None = None
    precision: str = "auto"
    device: str = "auto"
    threads: int = 0
    model: str = net_file.BASE
    model_source: str = dataclasses.field(default="", repr=False)

    def __post_init__(self) -> None:
        source = "" if self.model == net_file.BASE else self.model_source or net_file.read(str(self.model))
        object.__setattr__(self, "model_source", source)
        _require(
            math.isfinite(self.lr) and self.lr > 0, f"lr is {self.lr}; it must be a finite number above 0"
        )
        _require(0 <= self.momentum < 1, f"momentum is {self.momentum}; it must be at least 0 and below 1")
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            _require(
                isinstance(value, int) and least <= value <= most,
                f"{name} is {value}; it must be a whole number from {least:,} to {most:,}",
            )
        _require(
            self.validation_size is None or self.validation_size >= 0,
            f"validation_size is {self.validation_size}; it must be a whole number from 0",
        )
        for name, choices in (("precision", PRECISIONS), ("device", DEVICES), ("optimizer", OPTIMIZERS)):
            value = getattr(self, name)
            _require(value in choices, f"{name} is {value!r}; it must be one of {', '.join(choices)}")

    @property
    def name(self) -> str:
        """The configuration as a person says it: the two things the study varies, and what else is not default."""
        words = [f"lr={shortest(self.lr)}", f"epochs={self.epochs}"]
        said = ("batch_size", "momentum", "seed", "dataset", "precision")
        words += [f"{k}={getattr(self, k)}" for k in said if getattr(self, k) != _DEFAULTS[k]]
        words += [f"model={self.model_name}"] if self.model_source else []
        return " ".join(words)

    @property
    def model_name(self) -> str:
        """The net as it stands in names: `base-cnn`, or the class of another one written like that."""
        return net_file.short_name(self.model)

    @property
    def own_net(self) -> tuple[str, str] | None:
        """Class and source of a net of one's own, as `new_model` takes them; None for BaseCNN."""
        return (net_file.class_name(self.model), self.model_source) if self.model_source else None

    def for_training_set(self, pictures: int) -> "TrainingConfig":
        """The same with `validation_size` decided, checked against a training set of `pictures`."""
        size = self.validation_size
        if size is None:
            size = min(VALIDATION_SIZE, pictures // SMALL_VALIDATION_SHARE)
        left = pictures - size
        _require(
            left > 0,
            f"validation_size is {size} but the training set has {pictures} pictures; leave some to train on",
        )
        _require(
            self.batch_size <= left,
            f"batch_size is {self.batch_size} but only {left} pictures are trained on; it must not be larger",
        )
        return dataclasses.replace(self, validation_size=size)


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}


@dataclass(frozen=True)
class Runtime:
    """What `auto` became on this machine."""

    precision: str  # "float32" or "bfloat16"
    device: str  # "cpu" or "cuda"
    threads: int


def native_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself; where it is emulated it is 20 times slower than float32."""
    import torch

    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return False
    # oneDNN says yes to every AVX-512, also where it has to emulate.
    emulated = platform.machine() in ("x86_64", "AMD64") and not (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return not emulated


def resolve(config: TrainingConfig) -> Runtime:
    """What the configuration's `auto` means on this machine; `ConfigurationError` for what it hasn't got."""
    import torch

    gpu = torch.cuda.is_available()
    _require(
        config.device != "cuda" or gpu,
        "device is cuda but PyTorch sees no GPU here; use --device cpu or auto",
    )
    device = "cuda" if gpu and config.device != "cpu" else "cpu"
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False) if device == "cuda" else native_bfloat16()
    )
    _require(
        config.precision != "bfloat16" or native,
        f"precision is bfloat16 but this {device} doesn't compute in it natively; use --precision float32 or auto",
    )
    precision = "bfloat16" if native and config.precision != "float32" else "float32"
    return Runtime(precision, device, config.threads or torch.get_num_threads())


def configuration_sha256(config: TrainingConfig, dataset_sha256: str) -> str:
    """Identity of what was asked: configuration, data and code. Finished work is found again by it.

    `threads` and what `auto` became are not part of it: they decide the last bits only, and are in the fingerprint.
    """
    return _sha256(
        {**_asked(config), "epochs": config.epochs, "data": dataset_sha256, "code": deciding_sha256(config)}
    )


def fingerprint(config: TrainingConfig, dataset_sha256: str, runtime: Runtime) -> str:
    """Identity of the weights' last bit, epochs apart: a state may be continued only under an equal fingerprint."""
    import torch

    from hw2.step import implementation

    machine: dict[str, Any] = {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "step": implementation(runtime.device, config.own_net is not None),
    }
    if runtime.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    used = {**dataclasses.asdict(runtime), **machine, "data": dataset_sha256, "code": deciding_sha256(config)}
    return _sha256({**_asked(config), "used": used})


@cache
def code_sha256() -> str:
    """SHA-256 over the code of the modules that decide the weights."""
    folder = Path(__file__).parent
    return syntax_sha256(path.read_text() for pattern in _DECIDING_MODULES for path in folder.glob(pattern))


def syntax_sha256(sources: Iterable[str]) -> str:
    """SHA-256 over what the texts of modules compute, in any order.

    Neither their files' names count nor comments, docstrings, imports and the words of errors: a sentence or a move
    changes no weight.
    """
    trees = sorted(repr(_computed(ast.parse(source))) for source in sources)
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()


def _computed(node: Any) -> Any:
    """What a node of a syntax tree computes, as nested tuples that are alike in every version of Python.

    `ast.dump` isn't: some versions show empty fields, and new ones are added.
    """
    if isinstance(node, list):
        return tuple(_computed(each) for each in node if not _is_silent(each))
    if isinstance(node, ast.Raise):
        return "Raise"
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields if name != "ctx")
        return type(node).__name__, *(
            (name, _computed(value)) for name, value in fields if value not in (None, [])
        )
    return node


def _is_silent(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.Import | ast.ImportFrom)


def deciding_sha256(config: TrainingConfig) -> str:
    """SHA-256 over all source that decides this configuration's weights, a net of one's own included."""
    if not config.model_source:
        return code_sha256()
    return hashlib.sha256(f"{code_sha256()}\n{config.model_source}".encode()).hexdigest()


def _asked(config: TrainingConfig) -> dict[str, Any]:
    """The configuration without epochs and threads, under which states can be shared; a net by its class.

    Its source is part of the code, and where its file lies changes nothing.
    """
    left_out = ("epochs", "threads", "model_source")
    asked = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
    return asked | {"model": net_file.class_name(config.model)}


def _sha256(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigurationError(message)
