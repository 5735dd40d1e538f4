"""The files of entities, copied beside the journal under their content's SHA-256 until they are uploaded."""

import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

from mlflow_project.tracking.journal.entities import Artifact, Call, Entity, LoggedImage, ModelArtifact
from mlflow_project.tracking.journal.format import FILES, Header
from mlflow_project.tracking.journal.fsio import clone, sync_path


class FileSpool:
    """Copies below `files/` of a run's folder: a file as `<sha256>/<name>`, a folder as `<sha256>/`.

    Equal files share a copy, unless copies are removed one by one: then a file is `<sha256>.<n>/<name>`.
    """

    def __init__(self, folder: Path, *, shares_copies: bool = True) -> None:
        self.folder = folder
        self._shares_copies = shares_copies
        self._unsynced: set[Path] = set()

    def add(self, entity: Entity, n: int) -> str | None:
        """Copy the file or folder of entity number `n`, if it has one; return its place relative to `files/`."""
        source = source_of(entity)
        if source is None:
            return None
        temporary = self.folder / f".copy.{os.getpid()}"
        _remove(temporary)
        try:
            # The copy's hash, because the file itself may change meanwhile. It gets its name last, so that a crash
            # leaves no part that looks whole.
            self._copy(source, temporary)
            hash_of = tree_sha256 if isinstance(entity, ModelArtifact) else file_sha256
            digest = hash_of(temporary)
            place = digest if self._shares_copies else f"{digest}.{n}"
            if isinstance(entity, Artifact):
                place += "/" + entity.path.rsplit("/", 1)[-1]
            elif isinstance(entity, LoggedImage):
                place += "/image.png"
            elif isinstance(entity, Call):
                place += "/arguments.json"
            target = self.folder / FILES / place
            # A copy that a power loss has torn has the right name all the same.
            if target.exists() and hash_of(target) == digest:
                return place
            target.parent.mkdir(exist_ok=True)
            if target.is_dir():
                _remove(target)
            temporary.rename(target)
        except shutil.Error as error:
            raise _first_error(error) from error
        finally:
            _remove(temporary)
        self._unsynced.update(target.rglob("*"), (target, target.parent, self.folder / FILES))
        return place

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, copy_function=clone)
        else:
            clone(source, target)

    def sync(self) -> None:
        """Force the copies onto the disk, but for those that were uploaded and removed meanwhile."""
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
    """Return the SHA-256 over the relative paths and contents of all files below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def source_of(entity: Entity | Header) -> Path | None:
    """Return the file or folder that belongs to an entity."""
    if isinstance(entity, Artifact | LoggedImage | Call):
        return entity.file
    return entity.directory if isinstance(entity, ModelArtifact) else None


def is_missing(entity: Entity | Header) -> bool:
    """Return whether an entity's file or folder doesn't exist."""
    source = source_of(entity)
    return source is not None and not source.exists()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
