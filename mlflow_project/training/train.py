"""One configuration trained as one run, or an interrupted run brought to its end."""

import dataclasses
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.training.config import TrainingConfig
from mlflow_project.common.errors import RunError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import redact
from mlflow_project.tracking.delivery.status import undelivered
from mlflow_project.training.progress import NullListener, ProgressListener
from mlflow_project.training.run_spec import RunResult, RunSpec, read_run_spec

if TYPE_CHECKING:
    from mlflow_project.training.inputs import TrainingInputs
    from mlflow_project.training.tracked_run import TrackedRun


def train(
    config: TrainingConfig | None = None,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    register: bool = True,
    run_id: str | None = None,
    listener: ProgressListener | None = None,
    interruption: GracefulShutdown | None = None,
    **options: Any,
) -> RunResult:
    """Train and evaluate one configuration as one MLflow run, and register its model.

    Args:
        config: What to train; its defaults where none is given.
        data_dir: Folder of the full data; without it torchvision's cache, else the embedded sample.
        download: Whether torchvision may fetch a data set that isn't on the disk.
        register: Whether the model becomes a version of the registered model.
        run_id: An MLflow run that exists already.
        listener: Hears of the progress.
        interruption: Notes signals; a first one stops the training with its checkpoint kept.
        options: Fields of the configuration, as in `train(lr=0.1, epochs=8)`.

    Raises:
        RunError: The run didn't finish.
        Interrupted: A signal came; the run is marked KILLED and can be resumed.
        ConfigurationError, DataError: The configuration or its data can't be had, before there is a run.
    """
    config, listener = dataclasses.replace(config or TrainingConfig(), **options), listener or NullListener()
    plan = RunSpec(config=config, data_dir=data_dir, run_id=run_id, register=register)
    with interruption or GracefulShutdown() as interruption:
        return _finished(_start(plan, download, listener, interruption), listener)


def resume(
    run_id: str,
    *,
    data_dir: Path | None = None,
    given: str | None = None,
    listener: ProgressListener | None = None,
    interruption: GracefulShutdown | None = None,
) -> RunResult:
    """Bring an interrupted run to its end, from its last checkpoint on.

    Args:
        run_id: The run's id, or the name of its folder.
        data_dir: Another folder of the same data than the run began with.
        given: An MLflow run that was made for this resumption; it says which run goes on instead.
        listener: Hears of the progress.
        interruption: Notes signals.

    Raises:
        RunError: The run is finished, can't be found, was computed otherwise, or didn't finish now either.
        Interrupted: A signal came; the run can be resumed again.
    """
    listener = listener or NullListener()
    with interruption or GracefulShutdown() as interruption:
        return _finished(_resume(run_id, data_dir, given, listener, interruption), listener)


def _start(
    plan: RunSpec, download: bool, listener: ProgressListener, interruption: GracefulShutdown
) -> RunResult:
    from mlflow_project.training import inputs
    from mlflow_project.training.shared_training import SharedTraining
    from mlflow_project.training.tracked_run import TrackedRun

    config, loaded = inputs.load(plan.config, plan.data_dir, download)
    if loaded.dataset.is_sample:
        listener.warning(
            f"training on the embedded sample of {len(loaded.dataset.train):,} images; "
            "give the full data by --data-dir DIR, or --download"
        )
    interruption.check()
    run = TrackedRun.start(dataclasses.replace(plan, config=config), loaded, listener)
    _introduce(run, loaded, listener)
    return SharedTraining([run], loaded, listener, interruption).execute()[0]


def _resume(
    name: str,
    data_dir: Path | None,
    given: str | None,
    listener: ProgressListener,
    interruption: GracefulShutdown,
) -> RunResult:
    from hw2.training.fingerprint import fingerprint
    from mlflow_project.tracking.delivery.session import require_destination
    from mlflow_project.tracking.journal import local_runs
    from mlflow_project.tracking.new_run import note_taken, take_given_run
    from mlflow_project.training import inputs
    from mlflow_project.training.shared_training import SharedTraining, checkpoint_warning, find_checkpoint
    from mlflow_project.training.tracked_run import TrackedRun, redirect_run

    local = local_runs.find(name)
    if local.state == "finished":
        raise RunError(f"run {name} is finished; start a new one to train more")
    plan = read_run_spec(local.folder)
    config, loaded = inputs.load(plan.config, data_dir or plan.data_dir)
    identity = fingerprint(config, loaded.dataset.sha256, loaded.runtime)
    recorded = local.header.tags["fingerprint"]
    if identity != recorded:
        # What the run has said already would not fit what is computed now.
        raise RunError(
            f"run {name} has fingerprint {recorded[:12]}, here it would be {identity[:12]}: other code, images, "
            "machine or number of threads; start a new run instead"
        )
    interruption.check()
    adopted = given if given and given != local.run_id else None
    if given and not adopted:
        note_taken(given)
    require_destination(local.folder)
    key = take_given_run(adopted) if adopted else ""
    with ExitStack() as stack:
        run = TrackedRun.reopen(local.folder, listener, {"resumed_by": adopted} if adopted else None)
        other = stack.enter_context(redirect_run(adopted, key, local.header, listener)) if adopted else None
        # Only now that no other process can add to it.
        _, start = find_checkpoint([local.folder], identity, config.epochs)
        if damage := checkpoint_warning(local.folder, start):
            listener.warning(damage)
        done = "the beginning" if start is None else f"epoch {start.epoch + 1}, batch {start.batch + 1}"
        listener.info(f"run {run.name} goes on from {done}")
        _introduce(run, loaded, listener)
        result = SharedTraining([run], loaded, listener, interruption).execute(start)[0]
        if other is not None and result.status != "FINISHED":
            other.problem = result.reason
    return result


def _introduce(run: "TrackedRun", loaded: "TrainingInputs", listener: ProgressListener) -> None:
    """Tell at once what is trained, and where it is found as soon as the server has named it."""
    runtime, where = loaded.runtime, redact(run.journal.header.tracking_uri)
    listener.info(
        f"{run.plan.config.name} on {loaded.dataset.name} ({len(loaded.train):,} images), "
        f"{runtime.device}, {runtime.precision}, {runtime.threads} threads"
    )
    run.when_named(lambda run_id: listener.info(f"run {run_id} in {where}"))


def _finished(result: RunResult, listener: ProgressListener) -> RunResult:
    """The result of a run that is FINISHED, RunError otherwise; tells what MLflow hasn't got of it."""
    kept = undelivered(result.delivery, result.folder)
    refused = result.delivery.refused if result.delivery else ()
    for warning in ([] if kept is None else [kept]) + list(refused):
        listener.warning(warning)
    if result.status != "FINISHED":
        raise RunError(
            f"{result.reason}; run {result.run_id or result.folder.name} is marked {result.status}"
        )
    return result
