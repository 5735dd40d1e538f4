"""From the journal on disk into MLflow, in order and in batches, so that doing it twice changes nothing.

What has arrived is remembered in the cursor after every step; whatever is lost of that is delivered again:
points keep their times, artifacts are overwritten with the same bytes, and run, model and version are found
by their tags before they are made.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_project import journal_file
from mlflow_project.connection import open_client
from mlflow_project.error_policy import describe_error, is_doubtful, is_final
from mlflow_project.errors import DeliveryError, StoreError
from mlflow_project.journal_file import Cursor, Damage, Entry, Header
from mlflow_project.kept_files import file_sha256
from mlflow_project.model_delivery import parent, send_model
from mlflow_project.names import CONTEXT_TAG, JOURNAL_REFERENCE, KEY_TAG, LIVE_TAGS, REASON_TAG
from mlflow_project.remote import Remote
from mlflow_project.text import same_value
from mlflow_project.values import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelFiles,
    ModelInput,
    Parameter,
    RunEnd,
    RunStart,
    Tag,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOM = {Metric: 800, Parameter: 100, Tag: 100}
"""Values in one request: MLflow takes 1,000, of them at most 100 parameters and 100 tags."""

DOUBTFUL_TRIES = 5


class Deliverer:
    """Brings one journal into MLflow, step by step. Only one may exist for a journal (`SENDING_LOCK`)."""

    def __init__(self, folder: Path, connect: Callable[[str], "MlflowClient"] = open_client) -> None:
        self.folder = folder
        self.header: Header = journal_file.read_header(folder)
        self.cursor = Cursor.load(folder)
        self._connect = connect
        self._remote: Remote | None = None
        self._parameters: dict[str, str] | None = None
        self._tags: dict[str, str] = {}
        self._synced = -1
        self.progress = 0
        """Grows with everything that has arrived."""

    @property
    def run_id(self) -> str | None:
        return self.cursor.run_id

    @property
    def client(self) -> "MlflowClient":
        return self.remote.client

    @property
    def remote(self) -> Remote:
        if self._remote is None:
            self._remote = Remote(self._connect(self.header.tracking_uri), self.header)
        return self._remote

    def open_run(self) -> str:
        """The run's id; makes the run if need be. Raises whatever MLflow raises."""
        if self.cursor.run_id is None:
            known = self.header.run_id
            if known is None:
                self.cursor.experiment_id = self.part("experiment", self.remote.experiment_id)
                self.cursor.run_id = self.remote.run(self.experiment_id)
            else:
                run = self.remote.active_run(known)
                self.cursor.experiment_id = str(run.info.experiment_id)
                # Whoever made the run knows best what started it.
                new = {key: text for key, text in self.header.tags.items() if key not in run.data.tags}
                self._send_tags(known, {**new, KEY_TAG: self.header.key})
                self.cursor.run_id = known
            self.remote.describe_experiment(self.experiment_id)
            self._save()
        return self.cursor.run_id

    @property
    def experiment_id(self) -> str:
        assert self.cursor.experiment_id is not None, "a run that is open has an experiment"
        return self.cursor.experiment_id

    def part(self, name: str, action: Callable[[], object]) -> str:
        """Do one part of the value that is being delivered, unless it is done; what came of it, as text."""
        if name not in self.cursor.parts:
            self.cursor.parts[name] = str(action())
            self._save()
        return self.cursor.parts[name]

    def upload(self, place: str, digest: str, action: Callable[[], object]) -> None:
        """Send a file, unless the same content was sent there already."""
        if self.cursor.uploaded.get(place) != digest:
            action()
            self.cursor.uploaded[place] = digest
            self._save()

    def _save(self) -> None:
        self.progress += 1
        # A disk that is full must not hold up the delivery; what it forgets is delivered again.
        with suppress(OSError):
            self.cursor.save(self.folder)

    def step(self) -> bool:
        """Deliver the next batch or file. False if there is nothing more; raises if MLflow didn't take it."""
        entries = self._next()
        if not entries:
            return False
        self.open_run()
        damages = [item for item in entries if isinstance(item, Damage)]
        for damage in damages:
            self._refuse(str(damage))
        self._deliver([item for item in entries if isinstance(item, Entry)])
        self.cursor.position, self.cursor.parts = entries[-1].end, {}
        self.cursor.delivered += sum(
            isinstance(item, Entry) and not isinstance(item.value, Header) for item in entries
        )
        self._save()
        return True

    def _next(self) -> list[Entry | Damage]:
        """The values of the next request: many points, parameters and tags, or one of anything else."""
        batch: list[Entry | Damage] = []
        room: dict[type[Any], int] = dict(ROOM)
        durable = self._durable_size()
        for item in journal_file.read(self.folder, self.cursor.position):
            if item.end > durable:
                break
            if isinstance(item, Entry) and not isinstance(item.value, Header):
                kind: Any = type(item.value)
                if kind not in room:
                    return batch or [item]
                if room[kind] == 0:
                    return batch
                room[kind] -= 1
            batch.append(item)
        return batch

    def _durable_size(self) -> int:
        """So many bytes survive a power loss: what is sent must never be said again with another time."""
        with (self.folder / journal_file.JOURNAL).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != self._synced:
                os.fdatasync(stream.fileno())
                self._synced = size
        return size

    def _deliver(self, entries: list[Entry]) -> None:
        """Deliver what MLflow takes; halve a batch that it refuses until the refused value is found."""
        try:
            self._send([entry.value for entry in entries])
        except Exception as error:
            if not is_final(error):
                raise
            # Nothing can be written to a deleted run, but that is no fault of the value.
            self.remote.active_run(self.open_run())
            if len(entries) == 1:
                tries = int(self.cursor.parts.get("tries", 0)) + 1
                if is_doubtful(error) and tries < DOUBTFUL_TRIES:
                    self.cursor.parts["tries"] = str(tries)
                    raise
                value = entries[0].value
                name = getattr(value, "key", getattr(value, "path", getattr(value, "name", "")))
                self._refuse(f"{type(value).__name__} {name!r} was refused: {describe_error(error, '')}")
                return
            half = len(entries) // 2
            self._deliver(entries[:half])
            self._deliver(entries[half:])

    def _send(self, values: list[Any]) -> None:
        points: list[Metric] = []
        parameters: dict[str, str] = {}
        tags: dict[str, str] = {}
        for value in values:
            match value:
                case Metric():
                    points.append(value)
                case Parameter():
                    self._check(value, parameters)
                case Tag():
                    tags[value.key] = self._resolved(value.value)
                case Header():
                    pass
                case Artifact():
                    self._send_file(value.file, value.path)
                case LoggedImage():
                    self._send_image(value)
                case DatasetInput():
                    self._send_dataset(value)
                case ModelInput():
                    self._send_model_input(value)
                case ModelFiles():
                    send_model(self, value)
                case RunStart():
                    self._send_start()
                case RunEnd():
                    self._send_end(value)
                case _:
                    raise TypeError(f"no way to deliver {value!r}")
        if points or parameters or tags:
            from mlflow.entities import Metric as Point
            from mlflow.entities import Param, RunTag

            self.client.log_batch(
                self.open_run(),
                metrics=[Point(p.key, p.value, p.timestamp_ms, p.step) for p in points],
                params=[Param(key, value) for key, value in parameters.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            self._known().update(parameters)
            self._tags.update(tags)

    def _send_tags(self, run_id: str, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def _resolved(self, text: str) -> str:
        """The run id of a run that was named by its journal's key, which may be all that there was to name it by."""
        key = text.removeprefix(JOURNAL_REFERENCE)
        if key == text or not (self.folder.parent / key / journal_file.JOURNAL).exists():
            return text
        other = self.folder.parent / key
        run_id = Cursor.load(other).run_id or journal_file.read_header(other).run_id
        if run_id is None:
            raise StoreError(f"the run of journal {key}, which this one names, isn't in MLflow yet")
        return run_id

    def _known(self) -> dict[str, str]:
        if self._parameters is None:
            self._parameters = dict(self.client.get_run(self.open_run()).data.params)
        return self._parameters

    def _check(self, parameter: Parameter, new: dict[str, str]) -> None:
        before = self._known().get(parameter.key, new.get(parameter.key))
        if before is None:
            new[parameter.key] = parameter.value
        elif not same_value(before, parameter.value):
            self._refuse(
                f"parameter {parameter.key!r} is {before!r} in MLflow and can't become {parameter.value!r}"
            )

    def _send_file(self, file: Path, path: str) -> None:
        def send() -> None:
            if self._is_kept(file, path):
                self.client.log_artifact(self.open_run(), str(file), parent(path))

        self.upload(path, file.parent.name, send)

    def _is_kept(self, file: Path, path: str) -> bool:
        """Whether the file waits for its delivery. False if it is gone because it has arrived already."""
        if file.is_file():
            if file_sha256(file) == file.parent.name:
                return True
            raise DeliveryError("the kept file isn't what was journaled any more")
        if path in [found.path for found in self.client.list_artifacts(self.open_run(), parent(path))]:
            return False
        raise DeliveryError("the kept file is gone")

    def _send_image(self, image: LoggedImage) -> None:
        path, digest = PurePosixPath(image.path), image.file.parent.name
        if self.cursor.uploaded.get(image.path) == digest or not self._is_kept(image.file, image.path):
            return
        from PIL import Image

        with tempfile.TemporaryDirectory(prefix=".image-", dir=self.folder) as name:
            full = Path(name) / path.name
            shutil.copyfile(image.file, full)
            small = full.with_name(f"{path.stem}+compressed.webp")
            with Image.open(full) as picture:
                picture.thumbnail((256, 256))
                picture.save(small)
            for file in (small, full):

                def send(file: Path = file) -> None:
                    self.client.log_artifact(self.open_run(), str(file), str(path.parent))

                self.upload(str(path.with_name(file.name)), digest, send)

    def _send_dataset(self, value: DatasetInput) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Input

        tags = {**value.tags, CONTEXT_TAG: value.context}
        dataset = Dataset(
            name=value.name,
            digest=value.digest,
            source_type=value.source_type,
            source=value.source,
            schema=value.schema,
            profile=value.profile,
        )
        inputs = [Input(dataset, [InputTag(key, text) for key, text in tags.items()])]
        self.client.log_inputs(self.open_run(), inputs)

    def _send_model_input(self, value: ModelInput) -> None:
        from mlflow.entities import LoggedModelInput

        inputs = self.client.get_run(self.open_run()).inputs
        if value.model_id not in [known.model_id for known in (inputs.model_inputs if inputs else [])]:
            self.client.log_inputs(self.open_run(), models=[LoggedModelInput(value.model_id)])

    def _send_start(self) -> None:
        run_id = self.open_run()
        self.client.update_run(run_id, status="RUNNING")
        if REASON_TAG in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, REASON_TAG)
        self._tags.pop(REASON_TAG, None)
        self.cursor.ended = None

    def _send_end(self, end: RunEnd) -> None:
        """End the run, and look whether that and the last tags are what it says now.

        A request that timed out may have been carried out after a later one.
        """
        run_id, remote, cursor = self.open_run(), self.remote, self.cursor
        self.part("runs", lambda: remote.settle_runs(self.experiment_id, run_id))
        self.part("models", lambda: remote.settle_models(self.experiment_id, cursor.models))
        self.part("versions", lambda: remote.settle_versions(run_id, cursor.versions))
        self.part("end", lambda: self.client.set_terminated(run_id, end.status, end.timestamp_ms))
        run = self.client.get_run(run_id)
        wrong = {key: text for key, text in self._tags.items() if run.data.tags.get(key) != text}
        if wrong:
            self._send_tags(run_id, wrong)
        for tag in LIVE_TAGS:
            if tag in run.data.tags:
                self.client.delete_tag(run_id, tag)
        if (run.info.status, run.info.end_time) != (end.status, end.timestamp_ms):
            self.client.set_terminated(run_id, end.status, end.timestamp_ms)
        cursor.ended = end.status

    def _refuse(self, reason: str) -> None:
        if reason not in self.cursor.refused:
            self.cursor.refused.append(reason)
