"""What a journal says of its run and models so far: the answers to a program while no server gives them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Call, Metric, Param, RunEnded, RunResumed, Tag
from mlflow_project.tracking.journal.format import Entry, Header
from mlflow_project.tracking.programs.calls import HISTORY_TAG

NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"


@dataclass
class ModelRecord:
    """A logged model as far as the journal knows it."""

    model_id: str
    experiment_id: str
    name: str
    source_run_id: str | None
    model_type: str | None
    created_ms: int
    status: str = "PENDING"
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)


@dataclass
class RunRecord:
    """A run as far as its journal, and what was read of it before, knows it. Metrics are the latest of each key."""

    experiment_id: str
    name: str
    start_ms: int
    user: str = "unknown"
    status: str = "RUNNING"
    end_ms: int | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    datasets: list[dict[str, Any]] = field(default_factory=list)
    model_inputs: list[str] = field(default_factory=list)
    model_outputs: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, ModelRecord] = field(default_factory=dict)

    @classmethod
    def of_header(cls, header: Header, experiment_id: str) -> "RunRecord":
        tags = dict(header.tags)
        tags.setdefault(NAME_TAG, header.run_name)
        user = tags.get(USER_TAG, "unknown")
        return cls(experiment_id, header.run_name, header.start_time_ms, user, tags=tags)

    @classmethod
    def load(cls, folder: Path, experiment_id: str) -> "RunRecord":
        """Replay a journal.

        Raises:
            JournalError: It can't be read.
        """
        record = cls.of_header(format.read_header(folder), experiment_id)
        size = (folder / format.JOURNAL).stat().st_size  # it may grow faster than it is read
        for item in format.read_entries(folder):
            if item.end > size:
                break
            if isinstance(item, Entry) and not isinstance(item.value, Header):
                record.apply(item.value)
        return record

    def apply(self, entity: Any) -> None:
        """Take note of what was journaled."""
        match entity:
            case Metric():
                last = self.metrics.get(entity.key)
                if last is None or (entity.step, entity.timestamp_ms) >= (last.step, last.timestamp_ms):
                    self.metrics[entity.key] = entity
            case Param():
                self.params.setdefault(entity.key, entity.value)
            case Tag():
                self.tags[entity.key] = entity.value
                if entity.key == NAME_TAG:
                    self.name = entity.value
            case RunResumed():
                self.status = "RUNNING"
            case RunEnded():
                self.status, self.end_ms = entity.status, entity.timestamp_ms
            case Call():
                self._apply_call(entity.method, entity.arguments)

    def _apply_call(self, method: str, arguments: Mapping[str, Any]) -> None:
        model = self.models.get(str(arguments.get("model_id")))
        match method:
            case "delete_tag":
                self.tags.pop(arguments["key"], None)
            case "update_run":
                self.status = arguments.get("status") or self.status
                if arguments.get("name"):
                    self.name = self.tags[NAME_TAG] = arguments["name"]
            case "log_inputs":
                self.datasets += arguments.get("datasets") or ()
                self.model_inputs += arguments.get("models") or ()
            case "log_outputs":
                self.model_outputs += arguments["models"]
            case "record_logged_model":
                import json

                history = json.loads(self.tags.get(HISTORY_TAG) or "[]")
                self.tags[HISTORY_TAG] = json.dumps([*history, arguments["model"]])
            case "create_logged_model":
                self.models[arguments["id"]] = ModelRecord(
                    arguments["id"],
                    arguments["experiment_id"],
                    arguments["name"] or "",
                    arguments["source_run_id"],
                    arguments["model_type"],
                    self.start_ms,
                    tags=dict(arguments["tags"] or ()),
                    params=dict(arguments["params"] or ()),
                )
            case "finalize_logged_model" if model:
                model.status = arguments["status"]
            case "set_logged_model_tags" if model:
                model.tags |= dict(arguments["tags"])
            case "delete_logged_model_tag" if model:
                model.tags.pop(arguments["key"], None)
            case "log_logged_model_params" if model:
                model.params |= dict(arguments["params"])
