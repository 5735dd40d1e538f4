"""A copy of the whole service, made while people write to it, and restored only where nothing is overwritten.

    store.db | store.dump   the database as of one moment (SQLite's online backup, or pg_dump's archive)
    artifacts/              the artifact folders, copied after that moment
    manifest.json           SHA-256 and size of every file, written last: without it a backup isn't complete

The order is what makes it consistent: a file is uploaded before the row that speaks of it is written, so each
file of the earlier database is in the later copy. What was written in between is extra and does no harm.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from mlflow_project.common.errors import BackupError
from mlflow_project.common.store_uri import sqlite_path
from mlflow_project.server import database
from mlflow_project.server.artifact_roots import FOLDERS, Roots, find_roots
from mlflow_project.tracking.journal.spool import file_sha256

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
    """The absolute path of the artifacts; with several folders, of those that the server writes."""
    runs: int
    versions: int
    files: dict[str, list[Any]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Locations of models, versions and completed runs whose files are in none of the folders."""
    more_roots: dict[str, str] = field(default_factory=dict)
    """Other folders of artifacts, each with its place below `artifacts/`."""

    @property
    def size(self) -> int:
        """Return the size of all files in bytes."""
        return sum(int(size) for _, size in self.files.values())


def backup(
    store_uri: str,
    artifacts: Sequence[Path],
    target: Path,
    on_file: Callable[[str], None] | None = None,
) -> Manifest:
    """Copy store and artifacts into `target`, a folder that isn't there yet or is empty.

    artifacts: folders such as the one that the server writes to. Without any, `mlruns` and `mlartifacts` beside a
    SQLite store, or here. Others that the store names by their paths are found in it.
    """
    target = target.absolute()
    for folder in artifacts:
        if not folder.is_dir():
            raise BackupError(
                f"there is no artifact folder {folder.absolute()}; name the one that the server writes to"
            )
        _require_outside(target, folder.absolute())
    _require_empty(target, "a backup")
    store = sqlite_path(store_uri)
    beside = Path.cwd() if store is None else store.absolute().parent
    try:
        with _removed_after_failure(target):
            return _backup(store_uri, artifacts or [beside / name for name in FOLDERS], target, on_file)
    except OSError as error:
        raise BackupError(
            f"no backup could be made in {target}: {error}; free disk space and do it again"
        ) from error


def _require_outside(target: Path, root: Path) -> None:
    if target.is_relative_to(root):
        raise BackupError(f"{target} lies in the artifact folder {root}; choose a place outside it")


@contextmanager
def _removed_after_failure(folder: Path) -> Iterator[None]:
    """Create the folder; remove it if the work fails, since it would stand in the way of the next attempt."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for path in made:
            with suppress(OSError):  # somebody else's files have come into it
                path.rmdir()
        raise


def _backup(
    store_uri: str, artifacts: Sequence[Path], target: Path, on_file: Callable[[str], None] | None
) -> Manifest:
    copy = database.copy(store_uri, target)
    files: dict[str, list[Any]] = {copy.file.name: [file_sha256(copy.file), copy.file.stat().st_size]}
    roots = find_roots(artifacts, copy.locations)
    for root in roots.folders:
        _require_outside(target, root)
    for root, prefix in roots.folders.items():
        for path in _walk(root):
            relative = (prefix / path.relative_to(root)).as_posix()
            copied = _copy_steady(path, target / ARTIFACTS / relative)
            if copied is not None:
                files[f"{ARTIFACTS}/{relative}"] = copied
            if on_file:
                on_file(relative)
    manifest = Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        mlflow=copy.mlflow_version,
        store=copy.kind,
        artifact_root=next((str(root) for root, prefix in roots.folders.items() if not prefix), ""),
        runs=copy.runs,
        versions=copy.versions,
        files=files,
        missing=_missing(copy, roots, files),
        more_roots={str(root): prefix for root, prefix in roots.folders.items() if prefix},
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
        if path.stat().st_size != size or file_sha256(path) != digest:
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
        with _removed_after_failure(artifacts):
            for name in manifest.files:
                if name.startswith(f"{ARTIFACTS}/"):
                    target = artifacts / name.removeprefix(f"{ARTIFACTS}/")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / name, target)
            os.sync()
            # Last, so that a restore that breaks off leaves no store that looks whole.
            moved = {root: str(artifacts / prefix) for root, prefix in manifest.more_roots.items()}
            if manifest.artifact_root:
                moved[manifest.artifact_root] = str(artifacts)
            database.restore_database(source, store_uri, manifest.store, moved)
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


def _missing(copy: database.DatabaseDump, roots: Roots, files: dict[str, list[Any]]) -> list[str]:
    """Return the locations of models without an MLmodel, and of what has no file at all, among the copied."""
    folders = {parent.as_posix() for name in files for parent in PurePosixPath(name).parents}
    gone = [x for x in copy.models if f"{ARTIFACTS}/{roots.place(x)}/MLmodel" not in files]
    gone += [x for x in copy.filled if f"{ARTIFACTS}/{roots.place(x)}" not in folders]
    return list(dict.fromkeys(gone))


def _require_empty(folder: Path, what: str) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(f"{folder} isn't empty, and {what} overwrites nothing; choose another folder")


def _write(path: Path, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True)
    sealed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "manifest": text}
    path.write_text(json.dumps(sealed), encoding="utf-8")


def _read(path: Path) -> Manifest:
    try:
        sealed = json.loads(path.read_text(encoding="utf-8"))
        text = sealed["manifest"]
        if hashlib.sha256(text.encode()).hexdigest() != sealed["sha256"]:
            raise BackupError(f"{path} isn't what was written (its SHA-256 differs); use another backup")
        return Manifest(**json.loads(text))
    except FileNotFoundError as error:
        raise BackupError(f"{path.parent} isn't a complete backup: it has no {path.name}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError(f"{path} can't be read as a backup's manifest; use another backup") from error
