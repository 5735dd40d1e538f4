"""A net of a person's own: a class in a Python file, named as FILE.py:CLASS.

What is kept and trained is the file's text, so that no later change of the file is taken for the net that was
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
# What is there wherever a model is loaded; see the requirements among a model's files.
IMPORTABLE = frozenset({*sys.stdlib_module_names, "torch", "numpy"})


def class_name(said: str) -> str:
    """CLASS of FILE.py:CLASS; BaseCNN's own for `base-cnn`."""
    return "BaseCNN" if said == BASE else said.rpartition(":")[2]


def short_name(said: str) -> str:
    """The class as `base-cnn` is written: SmallNet is small-net. Part of run names and registered names."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", class_name(said)).lower()


def read(said: str) -> str:
    """The text of the file; `ConfigurationError` unless it is Python, stands alone and has the class."""
    name, _, wanted = said.rpartition(":")
    if not name.endswith(".py"):
        raise ConfigurationError(f"model is {said!r}; it must be {BASE} or FILE.py:CLASS{_hint(said)}")
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8")
        classes, imported = _contents(text)
    except OSError as error:
        near = difflib.get_close_matches(path.name, sorted(each.name for each in path.parent.glob("*.py")))
        raise ConfigurationError(
            f"model is {said!r}, but {path} can't be read ({error.strerror}){_meant(near)}"
        ) from error
    except (SyntaxError, ValueError) as error:  # ValueError: no UTF-8, or a zero byte
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else "no UTF-8 text"
        raise ConfigurationError(f"{path}{line} is not Python: {reason}; mend the file") from error
    if wanted not in classes:
        near = difflib.get_close_matches(wanted, classes) or classes
        raise ConfigurationError(f"{path} has no class {wanted!r}{_meant(f'{path}:{each}' for each in near)}")
    if short_name(said) == BASE:
        raise ConfigurationError(
            f"{wanted} in {path} would go by the name {BASE}, which is taken; call the class otherwise"
        )
    strange = sorted(imported - IMPORTABLE)
    if strange:
        raise ConfigurationError(
            f"{path} imports {', '.join(strange)}, which doesn't travel with the model; it may import torch, numpy "
            "and the standard library: write the rest into the file"
        )
    return text


def _contents(text: str) -> tuple[list[str], set[str]]:
    """Classes at the top, and the first part of each module's name that is imported anywhere."""
    tree = ast.parse(text)
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or "").partition(".")[0])
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)], imported


def _hint(said: str) -> str:
    if said.endswith(".py") and Path(said).is_file():
        try:
            return _meant(f"{said}:{each}" for each in _contents(Path(said).read_text())[0])
        except (OSError, SyntaxError, ValueError):
            return ""
    return _meant(difflib.get_close_matches(said.lower(), [BASE]))


def _meant(names: Iterable[str]) -> str:
    said = " or ".join(list(names)[:3])
    return f"; did you mean {said}?" if said else ""
