"""The files that values bring with them, kept beside the journal under their content's SHA-256."""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

from mlflow_project.tracking.journal.entities import Artifact, Entity, LoggedImage, ModelArtifact
from mlflow_project.tracking.journal.format import FILES, Header
from mlflow_project.tracking.journal.fsio import sync_path


class FileSpool:
    """Copies below `files/` of a run's folder: a file as `<sha256>/<name>`, a folder as `<sha256>/`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unsynced: set[Path] = set()

    def keep(self, value: Entity) -> str | None:
        """Copy a value's file to where its content's SHA-256 names it; that place, relative to `files/`."""
        if isinstance(value, Artifact):
            return self._keep_file(value.file, value.path.rsplit("/", 1)[-1])
        if isinstance(value, LoggedImage):
            return self._keep_file(value.file, "image.png")
        if isinstance(value, ModelArtifact):
            digest = tree_sha256(value.directory)
            target = self.folder / FILES / digest
            # One that a power loss has torn has the right name all the same.
            if not target.exists() or tree_sha256(target) != digest:
                self._copy(value.directory, target)
            return digest
        return None

    def _keep_file(self, source: Path, name: str) -> str:
        digest = file_sha256(source)
        target = self.folder / FILES / digest / name
        if not target.exists() or file_sha256(target) != digest:
            target.parent.mkdir(exist_ok=True)
            self._copy(source, target)
        return f"{digest}/{name}"

    def _copy(self, source: Path, target: Path) -> None:
        """Under its name only when complete, so that a crash leaves no part that looks whole."""
        temporary = self.folder / f".copy.{os.getpid()}"
        _remove(temporary)
        try:
            if source.is_dir():
                shutil.copytree(source, temporary)
            else:
                shutil.copyfile(source, temporary)
            if target.is_dir():
                _remove(target)
            temporary.rename(target)
        except shutil.Error as error:
            raise _first_error(error) from error
        finally:
            _remove(temporary)
        self._unsynced.update(target.rglob("*"), (target, target.parent, self.folder / FILES))

    def sync(self) -> None:
        """Force the copies onto the disk; those that were delivered and removed meanwhile need it no more."""
        for path in sorted(self._unsynced):
            if path.exists():
                sync_path(path)
        self._unsynced.clear()


def _first_error(error: shutil.Error) -> OSError:
    """Return the first of the many errors of a folder's copy, which says them as a list of tuples."""
    (_, where, reason), *_ = error.args[0]
    known = re.match(r"\[Errno (\d+)\]", str(reason))
    number = int(known[1]) if known else errno.EIO
    return OSError(number, os.strerror(number), str(where))


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def tree_sha256(folder: Path) -> str:
    """Over the relative paths and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def source_of(value: Entity | Header) -> Path | None:
    """The file or folder that a value brings with it."""
    if isinstance(value, Artifact | LoggedImage):
        return value.file
    return value.directory if isinstance(value, ModelArtifact) else None


def is_missing(value: Entity | Header) -> bool:
    source = source_of(value)
    return source is not None and not source.exists()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
