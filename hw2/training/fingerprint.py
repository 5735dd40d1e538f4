"""The identities of a configuration: what was requested, and what decides the last bit."""

import ast
import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models import net_source
from hw2.training.config import TrainingConfig, without_later_defaults
from hw2.training.runtime import ResolvedRuntime

# The modules whose code decides the weights of any net: changing it makes another configuration. What this module
# decides is part of an identity by its value, and so are the data.
HASHED_SOURCES = (
    "common/constants.py",
    "common/image_spec.py",
    "models/factory.py",
    "models/net.py",
    "train_step/*.py",
    "training/early_stopping.py",
    "training/schedule.py",
    "training/split.py",
    "training/trainer.py",
)
# And those of one kind of net, by `_kind`.
NET_SOURCES = {
    "base-cnn": ("models/base_cnn.py",),
    "resnet20": ("models/resnet20.py",),
    "torchvision": ("models/torchvision_net.py", "models/wrapped_net.py"),
    "custom": ("models/custom_net.py", "models/wrapped_net.py"),
}


def config_hash(config: TrainingConfig, dataset_sha256: str) -> str:
    """Hash what was requested: configuration, data and code. Finished work is found again by it.

    `threads` and what `auto` resolved to are not part of it: they decide only the last bits, as the
    fingerprint does.
    """
    return _sha256(
        {**_requested(config), "epochs": config.epochs, "data": dataset_sha256, "code": hash_sources(config)}
    )


def fingerprint(
    config: TrainingConfig, dataset_sha256: str, runtime: ResolvedRuntime, spec: ImageSpec = STUDY
) -> str:
    """Hash all that decides the weights to the last bit: a state is resumed only under an equal one.

    The epochs are part of it only where each batch's rate depends on them. spec: of the training images, for which
    there are kernels or not.
    """
    import torch

    from hw2.train_step.factory import backend_name, fits_kernels

    machine: dict[str, Any] = {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "step": backend_name(runtime.device, config.by_autograd or not fits_kernels(spec)),
    }
    if net_source.is_torchvision(config.model):
        machine["torchvision"] = version("torchvision")
    if runtime.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    used = {**dataclasses.asdict(runtime), **machine, "data": dataset_sha256, "code": hash_sources(config)}
    epochs = {"epochs": config.epochs} if config.counts_epochs else {}
    return _sha256({**_requested(config), **epochs, "used": used})


@cache
def code_hash(kind: str = net_source.BASE) -> str:
    """Hash the code that decides the weights of a kind of net, of HASHED_SOURCES and NET_SOURCES (SHA-256)."""
    package = Path(__file__).parent.parent
    patterns = (*HASHED_SOURCES, *NET_SOURCES[kind])
    return syntax_sha256(
        path.read_text(encoding="utf-8") for pattern in patterns for path in package.glob(pattern)
    )


def syntax_sha256(sources: Iterable[str]) -> str:
    """Hash what the texts of modules compute (SHA-256), in any order.

    Neither their files' names count nor comments, docstrings, imports and the words of errors: a sentence or a move
    changes no weight.
    """
    trees = sorted(repr(_computed(ast.parse(source))) for source in sources)
    return hashlib.sha256("\n".join(trees).encode()).hexdigest()


def _computed(node: Any) -> Any:
    """Reduce a syntax tree to what it computes: nested tuples that are the same in every version of Python.

    `ast.dump` isn't: some versions show empty fields, and new ones are added.
    """
    if isinstance(node, list):
        return tuple(_computed(child) for child in node if not _is_silent(child))
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


def hash_sources(config: TrainingConfig) -> str:
    """Hash all source that decides this configuration's weights (SHA-256), a custom net's included."""
    code = code_hash(_kind(config.model))
    if not config.model_source:
        return code
    return hashlib.sha256(f"{code}\n{config.model_source}".encode()).hexdigest()


def _kind(model: str) -> str:
    if net_source.is_torchvision(model):
        return "torchvision"
    return "custom" if net_source.is_custom(model) else model


def _requested(config: TrainingConfig) -> dict[str, Any]:
    """The configuration without epochs and threads; a custom net by its class.

    Its source is part of the code, and its file's place changes nothing. The size that images are made into is part of
    the data.
    """
    left_out = ("epochs", "threads", "model_source", "image_size")
    later = without_later_defaults(dataclasses.asdict(config))
    requested = {k: v for k, v in later.items() if k not in left_out}
    return requested | {"model": net_source.class_name(config.model)}


def _sha256(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
