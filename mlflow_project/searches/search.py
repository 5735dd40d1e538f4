"""A search from its specification to its result."""

import dataclasses
import hashlib
import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.formatting import format_percent, plural
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import config_hash
from mlflow_project.common.errors import DestinationError, Interrupted, StoreError, UsageError
from mlflow_project.common.names import PARENT_TAG
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import absolute_uri, redact, tracking_uri
from mlflow_project.searches.finish import explain_stops, judge, run_tests, upload
from mlflow_project.searches.halving import Outcome, Step
from mlflow_project.searches.order import run_in_order
from mlflow_project.searches.request import SearchSpec
from mlflow_project.searches.search_run import SearchRun
from mlflow_project.searches.steps import StepRunner
from mlflow_project.searches.study import Study, require_optuna
from mlflow_project.searches.trials import PreparedSearch, Trials
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.job_spec import TRAINED, TrialResult
from mlflow_project.sweeps.request import divide_threads
from mlflow_project.sweeps.sweep import make_executor
from mlflow_project.tracking.experiment import experiment_name
from mlflow_project.tracking.journal.delivery_status import DeliveryStatus, require_taken
from mlflow_project.training import inputs
from mlflow_project.training.progress import ProgressListener

if TYPE_CHECKING:
    from mlflow_project.training.ui_views import View

REPORT_SECONDS = 30.0
"""For the upload of the tables that the report shows."""
SHOWN = 8
"""Trials in the table of the best while a search runs."""
STOPPED, TESTED, COMPLETE, FAILED = "stopped", "tested", "complete", "failed"


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """A search that has ended.

    rows: one for each trial, the best first. verdict: in sentences. winner_run_id: None while the server hasn't named
    it. run_id, folder: of the run above the trials'.
    """

    rows: Sequence[Mapping[str, Any]]
    verdict: str
    winner: TrainingConfig
    winner_run_id: str | None
    tested: Sequence[str]
    run_id: str | None
    folder: Path
    table: "View"
    delivery: DeliveryStatus | None = None

    def require_delivery(self) -> None:
        """Raise StoreError where the server refuses this user and has taken nothing."""
        require_taken(self.delivery)


