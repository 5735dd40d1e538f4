"""How one run lies on disk, and how it is read back: whatever the bytes, the right values or a named damage.

    journal.jsonl   one value a line: {"sha256":"<of the entry's bytes>","entry":{"n":..,"kind":..,"data":..}}
    header.json     the first line again, because nothing can be delivered without it
    files/<sha256>/ the files that values need, until they are delivered
    cursor.json     what has been delivered
    store.json      what the store is known by, and where it is if it was moved
    lock            held by the process that owns the run
    sending.lock    held by the thread or process that delivers it

`n` counts from 0, which is the header. A line ends with a newline; bytes after the last newline were never
completely written and count for nothing.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.journal import entities, fsio
from mlflow_project.tracking.journal.entities import Entity
from mlflow_project.tracking.journal.store_record import StoreRecord

JOURNAL = "journal.jsonl"
HEADER = "header.json"
CURSOR = "cursor.json"
FILES = "files"
LOCK = "lock"
SENDING_LOCK = "sending.lock"

MAX_LINE = 1 << 20
"""Bytes; what is longer is refused by the writer, so the reader never holds more."""

_START, _MIDDLE, _DIGEST = b'{"sha256":"', b'","entry":', 64
_KINDS: dict[str, type[Any]] = {
    "start": entities.RunResumed,
    "end": entities.RunEnded,
    "parameter": entities.Param,
    "metric": entities.Metric,
    "tag": entities.Tag,
    "artifact": entities.Artifact,
    "image": entities.LoggedImage,
    "dataset": entities.DatasetInput,
    "model input": entities.ModelInput,
    "model": entities.ModelArtifact,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PATHS = {"artifact": "file", "image": "file", "model": "directory"}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is needed to deliver a journal from any place. `run_id` is None while the run is provisional."""

    key: str
    tracking_uri: str
    experiment: str
    run_name: str
    run_id: str | None
    start_time_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact_root: str | None = None
    host: str = ""
    experiment_description: str = ""
    """What MLflow shows of the experiment where nobody has described it; Markdown."""
    experiment_id: str | None = None
    """Of an experiment that was named by its id."""


@dataclass(frozen=True)
class Entry:
    """One value, where its line starts, and where the next one does (bytes)."""

    n: int
    value: Entity | Header
    position: int
    end: int


@dataclass(frozen=True)
class CorruptSpan:
    """Bytes `position` to `end` that can't be what was written."""

    position: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"journal damaged at byte {self.position:,}: {self.reason}"


def encode_line(n: int, value: Entity | Header, kept: str | None = None) -> bytes:
    """The line of one value; `kept` is the place of its file below `files/`."""
    data = asdict(value)
    if isinstance(value, Header):
        kind = "journal"
        if value.experiment_id is None:
            del data["experiment_id"]  # an earlier version reads the line then
    else:
        kind = _NAMES[type(value)]
        if kind in _PATHS:
            data[_PATHS[kind]] = kept
        if kind == "metric" and not math.isfinite(data["value"]):
            data["value"] = str(data["value"])
    entry = json.dumps({"n": n, "kind": kind, "data": data}, separators=(",", ":"), allow_nan=False).encode()
    line = _START + hashlib.sha256(entry).hexdigest().encode() + _MIDDLE + entry + b"}\n"
    if len(line) > MAX_LINE:
        raise JournalError(
            f"a {kind} of {len(line):,} bytes is too long for the journal, which takes {MAX_LINE:,}; "
            "append it as an artifact"
        )
    return line


def decode_line(line: bytes, files: Path) -> tuple[int, Entity | Header]:
    """Number and value of one line; ValueError says what is wrong with it."""
    after = len(_START) + _DIGEST
    if not (
        line.startswith(_START) and line.endswith(b"}\n") and line[after : after + len(_MIDDLE)] == _MIDDLE
    ):
        raise ValueError("not a line of a journal")
    entry = line[after + len(_MIDDLE) : -2]
    if hashlib.sha256(entry).hexdigest().encode() != line[len(_START) : after]:
        raise ValueError("the line doesn't have its SHA-256")
    try:
        content = json.loads(entry)
        n, kind, data = content["n"], content["kind"], content["data"]
        if not isinstance(n, int) or not isinstance(data, dict):
            raise TypeError("fields of the wrong type")
        if kind == "journal":
            return n, Header(**data)
        if kind in _PATHS:
            data[_PATHS[kind]] = _below(files, data[_PATHS[kind]])
        if kind == "model":
            data["aliases"] = tuple(data["aliases"])
        value: Entity = _KINDS[kind](**data)
        return n, value
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"a line of another version of this program ({type(error).__name__})") from error


