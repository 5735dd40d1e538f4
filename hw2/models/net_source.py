"""A custom net: a class in a Python file, named as FILE.py:CLASS.

What is stored and trained is the file's text, so that no later change of the file is taken for the net that was
trained. It must stand alone, because it travels with the trained model. PyTorch isn't imported here.
"""

import ast
import difflib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from hw2.common.errors import ConfigurationError

BASE = "base-cnn"
# What is installed wherever a model is loaded; see the requirements among a model's files.
IMPORTABLE = frozenset({*sys.stdlib_module_names, "torch", "numpy"})


def class_name(spec: str) -> str:
    """CLASS of FILE.py:CLASS; "BaseCNN" for `base-cnn`."""
    return "BaseCNN" if spec == BASE else spec.rpartition(":")[2]


def short_name(spec: str) -> str:
    """The class name as `base-cnn` is written: small-net for SmallNet. Part of run and model names."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name(spec)).lower()


def read(spec: str) -> str:
    """Read the text of the file.

    Raises:
        ConfigurationError: it can't be read, is not Python, imports what doesn't travel, or lacks the class.
    """
    file, _, requested = spec.rpartition(":")
    if not file.endswith(".py"):
        raise ConfigurationError(
            f"model is {spec!r}; it must be {BASE} or FILE.py:CLASS{_spec_suggestion(spec)}"
        )
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
    if short_name(spec) == BASE:
        raise ConfigurationError(
            f"{requested} in {path} would go by the name {BASE}, which is taken; call the class otherwise"
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
    return _suggestion(difflib.get_close_matches(spec.lower(), [BASE]))


def _suggestion(names: Iterable[str]) -> str:
    candidates = " or ".join(list(names)[:3])
    return f"; did you mean {candidates}?" if candidates else ""
