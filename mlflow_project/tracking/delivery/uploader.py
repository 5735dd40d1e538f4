"""From the journal on disk into MLflow, in order and in batches, so that doing it twice changes nothing.

What has arrived is recorded in the cursor after every step; whatever is lost of that is uploaded again: points keep
their times, artifacts are overwritten with the same bytes, and run, model and version are found by their tags before
they are created.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import DeliveryError
from mlflow_project.common.names import CONTEXT_TAG, JOURNAL_REFERENCE, LIVE_TAGS, REASON_TAG
from mlflow_project.common.text import same_value
from mlflow_project.tracking.delivery.client import artifact_exists, import_mlflow, open_client
from mlflow_project.tracking.delivery.error_policy import describe_error, is_permanent, may_be_transient
from mlflow_project.tracking.delivery.model_upload import send_model
from mlflow_project.tracking.delivery.session import DeliverySession, parent_folder
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelArtifact,
    ModelInput,
    Param,
    RunEnded,
    RunResumed,
    Tag,
)
from mlflow_project.tracking.journal.format import CorruptSpan, Cursor, Entry, Header
from mlflow_project.tracking.journal.spool import file_sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH_SIZE = 1_000
"""Entities that MLflow takes in one request, of them at most 100 parameters and 100 tags."""

BATCH_LIMITS = {Metric: 800, Param: 100, Tag: 100}

TRANSIENT_TRIES = 5

_REFERENCE = re.compile(re.escape(JOURNAL_REFERENCE) + r"([0-9]{8}T[0-9]{6}-[0-9]{3}-[0-9a-f]{12})")


class JournalUploader:
    """Uploads one journal to MLflow, step by step. Only one may exist for a journal (`SENDING_LOCK`)."""

    def __init__(
        self,
        folder: Path,
        connect: Callable[[str], "MlflowClient"] = open_client,
        *,
        may_create_store: bool = False,
    ) -> None:
        self.session = DeliverySession(folder, connect, may_create_store=may_create_store)
        self._params: dict[str, str] | None = None
        self._tags: dict[str, str] = {}
        self._synced = -1

    def step(self) -> bool:
        """Upload the next batch or file; return False if there is nothing more. Raises what MLflow raises."""
        entries = self._next()
        if not entries:
            return False
        self.session.open_run()
        intact = [item for item in entries if isinstance(item, Entry)]
        for item in entries:
            if isinstance(item, CorruptSpan):
                self._reject(str(item))
        self._deliver(intact)
        self.session.cursor.position, self.session.cursor.parts = entries[-1].end, {}
        self.session.cursor.delivered += sum(not isinstance(entry.value, Header) for entry in intact)
        self.session.save()
        return True

    def _next(self) -> list[Entry | CorruptSpan]:
        """Read the entities of the next request: many points, parameters and tags, or one of anything else."""
        batch: list[Entry | CorruptSpan] = []
        capacity: dict[type[Any], int] = dict(BATCH_LIMITS)
        durable = self._durable_size()
        for item in format.read_entries(self.session.folder, self.session.cursor.position):
            if item.end > durable:
                break
            if isinstance(item, Entry) and not isinstance(item.value, Header):
                kind: Any = type(item.value)
                if kind not in capacity:
                    return batch or [item]
                if capacity[kind] == 0:
                    return batch
                capacity[kind] -= 1
            batch.append(item)
        return batch

    def _durable_size(self) -> int:
        """Return how many bytes survive a power loss: what is sent must never be logged again with another time."""
        with (self.session.folder / format.JOURNAL).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != self._synced:
                os.fdatasync(stream.fileno())
                self._synced = size
        return size

    def _deliver(self, entries: list[Entry]) -> None:
        """Upload what MLflow takes; halve a batch that it rejects until the rejected entity is found."""
        try:
            self._send([entry.value for entry in entries])
        except Exception as error:
            if not is_permanent(error):
                raise
            # Nothing can be written to a deleted run, which isn't the entity's fault.
            self.session.remote.active_run(self.session.open_run())
            if len(entries) == 1:
                tries = int(self.session.cursor.parts.get("tries", 0)) + 1
                if may_be_transient(error) and tries < TRANSIENT_TRIES:
                    self.session.cursor.parts["tries"] = str(tries)
                    raise
                value = entries[0].value
                name = getattr(value, "key", getattr(value, "path", getattr(value, "name", "")))
                self._reject(f"{type(value).__name__} {name!r} was rejected: {describe_error(error, '')}")
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
                case Param():
                    self._check(value, parameters)
                case Tag():
                    tags[value.key] = self._resolve_references(value.value)
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
                case ModelArtifact():
                    send_model(self.session, value)
                case RunResumed():
                    self._send_start()
                case RunEnded():
                    self._send_end(value)
                case _:
                    raise TypeError(f"no way to upload {value!r}")
        if points or parameters or tags:
            of_mlflow = import_mlflow().entities
            self.session.client.log_batch(
                self.session.open_run(),
                metrics=[self._metric(of_mlflow, point) for point in points],
                params=[of_mlflow.Param(key, value) for key, value in parameters.items()],
                tags=[of_mlflow.RunTag(key, value) for key, value in tags.items()],
            )
            self._known_params().update(parameters)
            self._tags.update(tags)

    def _metric(self, of_mlflow: Any, point: Metric) -> Any:
        names = ("model_id", "dataset_name", "dataset_digest")
        more = {name: getattr(point, name) for name in names if getattr(point, name) is not None}
        if point.model_id is not None:
            more["model_id"] = self._resolve_references(point.model_id)
        return of_mlflow.Metric(point.key, point.value, point.timestamp_ms, point.step, **more)

    def _resolve_references(self, text: str) -> str:
        """Replace references to journals by the IDs of their runs."""
        return _REFERENCE.sub(lambda match: self._id_of(match[1]) or match[0], text)

    def _id_of(self, key: str) -> str | None:
        """Return the run ID of another journal; None if there is no such journal here."""
        other = self.session.folder.parent / key
        if key == self.session.header.key or not (other / format.JOURNAL).exists():
            return None
        run_id = Cursor.load(other).run_id or format.read_header(other).run_id
        if run_id is not None:
            return run_id
        return self.session.open_run_of(other)

    def _known_params(self) -> dict[str, str]:
        if self._params is None:
            self._params = dict(self.session.client.get_run(self.session.open_run()).data.params)
        return self._params

    def _check(self, parameter: Param, new: dict[str, str]) -> None:
        before = self._known_params().get(parameter.key, new.get(parameter.key))
        if before is None:
            new[parameter.key] = parameter.value
        elif not same_value(before, parameter.value):
            self._reject(
                f"parameter {parameter.key!r} is {before!r} in MLflow and can't become {parameter.value!r}"
            )

    def _send_file(self, file: Path, path: str) -> None:
        def send() -> None:
            if self._is_spooled(file, path):
                self.session.client.log_artifact(self.session.open_run(), str(file), parent_folder(path))

        self.session.upload(path, file.parent.name, send)

    def _is_spooled(self, file: Path, path: str) -> bool:
        """Return whether the file waits for its upload, and not whether it is gone because it has arrived.

        Raises:
            DeliveryError: It is gone, or isn't what was journaled.
        """
        if file.is_file():
            if file_sha256(file) == file.parent.name:
                return True
            raise DeliveryError("the spooled file isn't what was journaled any more")
        run = self.session.client.get_run(self.session.open_run())
        if artifact_exists(self.session.client, run.info.artifact_uri, path):
            return False
        raise DeliveryError("the spooled file is gone")

    def _send_image(self, image: LoggedImage) -> None:
        path, digest = PurePosixPath(image.path), image.file.parent.name
        if self.session.cursor.uploaded.get(image.path) == digest or not self._is_spooled(
            image.file, image.path
        ):
            return
        from PIL import Image

        with tempfile.TemporaryDirectory(prefix=".image-", dir=self.session.folder) as name:
            full = Path(name) / path.name
            shutil.copyfile(image.file, full)
            small = full.with_name(f"{path.stem}+compressed.webp")
            with Image.open(full) as thumbnail:
                thumbnail.thumbnail((256, 256))
                thumbnail.save(small)
            for file in (small, full):

                def send(file: Path = file) -> None:
                    self.session.client.log_artifact(self.session.open_run(), str(file), str(path.parent))

                self.session.upload(str(path.with_name(file.name)), digest, send)

    def _send_dataset(self, value: DatasetInput) -> None:
        of_mlflow = import_mlflow().entities
        tags = {**value.tags, CONTEXT_TAG: value.context}
        dataset = of_mlflow.Dataset(
            name=value.name,
            digest=value.digest,
            source_type=value.source_type,
            source=value.source,
            schema=value.schema,
            profile=value.profile,
        )
        inputs = [
            of_mlflow.DatasetInput(dataset, [of_mlflow.InputTag(key, text) for key, text in tags.items()])
        ]
        self.session.client.log_inputs(self.session.open_run(), inputs)

    def _send_model_input(self, value: ModelInput) -> None:
        inputs = self.session.client.get_run(self.session.open_run()).inputs
        if value.model_id not in [known.model_id for known in (inputs.model_inputs if inputs else [])]:
            self.session.client.log_inputs(
                self.session.open_run(), models=[import_mlflow().entities.LoggedModelInput(value.model_id)]
            )

    def _send_start(self) -> None:
        run_id = self.session.open_run()
        self.session.client.update_run(run_id, status="RUNNING")
        if REASON_TAG in self.session.client.get_run(run_id).data.tags:
            self.session.client.delete_tag(run_id, REASON_TAG)
        self._tags.pop(REASON_TAG, None)
        self.session.cursor.ended = None

    def _send_end(self, end: RunEnded) -> None:
        """End the run, and check that its status and last tags are what was logged.

        A request that timed out may have been carried out after a later one.
        """
        run_id, remote, cursor = self.session.open_run(), self.session.remote, self.session.cursor
        once, experiment_id = self.session.once, self.session.experiment_id
        once("runs", lambda: remote.delete_duplicate_runs(experiment_id, run_id))
        once("models", lambda: remote.delete_duplicate_models(experiment_id, cursor.models))
        once("versions", lambda: remote.delete_duplicate_versions(run_id, cursor.versions))
        once("end", lambda: self.session.client.set_terminated(run_id, end.status, end.timestamp_ms))
        run = self.session.client.get_run(run_id)
        wrong = {key: text for key, text in self._tags.items() if run.data.tags.get(key) != text}
        if wrong:
            self.session.send_tags(run_id, wrong)
        for tag in LIVE_TAGS:
            if tag in run.data.tags:
                self.session.client.delete_tag(run_id, tag)
        if (run.info.status, run.info.end_time) != (end.status, end.timestamp_ms):
            self.session.client.set_terminated(run_id, end.status, end.timestamp_ms)
        cursor.ended = end.status

    def _reject(self, reason: str) -> None:
        if reason not in self.session.cursor.refused:
            self.session.cursor.refused.append(reason)
