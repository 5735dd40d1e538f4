"""The identities of a configuration: what was requested, and what decides the last bit."""

import ast
import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from hw2.models import net_source
from hw2.training.config import TrainingConfig
from hw2.training.runtime import ResolvedRuntime

# The modules whose code decides the weights: changing it makes another configuration. What this module decides is part
# of an identity by its value, and so are the data.
HASHED_SOURCES = (
    "common/constants.py",
    "models/base_cnn.py",
    "models/custom_net.py",
    "models/factory.py",
    "models/net.py",
    "train_step/*.py",
    "training/split.py",
    "training/trainer.py",
)


def config_hash(config: TrainingConfig, dataset_sha256: str) -> str:
    """Identity of what was asked: configuration, data and code. Finished work is found again by it.

    `threads` and what `auto` became are not part of it: they decide the last bits only, and are in the fingerprint.
    """
    return _sha256(
        {**_asked(config), "epochs": config.epochs, "data": dataset_sha256, "code": hash_sources(config)}
    )


def fingerprint(config: TrainingConfig, dataset_sha256: str, runtime: ResolvedRuntime) -> str:
    """Identity of the weights' last bit, epochs apart: a state may be continued only under an equal fingerprint."""
    import torch

    from hw2.train_step.factory import backend_name

    machine: dict[str, Any] = {
        "torch": torch.__version__,
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "step": backend_name(runtime.device, config.own_net is not None),
    }
    if runtime.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    used = {**dataclasses.asdict(runtime), **machine, "data": dataset_sha256, "code": hash_sources(config)}
    return _sha256({**_asked(config), "used": used})


@cache
def code_hash() -> str:
    """SHA-256 over the code of the modules that decide the weights."""
    package = Path(__file__).parent.parent
    return syntax_sha256(
        path.read_text(encoding="utf-8") for pattern in HASHED_SOURCES for path in package.glob(pattern)
    )


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


def hash_sources(config: TrainingConfig) -> str:
    """SHA-256 over all source that decides this configuration's weights, a net of one's own included."""
    if not config.model_source:
        return code_hash()
    return hashlib.sha256(f"{code_hash()}\n{config.model_source}".encode()).hexdigest()


def _asked(config: TrainingConfig) -> dict[str, Any]:
    """The configuration without epochs and threads, under which states can be shared; a net by its class.

    Its source is part of the code, and where its file lies changes nothing.
    """
    left_out = ("epochs", "threads", "model_source")
    asked = {k: v for k, v in dataclasses.asdict(config).items() if k not in left_out}
    return asked | {"model": net_source.class_name(config.model)}


def _sha256(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
