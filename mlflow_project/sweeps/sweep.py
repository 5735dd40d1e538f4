"""A sweep from its specification to its results: what `sweep` and `reproduce` have in common."""

import dataclasses
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw2.common.formatting import plural
from hw2.training.config import TrainingConfig
from mlflow_project.common.errors import Interrupted, ServiceError, StoreError, SweepError
from mlflow_project.common.names import SWEEP_TAG
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import redact
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.executors import Executor, ProcessExecutor, SerialExecutor
from mlflow_project.sweeps.existing_runs import COMPLETED, ELSEWHERE
from mlflow_project.sweeps.job_runner import lock_path
from mlflow_project.sweeps.job_spec import FAILED, NOT_DONE, REUSED, TrialResult, make_job_specs
from mlflow_project.sweeps.parent_run import ParentRun, best_runs, summary
from mlflow_project.sweeps.plan import Grid, SweepPlan, Trial, make_plan
from mlflow_project.sweeps.request import PreparedSweep, SweepSpec, plan_line, prepare
from mlflow_project.tracking.active_run import DELIVERY_SECONDS
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.delivery_status import DeliveryStatus, require_taken
from mlflow_project.tracking.journal.locks import is_locked
from mlflow_project.training.progress import ProgressListener
from mlflow_project.training.run_spec import registered_name

