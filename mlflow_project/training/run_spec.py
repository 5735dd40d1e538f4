"""A training's run before it starts and after it has ended: plain values, without MLflow or PyTorch."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.data.catalog import SAMPLE_SUFFIX
from hw2.training.config import TrainingConfig, without_later_defaults
from mlflow_project.common.errors import RunError
from mlflow_project.tracking.journal.entities import ModelArtifact
from mlflow_project.tracking.journal.local_runs import RUN_SPEC_FILE

if TYPE_CHECKING:
    from hw2.data.image_set import Dataset
    from hw2.data.lookup import DatasetInfo
    from mlflow_project.tracking.journal.delivery_status import DeliveryStatus

# Tags that a journal's header repeats, to be found at once.
IDENTITY = ("configuration_sha256", "fingerprint")


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """A run to start: what it trains, on what, and whether its model is registered.

    Attributes:
        config: With its validation_size decided.
        run_id: An existing MLflow run to log into.
        tags: Further tags of the run.
    """

    config: TrainingConfig
    data_dir: Path | None = None
    run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    register: bool = True
    aliases: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Serialize the specification."""
        plain = dataclasses.asdict(self)
        plain["config"] = without_later_defaults(plain["config"])
        plain["data_dir"] = None if self.data_dir is None else str(self.data_dir.expanduser().absolute())
        return json.dumps(plain, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "RunSpec":
        """Read what `to_json` wrote; ValueError, TypeError or KeyError for other text."""
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
    """How a run ended: FINISHED, FAILED or KILLED, with its last metrics and the state of its upload."""

    plan: RunSpec
    folder: Path
    run_id: str | None
    status: str
    metrics: dict[str, float]
    delivery: "DeliveryStatus | None"
    reason: str = ""

    @property
    def unregistered(self) -> str:
        """Why MLflow didn't register the model of a completely uploaded run; empty where it did, or wasn't to."""
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
            (text for text in delivery.refused if text.startswith(ModelArtifact.__name__)), "no reason known"
        )


def registered_name(config: TrainingConfig, dataset: "Dataset | DatasetInfo") -> str:
    """Return the registered model's name, `<dataset>-<net>`; a sample has the name of its data set."""
    return f"{dataset.name.removesuffix(SAMPLE_SUFFIX)}-{config.model_name}"


def read_run_spec(folder: Path) -> RunSpec:
    """Read the specification of the run in `folder`; RunError where it can't be read."""
    try:
        return RunSpec.from_json((folder / RUN_SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{folder / RUN_SPEC_FILE} is no readable run specification ({error}); start a new run"
        ) from error
