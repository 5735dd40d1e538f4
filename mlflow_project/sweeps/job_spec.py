"""What crosses process borders in a sweep: the jobs, and the results of their trials."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_project.sweeps.existing_runs import COMPLETED, ELSEWHERE, ExistingRun, LocalRunInfo
from mlflow_project.sweeps.plan import SweepPlan, TrainingJob
from mlflow_project.tracking.active_run import DELIVERY_SECONDS

TRAINED, RESUMED, REUSED, FAILED, NOT_DONE = "trained", "resumed", "reused", "failed", "not done"


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A job with all that another process needs to run it.

    known: the local runs that bear on it, as they were when the plan was made; `since`: begin of the names of
    folders that may have come later. ignored: names of folders that don't count. until: the epoch at which the runs are
    stopped, untested, to go on later; None where they are completed.
    """

    number: int
    job: TrainingJob
    tags: Mapping[str, str]
    register: bool
    data_dir: Path | None
    known: tuple[LocalRunInfo, ...]
    since: str
    ignored: frozenset[str] = frozenset()
    until: int | None = None

    @property
    def delivery_seconds(self) -> float:
        """Return how long the end of the job waits for the upload; what is to go on soon doesn't."""
        return DELIVERY_SECONDS if self.until is None else 0.0


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """The result of a trial. state: TRAINED, RESUMED, REUSED, FAILED, ELSEWHERE or NOT_DONE."""

    sha256: str
    state: str
    run_id: str | None = None
    folder: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    undelivered: int = 0
    shared_with: str = ""
    refused: tuple[str, ...] = ()
    unregistered: str = ""
    diverged: bool = False

    @classmethod
    def of_existing(cls, sha256: str, run: ExistingRun) -> "TrialResult":
        """Return the result of a trial whose run is COMPLETED, and so REUSED, or ELSEWHERE."""
        state = REUSED if run.state == COMPLETED else ELSEWHERE
        return cls(sha256=sha256, state=state, run_id=run.run_id, folder=run.folder, metrics=run.metrics)


def make_job_specs(
    plan: SweepPlan, tags: Mapping[str, str], register: bool, data_dir: Path | None
) -> list[JobSpec]:
    """Return one specification for each job of the plan."""
    since = time.strftime("%Y%m%dT%H%M", time.gmtime(time.time() - 60))

    def known(job: TrainingJob) -> Iterator[LocalRunInfo]:
        sha256s = {trial.sha256 for trial in job.trials}
        for run in plan.local:
            if (run.sha256 in sha256s or run.fingerprint == job.fingerprint) and run.folder.name < since:
                yield run

    return [
        JobSpec(
            number=number, job=job, tags=tags, register=register, data_dir=data_dir, known=tuple(known(job)),
            since=since, ignored=plan.ignored,
        )
        for number, job in enumerate(plan.jobs, 1)
    ]  # fmt: skip