def search(
    base: TrainingConfig | None = None,
    *,
    listener: ProgressListener | None = None,
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> SearchResult:
    """Search the best configuration within a budget; one run a trial, below a run for the search.

    A search that was interrupted goes on when it is started again, and ends as if it had not been.

    Args:
        base: What all trials have in common.
        listener: Is told of the progress.
        shutdown: Is asked between steps whether a signal has come.
        options: The axes `lr`, `batch_size`, `momentum` and `epochs`, as in `lr="0.001..0.3"`, the `budget`, as in
            `"60epochs"`, and further fields of `SearchSpec`, such as trials, workers and data_dir.

    Raises:
        UsageError: It can't be searched.
        SweepError: Every trial has failed, or one otherwise than by diverging.
        Interrupted: A signal came; the same search again goes on.
    """
    return run_search(SearchSpec.of(base, **options), listener, shutdown)


def run_search(
    spec: SearchSpec, listener: ProgressListener | None = None, shutdown: GracefulShutdown | None = None
) -> SearchResult:
    """Carry a specification out; see `search`."""
    listener = listener or ProgressListener()
    require_optuna()
    with shutdown or GracefulShutdown() as shutdown:
        prepared = prepare(spec, listener)
        shutdown.check()
        with SearchRun(prepared, listener) as parent:
            try:
                result = _run(prepared, parent, listener, shutdown)
            except Interrupted as error:
                name = signal.Signals(error.signal_number).name
                raise Interrupted(
                    error.signal_number,
                    f"stopped by {name}; unfinished runs are marked KILLED; run the same command again to go on",
                ) from error
    # Only the end of the run above has waited for the server.
    return dataclasses.replace(result, run_id=parent.journal.run_id, delivery=parent.delivery)


def prepare(spec: SearchSpec, listener: ProgressListener) -> PreparedSearch:
    """Load the images and connect to the store.

    Raises:
        DataError, ConfigurationError, SweepError: They can't be had.
    """
    from mlflow_project.tracking.delivery.client import connect

    spec.check_destination()
    config, loaded = inputs.load(spec.base, spec.data_dir, spec.download, listener)
    config = divide_threads(config, spec.workers, loaded.dataset.identity.spec)
    if loaded.dataset.is_sample:
        listener.warning(inputs.sample_warning(len(loaded.dataset.train)))
    if loaded.validation is None:
        raise UsageError(
            "no images are left for validation, by which a search chooses; use a larger data set"
        )
    store = None
    try:
        store = existing_runs.ExperimentIndex(connect(create=True))
    except DestinationError:
        raise
    except StoreError as error:
        listener.warning(f"{error}; only runs of this machine can be reused")
    decisive = {
        **spec.identity(),
        "base": config_hash(config, loaded.dataset.sha256),
        "threads": config.threads,
        "store": absolute_uri(tracking_uri()),
        "experiment": experiment_name(),
    }
    sha256 = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return PreparedSearch(spec, config, loaded, store, sha256)


def _run(
    prepared: PreparedSearch, parent: SearchRun, listener: ProgressListener, shutdown: GracefulShutdown
) -> SearchResult:
    spec = prepared.spec
    study = Study(spec.study, prepared.sha256, spec.name, spec.space)
    trials = Trials(prepared, study)
    verb, uri = "resuming" if parent.resumed else "started", redact(parent.journal.header.tracking_uri)
    parent.when_named(lambda run_id: listener.info(f"{verb} search run {run_id} in {uri}"))
    listener.info(f"searching {spec.name}; rungs at {', '.join(map(str, spec.rungs))} epochs")
    _train(trials, parent, listener, shutdown)
    verdict = judge(trials, parent.folders_of(trials))
    listener.info(
        f"testing {plural(len(verdict.finalists), 'model')}: the winner and what can't be told from it"
    )
    workers = min(spec.workers, len(verdict.finalists))
    executor = make_executor(spec.engine, workers, spec.address)
    tested = run_tests(trials, verdict.finalists, parent.tags, executor, listener, shutdown)
    parent.results |= {result.sha256: result for result in tested.values()}
    _end_trials(trials, parent, tested, listener)
    text, rows = verdict.text(tested), _rows(trials, parent, tested)
    parent.conclude(trials, rows, verdict, text)
    runs = [str(result.run_id) for result in tested.values() if result.run_id]
    _add_report(prepared, parent, runs, listener)
    return SearchResult(
        rows=rows,
        verdict=text,
        winner=trials.config(verdict.winner.number),
        winner_run_id=tested[verdict.winner.number].run_id,
        tested=runs,
        run_id=parent.journal.run_id,
        folder=parent.folder,
        table=parent.table,
    )


def _train(trials: Trials, parent: SearchRun, listener: ProgressListener, shutdown: GracefulShutdown) -> None:
    """Train until the budget is spent, in the order that makes the decisions reproducible."""
    spec, halving = trials.prepared.spec, trials.halving
    runner = StepRunner(
        make_executor(spec.engine, spec.workers, spec.address), halving.rungs, listener, shutdown
    )

    def submit(step: Step) -> None:
        runner.submit(step, trials.job(step.number, step.rung, parent.tags))

    def wait(step: Step) -> Outcome:
        for done, outcome in runner.take():
            trials.record(done, outcome)
            if done == step:
                return outcome
        raise AssertionError(f"the executor has ended without a result of {step}")

    def announce(step: Step) -> None:
        shutdown.check()
        listener.info(_progress_line(trials, step))
        listener.standings(_standings_title(trials), _standings(trials))

    try:
        run_in_order(halving, spec.workers, trials.find, submit, wait, announce)
    finally:
        runner.close()
    for trial in halving.trials:
        sha256 = trials.sha256(trial.number)
        folder = runner.folders.get(sha256) or _own_folder(trials, trial.number, parent)
        if folder is not None:
            parent.results[sha256] = TrialResult(sha256=sha256, state=TRAINED, folder=folder)


def _own_folder(trials: Trials, number: int, parent: SearchRun) -> Path | None:
    """Return the folder of a trial's run that was trained before this process, or by earlier work."""
    sha256 = trials.sha256(number)
    runs = [run for run in trials.prepared.local if run.sha256 == sha256]
    existing = existing_runs.find_local_runs(runs, parent.tags[PARENT_TAG])
    return existing.folder if existing else None


def _end_trials(
    trials: Trials, parent: SearchRun, tested: Mapping[int, TrialResult], listener: ProgressListener
) -> None:
    """Say in each stopped run why it is, in the study how each has ended, and upload all of it."""
    halving, folders = trials.halving, parent.folders_of(trials)
    reasons = {}
    for trial in halving.trials:
        complete = trial.rung == len(halving.rungs) - 1
        trials.study.end(trial.number, complete, bool(trial.failed), trial.outcomes[-1].accuracy)
        stopped = trial.number not in tested and not trial.failed and not trials.is_reused(trial.number)
        if stopped and trial.number in folders:
            reasons[folders[trial.number]] = halving.describe_end(trial)
    explain_stops(reasons, listener)
    left = upload(folders.values())
    if left:
        listener.warning(
            f"{plural(left, 'log entry', 'log entries')} not uploaded; upload with: mlflow-project sync"
        )


def _rows(trials: Trials, parent: SearchRun, tested: Mapping[int, TrialResult]) -> list[dict[str, Any]]:
    from mlflow_project.tracking.journal import local_runs

    rows, folders = [], parent.folders_of(trials)
    for trial in _ranked(trials):
        number = trial.number
        outcome = trial.outcomes[-1]
        result = tested.get(number)
        complete = trial.rung == len(trials.halving.rungs) - 1
        state = FAILED if trial.failed else TESTED if result else STOPPED
        if trials.is_reused(number):
            state = f"{TESTED}, reused" if result else "reused"
        run_id = result.run_id if result else trials.study.proposals[number].reused_run_id
        if run_id is None and number in folders:
            run_id = local_runs.local_run(folders[number]).run_id or folders[number].name
        metrics = result.metrics if result else {}
        rows.append(
            {
                "trial": number + 1,
                "run": trials.config(number).name,
                **trials.study.proposals[number].params,
                "state": state,
                "epochs": trials.halving.rungs[trial.rung],
                "validation_accuracy": None if trial.failed else outcome.accuracy,
                **{
                    key: metrics.get(key)
                    for key in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
                },
                "run_id": run_id,
                "reason": "" if result and complete else trials.halving.describe_end(trial),
            }
        )
    return rows


def _ranked(trials: Trials) -> list[Any]:
    """Return the trials that have a result, those that went furthest first, and of these the best."""
    reached = [trial for trial in trials.halving.trials if trial.outcomes]
    return sorted(reached, key=lambda trial: (bool(trial.failed), -trial.rung, trial.key(trial.rung)))


def _progress_line(trials: Trials, step: Step) -> str:
    halving = trials.halving
    trial = halving.trials[step.number]
    values = " ".join(f"{key}={value:g}" for key, value in trials.study.proposals[step.number].params.items())
    reused = " (reused)" if trials.is_reused(step.number) else ""
    reached = f"failed: {trial.failed}" if trial.failed else halving.describe_end(trial).partition(";")[0]
    return f"trial {step.number + 1} ({values}){reused}: {reached}; {_spent(trials)}"


def _spent(trials: Trials) -> str:
    halving = trials.halving
    if halving.budget.epochs is not None:
        return f"{halving.epochs} of {plural(halving.budget.epochs, 'epoch')}"
    return f"{halving.epochs} epochs in {halving.seconds / halving.workers:,.0f} s of {halving.budget}"


def _standings_title(trials: Trials) -> str:
    return f"{plural(len(trials.halving.trials), 'trial')}, {_spent(trials)}; the best:"


def _standings(trials: Trials) -> list[dict[str, Any]]:
    halving = trials.halving
    rows = []
    for trial in _ranked(trials)[:SHOWN]:
        doing = "" if trial.target is None else f"training to {halving.rungs[trial.target]}"
        rows.append(
            {
                "trial": trial.number + 1,
                **trials.study.proposals[trial.number].params,
                "epochs": halving.rungs[trial.rung],
                "validation": "failed" if trial.failed else format_percent(trial.outcomes[-1].accuracy, 2),
                "": doing,
            }
        )
    return rows


def _add_report(
    prepared: PreparedSearch, parent: SearchRun, runs: Sequence[str], listener: ProgressListener
) -> None:
    """Add the report on the models that were tested, where they are uploaded."""
    if prepared.store is not None and runs and parent.wait_for_upload(REPORT_SECONDS):
        parent.attach_report(prepared.store.client, runs, listener)
