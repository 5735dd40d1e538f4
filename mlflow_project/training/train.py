"""Train one configuration as one run, or resume an interrupted run."""

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.errors import ConfigurationError
from hw2.common.formatting import plural
from hw2.training.config import LATER, TrainingConfig
from mlflow_project.common.errors import RunError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import redact
from mlflow_project.tracking.journal.delivery_status import pending_warning
from mlflow_project.training.progress import ProgressListener
from mlflow_project.training.run_spec import RunResult, RunSpec, read_run_spec

_DECISIVE = ("lr", "epochs", "batch_size", "optimizer", "momentum", "warmup", "seed", *LATER)

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
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> RunResult:
    """Train and evaluate one configuration as one MLflow run, and register its model.

    Args:
        config: What to train; the defaults where None.
        data_dir: Folder of the full data; without it torchvision's cache, else the bundled sample.
        download: Whether torchvision may download a data set that isn't on the disk.
        register: Whether the model becomes a version of the registered model.
        run_id: An existing MLflow run to log into.
        listener: Receives progress.
        shutdown: Receives signals; a first one stops the training after a checkpoint.
        options: Fields of the configuration, as in `train(lr=0.1, epochs=8)`.

    Raises:
        RunError: The run didn't finish.
        Interrupted: A signal came; the run is marked KILLED and can be resumed.
        ConfigurationError, DataError: The configuration or its data can't be had, before there is a run.
        StoreError, UsageError: Nothing can ever be uploaded to the store; likewise.
    """
    from mlflow_project.tracking.experiment import require_active_experiment
    from mlflow_project.tracking.new_run import checked_uri
    from mlflow_project.training import inputs
    from mlflow_project.training.shared_training import SharedTraining
    from mlflow_project.training.tracked_run import TrackedRun

    config, listener = (
        dataclasses.replace(config or TrainingConfig(), **options),
        listener or ProgressListener(),
    )
    with shutdown or GracefulShutdown() as shutdown:
        checked_uri()
        config, loaded = inputs.load(config, data_dir, download, listener)
        if loaded.dataset.is_sample:
            listener.warning(inputs.sample_warning(len(loaded.dataset.train)))
        shutdown.check()
        if run_id is None:
            require_active_experiment()
        plan = RunSpec(config=config, data_dir=data_dir, run_id=run_id, register=register)
        run = TrackedRun.start(plan, loaded, listener)
        _introduce(run, loaded, listener)
        return _finished(SharedTraining([run], loaded, listener, shutdown).execute()[0], listener)


def resume(
    run_id: str,
    *,
    data_dir: Path | None = None,
    adopted_run_id: str | None = None,
    listener: ProgressListener | None = None,
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> RunResult:
    """Resume an interrupted run from its last checkpoint.

    Args:
        run_id: The run's id, or the name of its folder.
        data_dir: Another folder with the run's data.
        adopted_run_id: An MLflow run that was created for this resumption; it gets a reference to the resumed run.
        listener: Receives progress.
        shutdown: Receives signals.
        options: Fields of the configuration; they must be the run's own.

    Raises:
        ConfigurationError: An option is another than the run was begun with.
        RunError: The run is finished, can't be found, was computed otherwise, or didn't finish now either.
        Interrupted: A signal came; the run can be resumed again.
    """
    from hw2.training.fingerprint import fingerprint
    from mlflow_project.tracking.delivery.session import require_destination
    from mlflow_project.tracking.journal import local_runs
    from mlflow_project.tracking.new_run import claim_given_run, note_claimed
    from mlflow_project.training import inputs
    from mlflow_project.training.shared_training import SharedTraining, checkpoint_warning, find_checkpoint
    from mlflow_project.training.tracked_run import TrackedRun, redirect_run

    listener = listener or ProgressListener()
    with shutdown or GracefulShutdown() as shutdown:
        local = local_runs.find(run_id)
        if local.state == "finished":
            raise RunError(f"run {run_id} is finished; start a new one to train more")
        plan = read_run_spec(local.folder)
        _require_same(run_id, plan.config, options)
        config, loaded = inputs.load(plan.config, data_dir or plan.data_dir, listener=listener)
        identity = fingerprint(config, loaded.dataset.sha256, loaded.runtime, loaded.train.spec)
        recorded = local.header.tags["fingerprint"]
        if identity != recorded:
            # What the run has logged already would not fit what is computed now.
            raise RunError(
                f"run {run_id} has fingerprint {recorded[:12]}, here it would be {identity[:12]}: other code, images, "
                "machine or number of threads; start a new run instead"
            )
        shutdown.check()
        adopted = adopted_run_id if adopted_run_id and adopted_run_id != local.run_id else None
        if adopted_run_id and not adopted:
            note_claimed(adopted_run_id)
        require_destination(local.folder)
        key = claim_given_run(adopted) if adopted else ""
        with ExitStack() as stack:
            run = TrackedRun.reopen(local.folder, listener, {"resumed_by": adopted} if adopted else None)
            other = (
                stack.enter_context(redirect_run(adopted, key, local.header, listener)) if adopted else None
            )
            # Only now that no other process can add to it.
            _, start = find_checkpoint([local.folder], identity, config.epochs)
            if problem := checkpoint_warning(local.folder, start):
                listener.warning(problem)
            done = "the beginning" if start is None else f"epoch {start.epoch + 1}, batch {start.batch + 1}"
            listener.info(f"run {run.name} resumes at {done}")
            _introduce(run, loaded, listener)
            result = SharedTraining([run], loaded, listener, shutdown).execute(start)[0]
            if other is not None and result.status != "FINISHED":
                other.problem = result.reason
        return _finished(result, listener)


def _require_same(run_id: str, config: TrainingConfig, options: Mapping[str, Any]) -> None:
    """Refuse options that would change what decides a run's weights; others are taken from the run as they are."""
    for name in _DECISIVE:
        begun = getattr(config, name)
        value = options.get(name, begun)
        if value != begun:
            raise ConfigurationError(
                f"{name} is {value} but run {run_id} was begun with {begun}, and is resumed as it was begun; leave "
                f"{name} out, or start a new run"
            )


def _introduce(run: "TrackedRun", loaded: "TrainingInputs", listener: ProgressListener) -> None:
    """Tell at once what is trained, and where it is as soon as the server has named it."""
    from mlflow_project.training import inputs

    config, runtime, where = run.plan.config, loaded.runtime, redact(run.journal.header.tracking_uri)
    measured = (
        inputs.by_autograd(config, loaded.train.spec) and config.threads == 0 and runtime.device == "cpu"
    )
    listener.info(
        f"{config.name} on {loaded.dataset.name} ({plural(len(loaded.train), 'image')}), "
        f"{runtime.device}, {runtime.precision}, {plural(runtime.threads, 'thread')}"
        + (", the fastest for this net" if measured else "")
    )
    run.when_named(lambda run_id: listener.info(f"run {run_id} in {where}"))


def _finished(result: RunResult, listener: ProgressListener) -> RunResult:
    """Return the result of a FINISHED run, raise RunError otherwise; tell what is not uploaded."""
    rejected = result.delivery.refused if result.delivery else ()
    for warning in filter(None, (pending_warning(result.delivery, result.folder), *rejected)):
        listener.warning(warning)
    for note in result.delivery.notes if result.delivery else ():
        listener.info(f"Note: {note}")
    if result.status != "FINISHED":
        raise RunError(
            f"{result.reason}; run {result.run_id or result.folder.name} is marked {result.status}"
        )
    return result