# For trials that another process has: one whose sweep was killed needs some seconds to notice and to end.
ELSEWHERE_SECONDS = 30.0
# Trials; a page with more figures is read by nobody, and `report --runs` makes one of those that matter.
LONGEST_REPORT = 20


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """A sweep that has ended: its plan, and the result of each trial by its SHA-256.

    run_id: of the run above the trials' runs; None while the server hasn't named it. folder: of that run.
    """

    plan: SweepPlan
    results: Mapping[str, TrialResult]
    run_id: str | None
    folder: Path
    delivery: DeliveryStatus | None = None

    @classmethod
    def of(cls, prepared: PreparedSweep, parent: ParentRun) -> "SweepResult":
        """Return the result of a sweep whose trials have ended."""
        journal = parent.journal
        return cls(
            plan=prepared.plan,
            results=parent.results,
            run_id=journal.run_id,
            folder=journal.folder,
            delivery=parent.delivery,
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each trial, in the grid's order."""
        return summary(self.plan, self.results)

    def best_runs(self) -> list[str]:
        """Return the ids of the runs that can be compared at a glance, the most accurate first."""
        return best_runs(self.results)

    def raise_failure(self) -> None:
        """Raise SweepError unless every trial is complete and its model, if it was to be, registered.

        Raises:
            StoreError: The server refuses this user and has taken nothing.
        """
        problem = failure(self.plan, self.results)
        if problem:
            raise SweepError(f"{problem}; run the same sweep again for only these")
        lost = [trial for trial in self.plan.trials if self.results[trial.sha256].unregistered]
        if lost:
            raise SweepError(
                f"{len(lost)} of {plural(len(self.plan.trials), 'model')} couldn't be registered "
                f"({lost[0].config.name}: {self.results[lost[0].sha256].unregistered}); "
                "run the same sweep again, or register them in MLflow"
            )
        require_taken(self.delivery)


def sweep(
    base: TrainingConfig | None = None,
    *,
    lr: Sequence[float] = (),
    epochs: Sequence[int] = (),
    batch_size: Sequence[int] = (),
    seeds: Sequence[int] = (),
    listener: ProgressListener | None = None,
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> SweepResult:
    """Train every configuration of a grid as one run each, below a run for the grid; nothing is computed twice.

    A trial that fails doesn't stop the others: see `SweepResult.raise_failure`.

    Args:
        base: What all trials have in common.
        lr, epochs, batch_size, seeds: Values of each axis; that of `base` where none is given.
        listener: Is told of the progress.
        shutdown: Is asked between steps whether a signal has come.
        options: Further fields of `SweepSpec`, such as data_dir, register and workers.

    Raises:
        Interrupted: A signal came; the same sweep again resumes it.
    """
    grid = Grid.of(base or TrainingConfig(), lr, epochs, batch_size, seeds)
    return run_request(SweepSpec(name=grid.name, configs=grid.configs(), **options), listener, shutdown)


def run_request(
    request: SweepSpec, listener: ProgressListener | None = None, shutdown: GracefulShutdown | None = None
) -> SweepResult:
    """Carry a request out, with a report of its trials; see `sweep`."""
    listener = listener or ProgressListener()
    with shutdown or GracefulShutdown() as shutdown:
        prepared = prepare(request, listener)
        shutdown.check()
        with open_parent(prepared, listener) as parent:
            run_sweep(prepared, parent, listener, shutdown)
            add_report(prepared, parent, listener)
    return SweepResult.of(prepared, parent)


@contextmanager
def open_parent(prepared: PreparedSweep, listener: ProgressListener) -> Iterator[ParentRun]:
    """Open the run of the grid and announce the plan; at its end, however it comes, warn of what isn't uploaded."""
    listener.info(plan_line(prepared))
    parent = ParentRun(prepared.plan, prepared.request.name, listener)
    verb, uri = "resuming" if parent.resumed else "started", redact(parent.journal.header.tracking_uri)
    parent.when_named(lambda run_id: listener.info(f"{verb} sweep run {run_id} in {uri}"))
    try:
        with parent:
            yield parent
    finally:
        _warn_undelivered(parent, listener)


def _warn_undelivered(parent: ParentRun, listener: ProgressListener) -> None:
    """Warn of what the server hasn't got of an ended sweep, and of what it rejected."""
    delivery = parent.delivery
    assert delivery is not None
    results = parent.results.values()
    for refused in dict.fromkeys(
        [*delivery.refused, *(text for result in results for text in result.refused)]
    ):
        listener.warning(refused)
    pending = delivery.pending + sum(result.undelivered for result in results)
    if pending:
        problem = f" ({delivery.problem})" if delivery.problem else ""
        entries = plural(pending, "log entry", "log entries")
        listener.warning(f"{entries} not uploaded{problem}; upload with: mlflow-project sync")


def run_sweep(
    prepared: PreparedSweep, parent: ParentRun, listener: ProgressListener, shutdown: GracefulShutdown
) -> None:
    """Run the trials that the plan says are missing; the results are in `parent.results`.

    A trial that fails doesn't stop the others.

    Raises:
        Interrupted: A signal came.
    """
    results = parent.results
    try:
        _run_pass(prepared, prepared.plan, parent, listener, shutdown)
        left = [trial for trial in prepared.plan.trials if results[trial.sha256].state == ELSEWHERE]
        if left and _wait_for(left, results, listener, shutdown):
            aliases = {trial.config: trial.aliases for trial in left}
            register = prepared.request.register
            plan = make_plan(list(aliases), prepared.dataset, prepared.store, aliases, register=register)
            _run_pass(prepared, plan, parent, listener, shutdown)
    except Interrupted as error:
        name = signal.Signals(error.signal_number).name
        raise Interrupted(
            error.signal_number,
            f"stopped by {name}; unfinished runs are marked KILLED; run the same command again to resume",
        ) from error
    parent.problem = failure(prepared.plan, results)


def add_report(prepared: PreparedSweep, parent: ParentRun, listener: ProgressListener) -> None:
    """Add the report on the sweep's trials to its run, where it can be made: several trials, all uploaded."""
    results = [parent.results[trial.sha256] for trial in prepared.plan.trials]
    runs = [result.run_id for result in results if "test_accuracy" in result.metrics and result.run_id]
    late = any(result.undelivered for result in results)
    if prepared.store is None or late or not 1 < len(runs) <= LONGEST_REPORT:
        why = (
            "not all of it is uploaded yet"
            if prepared.store is None or late
            else f"a report takes 2 to {LONGEST_REPORT} complete trials, and there are {len(runs)}"
        )
        name = parent.journal.run_id or parent.journal.header.key
        listener.info(
            f"no report added to the sweep: {why}; make one with: mlflow-project report --sweep {name}"
        )
        return
    parent.attach_report(prepared.store.client, runs, listener)


def failure(plan: SweepPlan, results: Mapping[str, TrialResult]) -> str | None:
    """Return one line about the trials that aren't complete; None if all are."""
    problems = []
    for state, words in ((FAILED, "failed"), (ELSEWHERE, "are running elsewhere"), (NOT_DONE, "weren't run")):
        trials = [trial for trial in plan.trials if results[trial.sha256].state == state]
        if trials:
            first = results[trials[0].sha256].reason
            reason = f": {first}" if first else ""
            problems.append(
                f"{len(trials)} of {plural(len(plan.trials), 'trial')} {words} ({trials[0].config.name}{reason})"
            )
    return "; ".join(problems) or None


def _run_pass(
    prepared: PreparedSweep,
    plan: SweepPlan,
    parent: ParentRun,
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> None:
    request, results = prepared.request, parent.results
    for trial in plan.trials:
        if trial.existing is not None and trial.state in (COMPLETED, ELSEWHERE):
            results[trial.sha256] = TrialResult.of_existing(trial.sha256, trial.existing)
        else:
            results[trial.sha256] = TrialResult(sha256=trial.sha256, state=NOT_DONE)
    results |= _upload_reused(prepared, plan, results, shutdown)
    results |= _register_reused(prepared, plan, results)
    data_dir = request.data_dir.expanduser().absolute() if request.data_dir else None
    specs = make_job_specs(plan, parent.tags, request.register, data_dir)
    if not specs:
        return
    names = {trial.sha256: trial.config.name for trial in plan.trials}
    for result in make_executor(request.engine, request.workers, request.address).run(
        specs, listener, shutdown
    ):
        results[result.sha256] = result
        accuracy = result.metrics.get("test_accuracy")
        detail = result.reason if accuracy is None else f"test accuracy {accuracy:.4f}, run {result.run_id}"
        listener.info(f"{names[result.sha256]}: {result.state}{', ' if detail else ''}{detail}")


def _upload_reused(
    prepared: PreparedSweep,
    plan: SweepPlan,
    results: Mapping[str, TrialResult],
    shutdown: GracefulShutdown,
) -> dict[str, TrialResult]:
    """Upload what is pending of reused trials, a bounded time; return the results that this has changed."""
    reused = {sha256: result for sha256, result in results.items() if result.state == REUSED}
    # Oldest first: a trial names the run above it, which must be in MLflow before.
    late = [local.folder for local in plan.local if local.sha256 in reused or SWEEP_TAG in local.tags]
    deadline = time.monotonic() + (DELIVERY_SECONDS if prepared.store else 0.0)
    uploaded: dict[str, TrialResult] = {}
    for run in filter(None, map(existing_runs.read_local_run, late)):
        if not run.pending or run.state == "alive":
            continue
        pending, run_id = run.pending, run.run_id
        while is_locked(run.folder / format.SENDING_LOCK) and time.monotonic() < deadline:
            shutdown.check()
            time.sleep(0.1)
        if time.monotonic() < deadline:
            shutdown.check()
            delivery = deliver(run.folder, deadline - time.monotonic())
            pending, run_id = delivery.pending, delivery.run_id
            if pending:
                deadline = 0.0  # a server that hasn't taken one run won't take the others
        result = reused.get(run.header.tags.get("configuration_sha256", ""))
        if result is not None and (result.folder == run.folder or result.run_id == run_id):
            uploaded[result.sha256] = dataclasses.replace(result, run_id=run_id, undelivered=pending)
    return uploaded


def _register_reused(
    prepared: PreparedSweep, plan: SweepPlan, results: Mapping[str, TrialResult]
) -> dict[str, TrialResult]:
    """Register the reused trials that were trained without it; return the results of those that couldn't be."""
    failed = {}
    for trial in plan.trials:
        folder = trial.existing and trial.existing.unregistered
        if not folder:
            continue
        result = results[trial.sha256]
        try:
            if prepared.store is None or result.undelivered:
                raise StoreError("not all of it is uploaded yet")
            name = registered_name(trial.config, prepared.dataset)
            existing_runs.register(folder, name, prepared.dataset.spec, trial.aliases)
        except ServiceError as error:
            failed[trial.sha256] = dataclasses.replace(result, unregistered=str(error))
    return failed


def make_executor(engine: str, workers: int, address: str | None) -> Executor:
    """Return where jobs run: engine is local or ray, address that of a cluster."""
    if engine == "ray":
        from mlflow_project.sweeps.ray_executor import RayExecutor

        return RayExecutor(workers, address)
    return SerialExecutor() if workers == 1 else ProcessExecutor(workers)


def _wait_for(
    trials: Sequence[Trial],
    results: Mapping[str, TrialResult],
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> bool:
    """Wait a bounded time until no other process runs these trials; return whether none does."""
    listener.info(f"waiting for {plural(len(trials), 'trial')} that another process is running")
    deadline = time.monotonic() + ELSEWHERE_SECONDS
    paths = [lock_path(trial.sha256) for trial in trials]
    folders = (results[trial.sha256].folder for trial in trials)
    paths += [folder / format.LOCK for folder in folders if folder is not None]
    while any(is_locked(path) for path in paths):
        shutdown.check()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
