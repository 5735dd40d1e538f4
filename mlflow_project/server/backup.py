"""A copy of the whole service, made while people write to it, and restored only where nothing is overwritten.

    store.db | store.dump   the database as of one moment (SQLite's online backup, or pg_dump's archive)
    artifacts/              the artifact folder, copied after that moment
    manifest.json           SHA-256 and size of every file, written last: without it a backup isn't complete

The order is what makes it consistent: a file is uploaded before the row that speaks of it is written, so each
file of the earlier database is in the later copy. What was written in between is extra and does no harm.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow_project.common.errors import BackupError
from mlflow_project.server import database

MANIFEST = "manifest.json"
ARTIFACTS = "artifacts"
_UPLOADING = ".artifact.uploading."
_TRIES = 5


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup holds. `files` maps paths below the backup to [SHA-256, bytes]."""

    created: str
    mlflow: str
    store: str
    """`sqlite` or `postgresql`."""
    artifact_root: str
    """The absolute path of the artifacts."""
    runs: int
    versions: int
    files: dict[str, list[Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Models that the database calls ready, but whose files were gone already."""

    @property
    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(int(size) for _, size in self.files.values())


def backup(
    store_uri: str, artifacts: Path, target: Path, on_file: Callable[[str], None] | None = None
) -> Manifest:
    """Copy store and artifacts into `target`, a folder that isn't there yet or is empty.

    `artifacts` is the folder that the server writes to, or the `mlruns` beside a SQLite store.
    """
    artifacts, target = artifacts.absolute(), target.absolute()
    if not artifacts.is_dir():
        raise BackupError(f"there is no artifact folder {artifacts}; name the one that the server writes to")
    if target.is_relative_to(artifacts):
        raise BackupError(f"{target} lies in the artifact folder {artifacts}; choose a place outside it")
    _require_empty(target, "a backup")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _emptied_after_failure(target):
            return _backup(store_uri, artifacts, target, on_file)
    except OSError as error:
        raise BackupError(
            f"no backup could be made in {target}: {error}; free disk space and do it again"
        ) from error


@contextmanager
def _emptied_after_failure(folder: Path) -> Iterator[None]:
    """Empty the folder if the work fails, since what is incomplete stands in the way of the next attempt."""
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def _backup(store_uri: str, artifacts: Path, target: Path, on_file: Callable[[str], None] | None) -> Manifest:
    copy = database.copy(store_uri, target)
    files: dict[str, list[Any]] = {copy.file.name: [_sha256(copy.file), copy.file.stat().st_size]}
    for path in _walk(artifacts):
        relative = path.relative_to(artifacts).as_posix()
        copied = _copy_steady(path, target / ARTIFACTS / relative)
        if copied is not None:
            files[f"{ARTIFACTS}/{relative}"] = copied
        if on_file:
            on_file(relative)
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlflow=copy.mlflow_version,
        store=copy.kind,
        artifact_root=str(artifacts),
        runs=copy.runs,
        versions=copy.versions,
        files=files,
        missing=_missing(copy.ready_models, artifacts, files),
    )
    os.sync()  # the manifest vouches for all files, also after a power loss
    _write(target / MANIFEST, manifest)
    return manifest


def verify(source: Path) -> Manifest:
    """Return the manifest of a complete backup.

    Raises:
        BackupError: A file is missing, or doesn't have its SHA-256.
    """
    manifest = _read(source / MANIFEST)
    for name, (digest, size) in manifest.files.items():
        path = source / name
        if not path.is_file():
            raise BackupError(f"the backup {source} lacks {name}; use another one")
        if path.stat().st_size != size or _sha256(path) != digest:
            raise BackupError(f"{path} isn't what was backed up (its SHA-256 differs); use another backup")
    return manifest


def restore(source: Path, store_uri: str, artifacts: Path) -> Manifest:
    """Restore a verified backup into a store and a folder that are empty.

    Where runs named their files by a path on the old machine, they name them by the new one afterwards.
    """
    source, artifacts = source.absolute(), artifacts.absolute()
    manifest = verify(source)
    _require_empty(artifacts, "artifacts")
    database.require_empty(store_uri, manifest.store)
    try:
        artifacts.mkdir(parents=True, exist_ok=True)
        with _emptied_after_failure(artifacts):
            for name in manifest.files:
                if name.startswith(f"{ARTIFACTS}/"):
                    target = artifacts / name.removeprefix(f"{ARTIFACTS}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / name, target)
            os.sync()
            # Last, so that a restore that breaks off leaves no store that looks whole.
            database.restore_database(
                source, store_uri, manifest.store, manifest.artifact_root, str(artifacts)
            )
    except OSError as error:
        raise BackupError(
            f"nothing could be restored into {artifacts}: {error}; free disk space and do it again"
        ) from error
    return manifest


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if not name.startswith(_UPLOADING) and path.is_file():
                yield path


def _copy_steady(path: Path, target: Path) -> list[Any] | None:
    """Copy a file of which no part is older than another; return SHA-256 and size, None if it was removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        try:
            before = path.stat()
            digest = _copy(path, target)
            after = path.stat()
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            return None
        if (before.st_mtime_ns, before.st_size, before.st_ino) == (
            after.st_mtime_ns,
            after.st_size,
            after.st_ino,
        ):
            return [digest, after.st_size]
    raise BackupError(f"{path} is rewritten all the time; try again later")


def _copy(path: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream, target.open("wb") as out:
        while part := stream.read(1 << 20):
            digest.update(part)
            out.write(part)
    return digest.hexdigest()


def _missing(ready_models: list[str], artifacts: Path, files: dict[str, list[Any]]) -> list[str]:
    """List the locations of models without an MLmodel among the copied files."""
    missing = []
    for location in ready_models:
        path = database.relative_to_root(location, artifacts)
        if path is not None and f"{ARTIFACTS}/{path}/MLmodel" not in files:
            missing.append(location)
    return missing


def _require_empty(folder: Path, what: str) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(f"{folder} isn't empty, and {what} overwrites nothing; choose another folder")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(path: Path, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}
    path.write_text(json.dumps(sealed))


def _read(path: Path) -> Manifest:
    try:
        sealed = json.loads(path.read_text())
        text = sealed["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
            raise BackupError(f"{path} isn't what was written (its SHA-256 differs); use another backup")
        return Manifest(**json.loads(text))
    except FileNotFoundError as error:
        raise BackupError(f"{path.parent} isn't a complete backup: it has no {path.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{path} can't be read as a backup's manifest; use another backup") from error
