"""From the journal on disk into MLflow, in order and in batches, so that doing it twice changes nothing.

What has arrived is remembered in the cursor after every step; whatever is lost of that is delivered again:
points keep their times, artifacts are overwritten with the same bytes, and run, model and version are found
by their tags before they are made.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_project import journal_file
from mlflow_project.errors import DeliveryError, StoreError
from mlflow_project.journal import file_sha256, tree_sha256
from mlflow_project.journal_file import Cursor, Damage, Entry, Header
from mlflow_project.remote import KEY_TAG, Remote, is_final, open_client, told
from mlflow_project.values import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelFiles,
    Parameter,
    RunEnd,
    RunStart,
    Tag,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

ROOM = {Metric: 800, Parameter: 100, Tag: 100}
"""Values in one request: MLflow takes 1,000, of them at most 100 parameters and 100 tags."""

JOURNAL_REFERENCE = "journal:"
"""Before a journal's key, as a tag's whole value: becomes the id of that journal's run, as soon as it has one."""

LIVE_TAGS = ("heartbeat", "owner")
"""On a run while a process works on it: when it was last heard of, and where it is."""


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
        if self.cursor.run_id is None or self.cursor.experiment_id is None:
            known = self.cursor.run_id or self.header.run_id
            self.cursor.run_id, self.cursor.experiment_id = self.remote.run(known)
            self.cursor.save(self.folder)
            if known is not None:
                self._send_tags({**self.header.tags, KEY_TAG: self.header.key})
        return self.cursor.run_id

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
        self.cursor.position = entries[-1].end
        self.cursor.delivered += sum(
            isinstance(item, Entry) and not isinstance(item.value, Header) for item in entries
        )
        self.cursor.save(self.folder)
        if self.cursor.ended and not self._next():
            shutil.rmtree(self.folder / journal_file.FILES, ignore_errors=True)
            (self.folder / journal_file.FILES).mkdir(exist_ok=True)
        return True

    def _next(self) -> list[Entry | Damage]:
        """The values of the next request: many points, parameters and tags, or one of anything else."""
        batch: list[Entry | Damage] = []
        room: dict[type[Any], int] = dict(ROOM)
        for item in journal_file.read(self.folder, self.cursor.position):
            if isinstance(item, Entry) and not isinstance(item.value, Header):
                kind: Any = type(item.value)
                if kind not in room:
                    return batch or [item]
                if room[kind] == 0:
                    return batch
                room[kind] -= 1
            batch.append(item)
        return batch

    def _deliver(self, entries: list[Entry]) -> None:
        """Deliver what MLflow takes; halve a batch that it refuses until the refused value is found."""
        try:
            self._send([entry.value for entry in entries])
        except Exception as error:
            if not is_final(error):
                raise
            # Nothing can be written to a deleted run, but that is no fault of the value.
            self.remote.run(self.run_id)
            if len(entries) == 1:
                value = entries[0].value
                name = getattr(value, "key", getattr(value, "path", getattr(value, "name", "")))
                self._refuse(f"{type(value).__name__} {name!r} was refused: {told(error, '')}")
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
                case ModelFiles():
                    self._send_model(value)
                case RunStart():
                    self.client.update_run(self.open_run(), status="RUNNING")
                    self.cursor.ended = None
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

    def _send_tags(self, tags: dict[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.open_run(), tags=[RunTag(key, value) for key, value in tags.items()])

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
        elif not equal(before, parameter.value):
            self._refuse(
                f"parameter {parameter.key!r} is {before!r} in MLflow and can't become {parameter.value!r}"
            )

    def _send_file(self, file: Path, path: str) -> None:
        digest = file.parent.name
        if self.cursor.uploaded.get(path) == digest or not self._is_kept(file, path):
            return
        self.client.log_artifact(self.open_run(), str(file), _parent(path))
        self.cursor.uploaded[path] = digest

    def _is_kept(self, file: Path, path: str) -> bool:
        """Whether the file waits for its delivery. False if it is gone because it has arrived already."""
        if file.is_file():
            if file_sha256(file) == file.parent.name:
                return True
            raise DeliveryError("the kept file isn't what was journaled any more")
        if path in [found.path for found in self.client.list_artifacts(self.open_run(), _parent(path))]:
            return False
        raise DeliveryError("the kept file is gone")

    def _send_image(self, image: LoggedImage) -> None:
        digest = image.file.parent.name
        if self.cursor.uploaded.get(image.path) == digest or not self._is_kept(image.file, image.path):
            return
        from PIL import Image

        path = PurePosixPath(image.path)
        with tempfile.TemporaryDirectory(prefix=".image-", dir=self.folder) as name:
            full = Path(name) / path.name
            shutil.copyfile(image.file, full)
            small = full.with_name(f"{path.stem}+compressed.webp")
            with Image.open(full) as picture:
                picture.thumbnail((256, 256))
                picture.save(small)
            for file in (full, small):
                self.client.log_artifact(self.open_run(), str(file), str(path.parent))
        self.cursor.uploaded[image.path] = digest

    def _send_dataset(self, value: DatasetInput) -> None:
        from mlflow.entities import Dataset, InputTag
        from mlflow.entities import DatasetInput as Input

        tags = {**value.tags, "mlflow.data.context": value.context}
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

    def _send_model(self, model: ModelFiles) -> None:
        run_id, experiment_id = self.open_run(), self.cursor.experiment_id
        assert experiment_id is not None
        folder = model.directory
        if not folder.is_dir():
            self._find_model(model, experiment_id, run_id)
            return
        if tree_sha256(folder) != folder.name:
            raise DeliveryError("the kept folder isn't what was journaled any more")
        model_id, location = self.remote.model(experiment_id, run_id, model)
        self.cursor.models[model.name] = model_id
        for file, path in _model_files(folder):
            self._send_model_file(model_id, file, path)
        with tempfile.TemporaryDirectory(prefix=".model-", dir=self.folder) as name:
            # Last, because a model can be loaded from the moment at which it has this file.
            card = Path(name) / "MLmodel"
            card.write_text(model_card(folder / "MLmodel", model_id, run_id, location))
            self._send_model_file(model_id, card, "MLmodel")
        self.client.finalize_logged_model(model_id, "READY")
        if model.registered_name:
            self.cursor.versions[model.name] = self.remote.version(run_id, model_id, model)

    def _find_model(self, model: ModelFiles, experiment_id: str, run_id: str) -> None:
        """The model and version of a delivery that is forgotten here, but whose files are kept no more."""
        models = self.remote.find_models(experiment_id, model.name)
        if not models or str(models[0].status) != "READY":
            raise DeliveryError("the kept folder is gone")
        self.cursor.models[model.name] = models[0].model_id
        if model.registered_name:
            self.cursor.versions[model.name] = self.remote.version(run_id, models[0].model_id, model)

    def _send_model_file(self, model_id: str, file: Path, path: str) -> None:
        digest, place = file_sha256(file), f"models:/{model_id}/{path}"
        if self.cursor.uploaded.get(place) != digest:
            self.client.log_model_artifact(model_id, str(file), _parent(path))
            self.cursor.uploaded[place] = digest
            self.cursor.save(self.folder)

    def _send_end(self, end: RunEnd) -> None:
        """End the run, and look whether that and the last tags are what it says now.

        A request that timed out may have been carried out after a later one.
        """
        run_id, experiment_id = self.open_run(), self.cursor.experiment_id
        assert experiment_id is not None
        self.remote.settle(experiment_id, run_id, self.cursor.models, self.cursor.versions)
        self.client.set_terminated(run_id, end.status, end.timestamp_ms)
        run = self.client.get_run(run_id)
        wrong = {key: text for key, text in self._tags.items() if run.data.tags.get(key) != text}
        if wrong:
            self._send_tags(wrong)
        for tag in LIVE_TAGS:
            if tag in run.data.tags:
                self.client.delete_tag(run_id, tag)
        if (run.info.status, run.info.end_time) != (end.status, end.timestamp_ms):
            self.client.set_terminated(run_id, end.status, end.timestamp_ms)
        self.cursor.ended = end.status

    def _refuse(self, reason: str) -> None:
        if reason not in self.cursor.refused:
            self.cursor.refused.append(reason)


def equal(a: str, b: str) -> bool:
    """Whether two parameters say the same: as text, or as numbers (`0.10` and `1e-1`)."""
    if a == b:
        return True
    try:
        return float(a) == float(b)
    except ValueError:
        return False


def model_card(path: Path, model_id: str, run_id: str, location: str) -> str:
    """The `MLmodel` of a saved model, with what only the logged model knows; always the same text."""
    import yaml  # type: ignore[import-untyped]

    content = yaml.safe_load(path.read_text())
    content |= {"model_id": model_id, "model_uuid": model_id, "run_id": run_id, "artifact_path": location}
    text: str = yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True)
    return text


def _model_files(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_file() and path != "MLmodel" and "__pycache__" not in path.split("/"):
            yield file, path


def _parent(path: str) -> str | None:
    parent = str(PurePosixPath(path).parent)
    return None if parent == "." else parent