def read_spec(folder: Path, position: int = 0) -> Iterator[Entry | CorruptSpan]:
    """Entries from the line that starts at byte `position`, each number once, and damages between them.

    Holds one line at a time. A value whose number was already seen is skipped; a gap in the numbers is a
    damage of no bytes. JournalError if there is no journal.
    """
    files = folder / FILES
    try:
        stream = (folder / JOURNAL).open("rb")
    except OSError as error:
        raise JournalError(f"no journal can be read in {folder}: {error.strerror}") from error
    with stream:
        stream.seek(position)
        last: int | None = None if position else -1
        damaged = False
        while True:
            line, end = _next_line(stream, position)
            if line is None and end == position:
                return
            try:
                if line is None:
                    raise ValueError(f"a line longer than {MAX_LINE:,} bytes")
                n, value = decode_line(line, files)
            except ValueError as error:
                damaged = True
                yield CorruptSpan(position, end, str(error))
                position = end
                continue
            if last is not None and n > last + 1 and not damaged:
                yield CorruptSpan(position, position, f"values {last + 1} to {n - 1} are missing")
            if last is None or n > last:
                last = n
                yield Entry(n, value, position, end)
            damaged = False
            position = end


def read_header(folder: Path) -> Header:
    """The header, from the journal or from its copy, with the place that the store was moved to.

    JournalError if neither has it.
    """
    record = StoreRecord.load(folder)
    for name in (JOURNAL, HEADER):
        try:
            with (folder / name).open("rb") as stream:
                value = decode_line(stream.readline(MAX_LINE), folder / FILES)[1]
        except (OSError, ValueError):
            continue
        if isinstance(value, Header):
            return replace(
                value,
                tracking_uri=record.tracking_uri or value.tracking_uri,
                run_id=None if record.new_runs else value.run_id,
            )
    raise JournalError(
        f"neither {folder / JOURNAL} nor {folder / HEADER} says which run this is; "
        "the other lines can still be read as JSON"
    )


@dataclass(kw_only=True)
class Cursor:
    """How far a journal is delivered. Losing it costs a second delivery, which changes nothing."""

    position: int = 0
    n: int = -1
    delivered: int = 0
    run_id: str | None = None
    experiment_id: str | None = None
    ended: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    """What is done of the value at `position`, and the ids that came of it."""
    uploaded: dict[str, str] = field(default_factory=dict)
    """Artifact paths, and the SHA-256 of what was uploaded there."""
    models: dict[str, str] = field(default_factory=dict)
    """Names of models and the ids of their logged models."""
    versions: dict[str, str] = field(default_factory=dict)
    """Names of models and `registered name/version`."""
    refused: list[str] = field(default_factory=list)
    """What MLflow will never take, a line each."""

    @classmethod
    def load(cls, folder: Path) -> "Cursor":
        try:
            content = json.loads((folder / CURSOR).read_bytes())
            cursor = cls(**content)
            size = (folder / JOURNAL).stat().st_size
            if not (isinstance(cursor.position, int) and 0 <= cursor.position <= size):
                return cls()
            # A power loss may have cut off what was delivered, and other lines may have come since.
            return cursor if _is_line_start(folder, cursor.position) else cls()
        except (OSError, ValueError, TypeError, RecursionError):
            return cls()

    def save(self, folder: Path) -> None:
        fsio.replace(folder / CURSOR, json.dumps(asdict(self)).encode())


def _is_line_start(folder: Path, position: int) -> bool:
    if position == 0:
        return True
    with (folder / JOURNAL).open("rb") as stream:
        stream.seek(position - 1)
        return stream.read(1) == b"\n"


def _below(files: Path, kept: Any) -> Path:
    parts = str(kept).split("/")
    if kept is None or not all(part not in ("", ".", "..") for part in parts):
        raise ValueError("a file outside the journal")
    return files.joinpath(*parts)


def _next_line(stream: Any, position: int) -> tuple[bytes | None, int]:
    """The next complete line and its end. (None, end) if it is too long, (None, position) for no more."""
    line: bytes = stream.readline(MAX_LINE)
    if line.endswith(b"\n"):
        return line, position + len(line)
    end = position + len(line)
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 16)
        end += len(line)
    return None, end if line else position
