"""What a run logs, as plain dataclasses; the journal decides where they go.

Times are milliseconds since 1970 in UTC. They are fixed when an entity is created, never when it is sent: one that is
uploaded twice is then the same, and MLflow stores it once.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

VERSION_PLACE = "{version}"
"""A placeholder in a version's description for its number, which only the registry gives."""
EXPERIMENT_PLACE = "{experiment_id}"
"""A placeholder in an experiment's tag for its ID."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


END_STATES = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class RunResumed:
    """The run is RUNNING again, and its tag `reason` is removed."""

    timestamp_ms: int = field(default_factory=now_ms)


@dataclass(frozen=True)
class RunEnded:
    """The run has ended; `status` is FINISHED, FAILED or KILLED."""

    status: str = "FINISHED"
    timestamp_ms: int = field(default_factory=now_ms)

    def __post_init__(self) -> None:
        if self.status not in END_STATES:
            raise ValueError(f"a run ends as FINISHED, FAILED or KILLED, not as {self.status!r}")


@dataclass(frozen=True)
class Param:
    """A parameter, written once; a value that is equal as text or as a number is not written again."""

    key: str
    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", str(self.value))


@dataclass(frozen=True)
class Metric:
    """One point of a key; steps come in any order, and more than once."""

    key: str
    value: float
    step: int = 0
    timestamp_ms: int = field(default_factory=now_ms)
    model_id: str | None = None
    """The logged model that it was measured of."""
    dataset_name: str | None = None
    dataset_digest: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))


@dataclass(frozen=True)
class Tag:
    """A tag of the run; the last value of a key counts."""

    key: str
    value: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", str(self.value))


@dataclass(frozen=True)
class Artifact:
    """A file to upload: `path` is its place among the run's artifacts (`tables/x.csv`), `file` where it lies now."""

    path: str
    file: Path
    model_id: str | None = None
    """The logged model to whose files it belongs, and not to the run's."""

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"an artifact's path lies below the run, and {self.path!r} doesn't")


@dataclass(frozen=True)
class LoggedImage:
    """A PNG for the image grid of MLflow's chart view, under `key` and a step, of which it is the only one."""

    key: str
    step: int
    file: Path
    timestamp_ms: int = field(default_factory=now_ms)
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def path(self) -> str:
        """Return the name from which MLflow's UI reads key and step; the thumbnail ends in `+compressed.webp`."""
        key = self.key.replace("/", "~")
        return f"images/{key}+step+{self.step}+timestamp+{self.timestamp_ms}+{self.uuid}.png"


@dataclass(frozen=True)
class DatasetInput:
    """A data set that the run used. `schema` and `profile` are JSON as MLflow's UI reads it."""

    name: str
    digest: str
    source: str
    _: KW_ONLY
    source_type: str = "local"
    schema: str | None = None
    profile: str | None = None
    context: str = "training"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInput:
    """A logged model that the run used, by its ID in MLflow."""

    model_id: str


@dataclass(frozen=True)
class ModelArtifact:
    """A model in a folder, as `mlflow.pytorch.save_model` leaves it, to become a logged model of the run.

    With a `registered_name` it also becomes one version of that registered model, with `version_tags`,
    `aliases` and `description`. One name is one model of the run, however often it is appended.
    """

    name: str
    directory: Path
    registered_name: str | None = None
    _: KW_ONLY
    version_tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    description: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    step: int = 0
    registered_description: str | None = None
    """Of the registered model, if this upload creates it."""


@dataclass(frozen=True)
class Call:
    """A call of MLflow's stores by its name there, with arguments as JSON has them."""

    method: str
    arguments: Mapping[str, Any]
    file: Path | None = None
    """Arguments that are too long for a line, as a JSON file; they come beside `arguments`."""


Entity = (
    RunResumed | RunEnded | Param | Metric | Tag | Artifact | LoggedImage | DatasetInput | ModelInput | ModelArtifact
    | Call
)  # fmt: skip
