"""A training's state on disk: complete or absent, and verified when it is read."""

import dataclasses
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from hw2.common.errors import CheckpointError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.training.trainer import EpochResult, TrainingState

_MAGIC = b"hw2 state 1\n"


def save(path: Path, state: TrainingState) -> None:
    """Write `state` to `path`; a whole state that was there becomes `previous_path(path)`.

    At any moment, also after a power loss, at least one of the two is complete.

    Raises:
        OSError: the disk refuses.
    """
    buffer = io.BytesIO()
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    plain["history"] = [dataclasses.asdict(result) for result in state.history]
    plain["own_net"] = plain.pop("custom_net")  # the key since the first version
    if plain.pop("images") != STUDY:
        plain["images"] = state.images.to_json()
    if plain["best_weights"] is None:  # as in what was written before there were any
        del plain["best_weights"]
    torch.save(plain, buffer)
    payload = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".writing")
    try:
        with temporary.open("wb") as file:
            file.write(_MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, others need the space
        raise
    if path.exists() and read_problem(path) is None:  # else the one before is the only good one
        path.replace(previous_path(path))
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def previous_path(path: Path) -> Path:
    """The path of the state before the one at `path`."""
    return path.with_suffix(".previous" + path.suffix)


def load(path: Path) -> TrainingState:
    """Read the newest whole state, at `path` or `previous_path(path)`.

    Raises:
        CheckpointError: there is none.
    """
    problems = []
    for candidate in (path, previous_path(path)):
        try:
            return _read(candidate)
        except (CheckpointError, OSError) as error:
            problems.append(str(error))
    raise CheckpointError(f"no saved state can be read: {'; '.join(problems)}; start a new run")


def read_problem(path: Path) -> str | None:
    """Describe what is wrong with the newest state, in one line; None where it is whole or was never saved."""
    try:
        _payload(path)
    except FileNotFoundError:
        return None
    except (CheckpointError, OSError) as error:
        return str(error)
    return None


def _read(path: Path) -> TrainingState:
    plain: dict[str, Any] = torch.load(io.BytesIO(_payload(path)), weights_only=True)
    plain["history"] = [EpochResult(**row) for row in plain["history"]]
    plain["custom_net"] = plain.pop("own_net", None)
    images = plain.pop("images", None)  # a state without it is of images as the study's
    return TrainingState(**plain, images=ImageSpec.from_json(images) if images else STUDY)


def _payload(path: Path) -> bytes:
    content = path.read_bytes()
    header = len(_MAGIC) + 65
    payload = content[header:]
    if content[: len(_MAGIC)] != _MAGIC or content[len(_MAGIC) : header] != (
        hashlib.sha256(payload).hexdigest().encode() + b"\n"
    ):
        raise CheckpointError(
            f"{path} is damaged ({len(content)} bytes, its SHA-256 is not the recorded one)"
        )
    return payload
