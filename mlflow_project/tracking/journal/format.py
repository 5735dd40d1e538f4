"""How one run lies on disk, and how it is read back: whatever the bytes, the right entities or a named damage.

    journal.jsonl   one entity a line: {"sha256":"<of the entry's bytes>","entry":{"n":..,"kind":..,"data":..}}
    header.json     the first line again, because nothing can be delivered without it
    files/<sha256>/ the files that entities need, until they are uploaded
    cursor.json     what has been uploaded
    store.json      the store's ID, and its address if it was moved
    lock            held by the process that owns the run
    sending.lock    held by the thread or process that uploads it

`n` counts from 0, which is the header. A line ends with a newline; bytes after the last newline were never
completely written and count for nothing.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
    "call": entities.Call,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_PATHS = {"artifact": "file", "image": "file", "model": "directory", "call": "file"}
# What an earlier version didn't write is left out where it has its default, so that version reads the line.
_ADDED: dict[str, dict[str, str | None]] = {
    "journal": {
        "experiment_id": None, "origin": "run", "provisional_id": None, "adds_to": None, "experiment_location": None,
    },
    "metric": {"model_id": None, "dataset_name": None, "dataset_digest": None},
    "artifact": {"model_id": None},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is needed to upload a journal from any place. `run_id` is None while the run is provisional."""

    key: str
    tracking_uri: str
    experiment: str
    run_name: str
    run_id: str | None
    start_time_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    artifact_root: str | None = None
    host: str = ""
    experiment_tags: Mapping[str, str] = field(default_factory=dict)
    """What the experiment gets where it has no such tag; EXPERIMENT_PLACE in a value becomes its id."""
    experiment_id: str | None = None
    """Of an experiment that was named by its ID."""
    origin: str = "run"
    """What writes the journal: `run` (this project's own), or by way of MLflow's interface `program` (a run),
    `addition` (to a run that another process has begun) or `registry` (what belongs to no run)."""
    provisional_id: str | None = None
    """The ID by which a program knows the run while MLflow hasn't given one."""
    adds_to: str | None = None
    """Of an addition: the run's ID, which may be provisional."""
    experiment_location: str | None = None
    """Where the artifacts of an experiment go that this journal's upload creates."""

    @property
    def is_program(self) -> bool:
        """Return whether the journal was written by way of MLflow's interface; its files have a lane of their own."""
        return self.origin != "run"

    @property
    def owns_run(self) -> bool:
        """Return whether the run began with this journal."""
        return self.origin in ("run", "program")


@dataclass(frozen=True)
class Entry:
    """One entity, where its line starts, and where the next one does (bytes)."""

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


def encode_line(n: int, value: Entity | Header, place: str | None = None) -> bytes:
    """Return the line of one entity.

    Args:
        n: Its number in the journal.
        value: The entity, or the header.
        place: Where its file lies, relative to `files/`.

    Raises:
        JournalError: It is too long for a line.
    """
    data = dict(vars(value)) if isinstance(value, entities.Metric | entities.Tag) else asdict(value)
    kind = "journal" if isinstance(value, Header) else _NAMES[type(value)]
    for name, default in _ADDED.get(kind, {}).items():
        if data[name] == default:
            del data[name]
    if kind in _PATHS:
        data[_PATHS[kind]] = place
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
    """Return the number and the entity of one line.

    Raises:
        ValueError: The line is damaged, and how.
    """
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
        if kind in _PATHS and not (kind == "call" and data["file"] is None):
            data[_PATHS[kind]] = _below(files, data[_PATHS[kind]])
        if kind == "model":
            data["aliases"] = tuple(data["aliases"])
        value: Entity = _KINDS[kind](**data)
        return n, value
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"a line of another version of this program ({type(error).__name__})") from error


