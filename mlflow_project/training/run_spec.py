"""A training's run before it is one and after it has ended: plain values, without MLflow or PyTorch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.data.catalog import SAMPLE_SUFFIX
from hw2.training.config import TrainingConfig
from mlflow_project.common.errors import RunError
from mlflow_project.tracking.journal.entities import ModelArtifact
from mlflow_project.tracking.journal.local_runs import RUN_SPEC_FILE

if TYPE_CHECKING:
    from hw2.data.image_set import Dataset
    from hw2.data.lookup import DatasetInfo
    from mlflow_project.tracking.delivery.status import DeliveryStatus

IDENTITY = (
    "configuration_sha256",
    "fingerprint",
)  # tags that a journal's header repeats, to be found at once


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run that is to be: what it trains, on what, and what becomes of the model.

    config knows its validation_size. run_id: an MLflow run that exists already. tags: further tags of the run.
    """

    config: TrainingConfig
    data_dir: Path | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    register: bool = True
    aliases: tuple[str, ...] = ()

    def to_json(self) -> str:
        """All of it but the run's id, which the journal knows."""
        plain = dataclasses.asdict(self)
        plain["data_dir"] = None if self.data_dir is None else str(self.data_dir.expanduser().absolute())
        return json.dumps(plain, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """The inverse of `to_json`; ValueError, TypeError or KeyError where it can't be."""
        plain = json.loads(text)
        data_dir = plain.pop("data_dir")
        return cls(
            **{
                **plain,
                # Before there was a warm-up, a training had none.
                "config": TrainingConfig(**{"warmup": 0, **plain["config"]}),
                "data_dir": data_dir and Path(data_dir),
                "aliases": tuple(plain["aliases"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended: FINISHED, FAILED or KILLED, with its last metrics and what is delivered of it."""

    plan: RunSpec
    folder: Path
    run_id: str | None
    status: str
    metrics: dict[str, float]
    delivery: "DeliveryStatus | None"
    reason: str = ""

    @property
    def unregistered(self) -> str:
        """Why MLflow didn't register the model of a run that it has all of; empty where it did, or wasn't to."""
        delivery = self.delivery
        if (
            self.status != "FINISHED"
            or not self.plan.register
            or delivery is None
            or delivery.pending
            or delivery.versions
        ):
            return ""
        return next(
            (said for said in delivery.refused if said.startswith(ModelArtifact.__name__)), "no reason known"
        )


def registered_name(config: TrainingConfig, dataset: "Dataset | DatasetInfo") -> str:
    """The name of the registered model: `<dataset>-base-cnn`, or with another net's name; a sample's is its set's."""
    return f"{dataset.name.removesuffix(SAMPLE_SUFFIX)}-{config.model_name}"


def read_run_spec(folder: Path) -> RunSpec:
    """What the run in `folder` was to be; RunError where that can't be read."""
    try:
        return RunSpec.from_json((folder / RUN_SPEC_FILE).read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{folder / RUN_SPEC_FILE} doesn't say what the run was to be ({error}); start a new run"
        ) from error
