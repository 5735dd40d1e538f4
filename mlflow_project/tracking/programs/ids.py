"""Provisional IDs: what a program knows a run, model, experiment or version by while no server has given the real one.

They have MLflow's form, and can be told from real ones wherever they stand in a text: delivery replaces them there. Of
one that a program has seen, a small file says which journal makes the real one.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlflow_project.tracking.journal import fsio
from mlflow_project.tracking.journal.state_dir import state_dir

RUN_TAG = "durable.provisional_run_id"
MODEL_TAG = "durable.provisional_model_id"
VERSION_TAG = "durable.provisional_version"
"""Tags with the provisional ID, on what is real."""

_HEX = "d0d0d0d0"
_EXPERIMENT, _VERSION = "909090", "919191"
_ANY = re.compile(
    rf"(?<![0-9A-Za-z])(?:(?:m-)?{_HEX}[0-9a-f]{{24}}|{_EXPERIMENT}[0-9]{{12}}|{_VERSION}[0-9]{{9}})(?![0-9A-Za-z])"
)


def new_run_id() -> str:
    return _HEX + secrets.token_hex(12)


def new_model_id() -> str:
    return "m-" + new_run_id()


def experiment_id_of(uri: str, name: str) -> str:
    """Return the provisional ID of an experiment: the same in every process."""
    digest = hashlib.sha256(f"{uri}\n{name}".encode()).digest()
    return f"{_EXPERIMENT}{int.from_bytes(digest[:8]) % 10**12:012}"


def new_version() -> str:
    return f"{_VERSION}{secrets.randbelow(10**9):09}"


def is_provisional(text: object) -> bool:
    """Return whether a text is a provisional ID."""
    return isinstance(text, str) and _ANY.fullmatch(text) is not None


def find_provisional(value: Any) -> set[str]:
    """Return the provisional IDs anywhere in a JSON value."""
    if isinstance(value, str):
        return {match[0] for match in _ANY.finditer(value)}
    if isinstance(value, Mapping):
        return set().union(*map(find_provisional, value.values())) if value else set()
    if isinstance(value, list | tuple):
        return set().union(*map(find_provisional, value)) if value else set()
    return set()


def replace_ids(value: Any, resolve: Callable[[str], str]) -> Any:
    """Return a JSON value with every provisional ID replaced by what `resolve` returns for it."""
    if isinstance(value, str):
        return _ANY.sub(lambda match: resolve(match[0]), value)
    if isinstance(value, Mapping):
        return {key: replace_ids(item, resolve) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_ids(item, resolve) for item in value]
    return value


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Where the real ID of a provisional one comes from: a journal or, of an experiment, its name."""

    tracking_uri: str
    key: str = ""
    experiment: str = ""
    experiment_location: str | None = None
    experiment_tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, provisional: str) -> "Promise | None":
        """Return what was saved on this machine of a provisional ID, or None."""
        try:
            return cls(**json.loads(_file(provisional).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, provisional: str) -> None:
        """Save it for other processes. Best effort: the server's tags tell, too, once it is delivered."""
        with suppress(OSError):
            file = _file(provisional)
            file.parent.mkdir(parents=True, exist_ok=True)
            fsio.replace(file, json.dumps(asdict(self)).encode())


def _file(provisional: str) -> Path:
    return state_dir() / "ids" / f"{provisional}.json"
