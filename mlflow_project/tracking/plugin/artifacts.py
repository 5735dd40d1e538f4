"""MLflow's artifact repository for the files of runs and models that a `durable+` store returned."""

import errno
import os
import posixpath
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.delivery.client import open_repository
from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.hub.lifecycle import find_hub, hub_of
from mlflow_project.tracking.hub.reachability import Unreachable
from mlflow_project.tracking.hub.run_log import RunLog
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Artifact
from mlflow_project.tracking.plugin import models, runs
from mlflow_project.tracking.programs.addresses import Place, parse
from mlflow_project.tracking.programs.passing import delivering


class DurableArtifactRepository(ArtifactRepository):
    """Files are copied into the journal when they are logged, and read from the server or from there."""

    def __init__(
        self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        super().__init__(artifact_uri)
        self._named = tracking_uri
        self._opened: Any = None

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        verify_artifact_path(artifact_path)
        file = Path(local_file)
        if not file.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(local_file))
        place = self._place(artifact_path)
        log, model_id = self._log(place)
        _append(log, Artifact(posixpath.join(place.path, file.name), file.resolve(), model_id))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        verify_artifact_path(artifact_path)
        place = self._place(artifact_path)
        log, model_id = self._log(place)
        root = Path(local_dir).resolve()
        files = sorted(file for file in root.rglob("*") if file.is_file())
        # In one piece, so that a folder arrives as it was.
        _append(
            log,
            *(
                Artifact(posixpath.join(place.path, file.relative_to(root).as_posix()), file, model_id)
                for file in files
            ),
        )

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        place = self._place(path)
        found: dict[str, FileInfo] = {}
        self._deliver(place)
        # Before the server is asked: what is uploaded meanwhile is in its answer.
        own = list(self._logged(place))
        if any(artifact.path == place.path for artifact in own):
            return []  # a file
        try:
            real = self._real(place)
            for info in self._hub(place).ask(lambda: real.list_artifacts(place.path or None)):
                name = posixpath.basename(info.path)
                found[name] = FileInfo(posixpath.join(path or "", name), info.is_dir, info.file_size)
        except Unreachable:
            # What is uploaded counts, too: a program that doesn't see its table would begin a new one.
            own = list(self._logged(place, uploaded=True))
            if any(artifact.path == place.path for artifact in own):
                return []
            log = self._find_log(place)
            if log is None or log.header.origin == "addition":
                raise  # others have logged to it as well
        for artifact in own:
            below = _below(artifact.path, place.path)
            if below is None:
                continue
            name, _, rest = below.partition("/")
            size = None if rest else _size(artifact.file)
            if size is not None or name not in found:
                found[name] = FileInfo(posixpath.join(path or "", name), bool(rest), size)
        return [found[name] for name in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        place = self._place(remote_file_path)
        if self._copy_own(place, local_path):
            return
        try:
            real = self._real(place)
            self._hub(place).ask(lambda: real._download_file(place.path, local_path))
        except Unreachable:
            if not self._copy_own(place, local_path, uploaded=True):
                raise

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        place = self._place(artifact_path)
        self._deliver(place)
        real = self._real(place)
        self._hub(place).ask(lambda: real.delete_artifacts(place.path or None))

    def _place(self, path: str | None) -> Place:
        """Return what a path below this repository's address names."""
        uri = posixpath.join(self.artifact_uri.rstrip("/"), path) if path else self.artifact_uri
        place = parse(uri)
        if place is None:
            raise MlflowException(f"{uri} is no address of a run's or a model's files")
        return place

    def _hub(self, place: Place) -> Hub:
        hub = find_hub(place.store)
        if hub is not None:
            return hub
        import mlflow

        for uri in (self._named, mlflow.get_tracking_uri()):
            if uri and uri.startswith("durable+") and find_hub(place.store) is None:
                hub_of(uri)
        hub = find_hub(place.store)
        if hub is None:
            raise MlflowException(
                f"{self.artifact_uri} is in another store; set MLFLOW_TRACKING_URI to the one in which it was logged"
            )
        return hub

    def _log(self, place: Place) -> tuple[RunLog, str | None]:
        """Return the journal to which files are logged, and the model that they belong to."""
        hub = self._hub(place)
        if place.kind == "runs":
            return runs.log_of(hub, place.owner), None
        if place.kind == "at":
            raise MlflowException("files of a registered version can't be changed; log another model")
        owned = hub.find_model(place.owner, to_write=True)
        return (owned[0], owned[1]) if owned is not None else (hub.registry_log, place.owner)

    def _find_log(self, place: Place) -> RunLog | None:
        hub = self._hub(place)
        if place.kind == "runs":
            return hub.find_log(place.owner)
        owned = hub.find_model(place.owner)
        return owned[0] if owned is not None else None

    def _deliver(self, place: Place) -> bool:
        log = self._find_log(place)
        return log is None or self._hub(place).deliver(log, files=True)

    def _model_id(self, place: Place) -> str | None:
        """Return by which ID the journal knows the model whose files a place names, None for a run's."""
        if place.kind != "models":
            return None
        owned = self._hub(place).find_model(place.owner)
        return owned[1] if owned is not None else place.owner

    def _logged(self, place: Place, *, uploaded: bool = False) -> Iterator[Artifact]:
        """Yield the files that this process has logged to a run or model and that wait, or all of them."""
        log = self._find_log(place)
        if log is None or (log.is_delivered and not uploaded):
            return
        model_id = self._model_id(place)
        start = 0 if uploaded else log.files_position
        for entry in format.read_artifacts(log.folder, start, log.size):
            artifact = entry.value
            if isinstance(artifact, Artifact) and artifact.model_id == model_id:
                yield artifact

    def _copy_own(self, place: Place, target: str, *, uploaded: bool = False) -> bool:
        """Copy what this process has logged to a place last; return False where that isn't here (any more)."""
        own = [each.file for each in self._logged(place, uploaded=uploaded) if each.path == place.path]
        try:
            return bool(own) and bool(shutil.copyfile(own[-1], target))
        except FileNotFoundError:
            return False

    def _real(self, place: Place) -> Any:
        """Return the server's own repository of a run's or a model's files."""
        if self._opened is not None:
            return self._opened
        hub = self._hub(place)

        uri = place.owner
        if place.kind != "at":
            if hub.real_id(place.owner) is None and self._find_log(place) is not None:
                raise Unreachable(f"{place.owner} isn't on the server yet")
            of_run = place.kind == "runs"
            real = (runs.real_run_id if of_run else models.real_model_id)(hub, place.owner)
            uri = hub.ask(
                lambda: str(
                    hub.tracking.get_run(real).info.artifact_uri
                    if of_run
                    else hub.tracking.get_logged_model(real).artifact_location
                )
            )
        with delivering():
            self._opened = open_repository(uri, hub.uri)
            return self._opened


def _append(log: RunLog, *artifacts: Artifact) -> None:
    try:
        log.append(*artifacts)
    except JournalError as error:  # a file vanished
        raise MlflowException(str(error)) from error


def _size(file: Path) -> int | None:
    """Return a file's size, None where it is uploaded and gone."""
    try:
        return file.stat().st_size
    except OSError:
        return None


def _below(path: str, folder: str) -> str | None:
    """Return a path relative to a folder, None for one that isn't below it."""
    if not folder:
        return path
    return path[len(folder) + 1 :] if path.startswith(folder + "/") else None
