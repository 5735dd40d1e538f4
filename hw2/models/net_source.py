"""What `--model` names: a net of this package, one of torchvision's, or a custom net, a class in a Python file.

Of a custom net, FILE.py:CLASS, the file's text is stored and trained, so that no later change of the file is taken for
the net that was trained. It must stand alone, because it travels with the trained model. PyTorch isn't imported here.
"""

import ast
import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from hw2.common.errors import ConfigurationError

BASE = "base-cnn"
RESNET20 = "resnet20"
TORCHVISION = "torchvision:"
"""How one of torchvision's nets is named: torchvision:resnet18."""
FORMS = f"{BASE}, {RESNET20}, {TORCHVISION}NAME or FILE.py:CLASS"
_CLASSES = {BASE: "BaseCNN", RESNET20: "ResNet20"}
# What is installed wherever a model is loaded; see the requirements among a model's files.
IMPORTABLE = frozenset({*sys.stdlib_module_names, "torch", "numpy"})


def is_custom(spec: str) -> bool:
    """Whether this names a custom net; all that is no known name is taken for one."""
    return spec not in _CLASSES and not is_torchvision(spec)


def is_torchvision(spec: str) -> bool:
    """Whether this names one of torchvision's nets, known there or not."""
    return spec.startswith(TORCHVISION)


def class_name(spec: str) -> str:
    """CLASS of FILE.py:CLASS; "BaseCNN" for `base-cnn`, and torchvision:NAME as it is."""
    if is_torchvision(spec):
        return spec
    return _CLASSES.get(spec) or spec.rpartition(":")[2]


def short_name(spec: str) -> str:
    """The net's name in run and model names; of a custom net its file and class, small-net for SmallNet.

    A file that is named like its class, small_net.py, isn't repeated: `small-net`, but `nets.small-net` for nets.py.
    """
    if not is_custom(spec):
        return spec.replace(":", "-")
    name = _dashed(class_name(spec))
    stem = re.sub(r"[^\w.-]+", "-", Path(spec.rpartition(":")[0]).stem)
    return name if stem.replace("_", "-") == name else f"{stem}.{name}"


def _dashed(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()


def read(spec: str) -> str:
    """Read the text of the file.

    Raises:
        ConfigurationError: it can't be read, is not Python, imports what doesn't travel, or lacks the class.
    """
    file, _, requested = spec.rpartition(":")
    if not file.endswith(".py"):
        raise ConfigurationError(f"model is {spec!r}; it must be {FORMS}{_spec_suggestion(spec)}")
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
        classes, imported = _contents(text)
    except OSError as error:
        near = difflib.get_close_matches(path.name, sorted(file.name for file in path.parent.glob("*.py")))
        raise ConfigurationError(
            f"model is {spec!r}, but {path} can't be read ({error.strerror}){_suggestion(near)}"
        ) from error
    except (SyntaxError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else "no UTF-8 text"
        raise ConfigurationError(f"{path}{line} is not Python: {reason}; fix the file") from error
    if requested not in classes:
        near = difflib.get_close_matches(requested, classes) or classes
        raise ConfigurationError(
            f"{path} has no class {requested!r}{_suggestion(f'{path}:{name}' for name in near)}"
        )
    if _dashed(requested) in _CLASSES:
        raise ConfigurationError(
            f"{requested} in {path} would go by the name {_dashed(requested)}, which is taken; call the class otherwise"
        )
    strange = sorted(imported - IMPORTABLE)
    if strange:
        raise ConfigurationError(
            f"{path} imports {', '.join(strange)}, which doesn't travel with the model; it may import torch, numpy "
            "and the standard library: write the rest into the file"
        )
    return text


def _contents(text: str) -> tuple[list[str], set[str]]:
    """Names of the classes at the top, and of the top-level packages that are imported anywhere."""
    tree = ast.parse(text)
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").partition(".")[0])
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)], imported


def _spec_suggestion(spec: str) -> str:
    if spec.endswith(".py") and Path(spec).is_file():
        try:
            return _suggestion(
                f"{spec}:{name}" for name in _contents(Path(spec).read_text(encoding="utf-8"))[0]
            )
        except (OSError, SyntaxError, ValueError):
            return ""
    return _suggestion(difflib.get_close_matches(spec.lower(), [*_CLASSES, f"{TORCHVISION}NAME"]))


def _suggestion(names: Iterable[str]) -> str:
    candidates = " or ".join(list(names)[:3])
    return f"; did you mean {candidates}?" if candidates else ""