def read_entries(folder: Path, position: int = 0) -> Iterator[Entry | CorruptSpan]:
    """Read entries from byte `position` on, each number once, and the corrupt spans between them.

    Only one line is in memory at a time. An entity whose number was already read is skipped; a gap in the numbers
    is a corrupt span of no bytes.

    Raises:
        JournalError: There is no journal.
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


def read_artifacts(folder: Path, position: int, end: int) -> Iterator[Entry]:
    """Read the artifacts between two places, without decoding what lies between them."""
    try:
        stream = (folder / JOURNAL).open("rb")
    except OSError:
        return
    with stream:
        stream.seek(position)
        while position < end:
            line, after = _next_line(stream, position)
            if after == position:
                return
            if line is not None and b'"kind":"artifact"' in line:
                with suppress(ValueError):
                    n, value = decode_line(line, folder / FILES)
                    if isinstance(value, entities.Artifact):
                        yield Entry(n, value, position, after)
            position = after


def status_after(entity: Entity | Header, status: str | None) -> str | None:
    """Return how a run has ended once `entity` follows on `status`; None while it goes on."""
    if isinstance(entity, entities.RunEnded):
        return entity.status
    return None if isinstance(entity, entities.RunResumed) else status


def read_header(folder: Path) -> Header:
    """Read the header, from the journal or from its copy, with the address that the store was moved to.

    Raises:
        JournalError: Neither has it.
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
    """How far a journal is uploaded. Losing it costs a second upload, which changes nothing."""

    position: int = 0
    n: int = -1
    delivered: int = 0
    run_id: str | None = None
    experiment_id: str | None = None
    ended: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    """The completed steps of the entity at `position`, and the ids that came of them."""
    uploaded: dict[str, str] = field(default_factory=dict)
    """Artifact paths, and the SHA-256 of what was uploaded there."""
    models: dict[str, str] = field(default_factory=dict)
    """Names of models and the ids of their logged models."""
    versions: dict[str, str] = field(default_factory=dict)
    """Names of models and `registered name/version`."""
    refused: list[str] = field(default_factory=list)
    """What MLflow will never take, a line each."""
    notes: list[str] = field(default_factory=list)
    """What MLflow can't keep as it is, and what was done instead, a line each."""
    files_position: int = 0
    """Of a program's journal: up to where its files are uploaded; `position` counts for all else then."""
    doubtful: bool = False
    """Whether a request failed that creates the run: it may have been carried out all the same."""

    def upto(self, header: Header) -> int:
        """Return up to where everything is uploaded."""
        return min(self.position, self.files_position) if header.is_program else self.position

    @classmethod
    def load(cls, folder: Path) -> "Cursor":
        try:
            content = json.loads((folder / CURSOR).read_bytes())
            cursor = cls(**content)
            size = (folder / JOURNAL).stat().st_size
            if not (isinstance(cursor.position, int) and 0 <= cursor.position <= size):
                return cls()
            # A power loss may have cut off what was delivered, and other lines may have come since.
            places = (cursor.position, cursor.files_position)
            return cursor if all(_is_line_start(folder, place) for place in places) else cls()
        except (OSError, ValueError, TypeError, RecursionError):
            return cls()

    def save(self, folder: Path) -> None:
        content = asdict(self)
        for name, default in (("files_position", 0), ("doubtful", False)):
            if content[name] == default:
                del content[name]  # an earlier version reads the file then
        fsio.replace(folder / CURSOR, json.dumps(content).encode())


def _is_line_start(folder: Path, position: int) -> bool:
    if position == 0:
        return True
    with (folder / JOURNAL).open("rb") as stream:
        stream.seek(position - 1)
        return stream.read(1) == b"\n"


def _below(files: Path, place: Any) -> Path:
    parts = str(place).split("/")
    if place is None or not all(part not in ("", ".", "..") for part in parts):
        raise ValueError("a file outside the journal")
    return files.joinpath(*parts)


def _next_line(stream: Any, position: int) -> tuple[bytes | None, int]:
    """Read the next complete line and its end: (None, end) if it is too long, (None, position) for no more."""
    line: bytes = stream.readline(MAX_LINE)
    if line.endswith(b"\n"):
        return line, position + len(line)
    end = position + len(line)
    while line and not line.endswith(b"\n"):
        line = stream.readline(1 << 16)
        end += len(line)
    return None, end if line else position
