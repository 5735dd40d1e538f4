"""A sweep from request to results: what `sweep` and `reproduce` have in common."""

import dataclasses
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.configuration import TrainingConfig
from hw2.errors import ExperimentError
from mlflow_project import earlier, journal_file, pictures, stage
from mlflow_project.earlier import COMPLETED, ELSEWHERE
from mlflow_project.engines import Engine, InProcess, Processes
from mlflow_project.errors import Interrupted, ServiceError, StoreError, SweepError
from mlflow_project.locks import is_locked
from mlflow_project.names import SWEEP_TAG
from mlflow_project.open_run import DELIVERY_SECONDS
from mlflow_project.parent import ParentRun
from mlflow_project.sender import deliver
from mlflow_project.stage import FAILED, NOT_DONE, REUSED, Result
from mlflow_project.sweep import Cell, Plan, make_plan

if TYPE_CHECKING:
    from hw2.stored_set import DatasetIdentity
    from mlflow_project.console import Watcher
    from mlflow_project.interruption import Interruption
    from mlflow_project.pictures import Pictures

# For cells that another process has: one whose sweep was killed needs some seconds to notice and to end.
ELSEWHERE_SECONDS = 30.0
# Test, figures, export and registration of a cell on one core.
COMPLETION_SECONDS = 5.0
# Cells; a page with more figures is read by nobody, and `report --runs` makes one of those that matter.
LONGEST_REPORT = 20


@dataclass(frozen=True)
class Request:
    """What is to be done. aliases: of each configuration's registered version."""

    name: str
    configs: Sequence[TrainingConfig]
    data_dir: Path | None = None
    download: bool = False
    register: bool = True
    engine: str = "local"
    workers: int = 1
    address: str | None = None
    aliases: Mapping[TrainingConfig, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Planned:
    """A request with its plan; store is None while the tracking server is away."""

    request: Request
    dataset: "DatasetIdentity"
    store: "earlier.Store | None"
    plan: Plan

    def seconds(self) -> float | None:
        """How long it will take, reckoned from earlier runs on this host; None where there was none."""
        import platform

        if self.store is None or not self.plan.stages:
            return None if self.plan.stages else 0.0
        config = self.plan.stages[0].cells[0].config
        speed = self.store.images_per_second(platform.node(), config)
        if speed is None:
            return None
        cells = sum(len(stage.cells) for stage in self.plan.stages)
        each = self.dataset.training_pictures - (config.validation_size or 0)
        return self.plan.seconds(speed, each, self.request.workers) + cells * COMPLETION_SECONDS


@dataclass(frozen=True, eq=False)
class Prepared(Planned):
    """All that it takes to carry the plan out."""

    pictures: "Pictures"


def prepare(request: Request, watcher: "Watcher") -> Prepared:
    """Loads the pictures and makes the plan; says what a person should know about either."""
    configs = [_divided(config, request) for config in request.configs]
    _, loaded = pictures.load(configs[0], request.data_dir, request.download)
    dataset = loaded.dataset.identity
    return Prepared(request, dataset, *_plan(request, configs, dataset, watcher), loaded)


def preview(request: Request, watcher: "Watcher") -> Planned:
    """The plan alone, for somebody to see; in half the time, since nothing imports PyTorch for it."""
    configs = [_divided(config, request) for config in request.configs]
    _, dataset = pictures.identify(configs[0], request.data_dir, request.download)
    return Planned(request, dataset, *_plan(request, configs, dataset, watcher, only_shown=True))


def _plan(
    request: Request,
    configs: Sequence[TrainingConfig],
    dataset: "DatasetIdentity",
    watcher: "Watcher",
    only_shown: bool = False,
) -> "tuple[earlier.Store | None, Plan]":
    from mlflow_project.connection import client

    if dataset.is_sample:
        watcher.warning(
            f"training on the embedded sample of {dataset.training_pictures:,} pictures; "
            "give the full data by --data-dir DIR, or --download"
        )
    store = None
    aliases = _keyed(request, configs)
    try:
        opened = client()
        store = earlier.Store(opened)
        return store, make_plan(configs, dataset, store, aliases, only_shown)
    except StoreError as error:
        watcher.warning(f"{error}; what was done before is taken from this machine alone")
        return store, make_plan(configs, dataset, None, aliases, only_shown)


def carry_out(
    prepared: Prepared, parent: ParentRun, watcher: "Watcher", interruption: "Interruption"
) -> dict[str, Result]:
    """Does what the plan says is missing; the result of every cell, by its SHA-256, also in `parent.results`.

    A cell that fails doesn't stop the others.
    """
    try:
        return _all_rounds(prepared, parent, watcher, interruption)
    except Interrupted as error:
        name = signal.Signals(error.signal_number).name
        raise Interrupted(
            error.signal_number,
            f"stopped by {name}; what was at work is marked KILLED and kept; the same command again goes on with it",
        ) from error


def _all_rounds(
    prepared: Prepared, parent: ParentRun, watcher: "Watcher", interruption: "Interruption"
) -> dict[str, Result]:
    results = parent.results
    _round(prepared, prepared.plan, parent, watcher, interruption, results)
    left = [cell for cell in prepared.plan.cells if results[cell.sha256].how == ELSEWHERE]
    if left and _wait_for(left, results, watcher, interruption):
        aliases = {cell.config: cell.aliases for cell in left}
        plan = make_plan(list(aliases), prepared.dataset, prepared.store, aliases)
        _round(prepared, plan, parent, watcher, interruption, results)
    parent.problem = failure(prepared.plan, results)
    return results


def add_report(prepared: Prepared, parent: ParentRun, watcher: "Watcher") -> None:
    """Adds the page about the sweep's cells to its run, where that can be made: several cells, all delivered."""
    from mlflow_project import report
    from mlflow_project.selection import Selection

    results = [parent.results[cell.sha256] for cell in prepared.plan.cells]
    runs = [result.run_id for result in results if "test_accuracy" in result.metrics and result.run_id]
    late = any(result.undelivered for result in results)
    if prepared.store is None or late or not 1 < len(runs) <= LONGEST_REPORT:
        why = (
            "not all of it is delivered yet"
            if prepared.store is None or late
            else f"a page is of 2 to {LONGEST_REPORT} complete cells, and here are {len(runs)}"
        )
        name = parent.journal.run_id or parent.journal.header.key
        watcher.note(f"no report is added to the sweep: {why}; make one with: report --sweep {name}")
        return
    try:
        html, _ = report.make_report(prepared.store.client, Selection(runs=tuple(runs)))
    except (ExperimentError, ServiceError) as error:
        watcher.warning(f"the sweep has no report: {error}")
        return
    parent.attach(report.NAME, html)


def failure(plan: Plan, results: Mapping[str, Result]) -> str | None:
    """One line about the cells that aren't complete; None if all are."""
    said = []
    for how, words in ((FAILED, "failed"), (ELSEWHERE, "are running elsewhere"), (NOT_DONE, "weren't done")):
        cells = [cell for cell in plan.cells if results[cell.sha256].how == how]
        if cells:
            first = results[cells[0].sha256].reason
            reason = f": {first}" if first else ""
            said.append(f"{len(cells)} of {len(plan.cells)} cells {words} ({cells[0].config.name}{reason})")
    return "; ".join(said) or None


def raise_failure(plan: Plan, results: Mapping[str, Result]) -> None:
    """`SweepError` unless every cell is complete and its model, if it was to be, registered."""
    problem = failure(plan, results)
    if problem:
        raise SweepError(f"{problem}; the same sweep again does only these")
    lost = [cell for cell in plan.cells if results[cell.sha256].unregistered]
    if lost:
        raise SweepError(
            f"{len(lost)} of {len(plan.cells)} models aren't registered "
            f"({lost[0].config.name}: {results[lost[0].sha256].unregistered}); register them in MLflow"
        )


def _round(
    prepared: Prepared,
    plan: Plan,
    parent: ParentRun,
    watcher: "Watcher",
    interruption: "Interruption",
    results: dict[str, Result],
) -> None:
    request = prepared.request
    for cell in plan.cells:
        if cell.found is not None and cell.state in (COMPLETED, ELSEWHERE):
            how = REUSED if cell.state == COMPLETED else ELSEWHERE
            results[cell.sha256] = Result(
                cell.sha256, how, cell.found.run_id, cell.found.folder, cell.found.metrics
            )
        else:
            results[cell.sha256] = Result(cell.sha256, NOT_DONE)
    results |= _delivered(prepared, plan, results, interruption)
    data_dir = request.data_dir.expanduser().absolute() if request.data_dir else None
    tasks = stage.tasks(plan, parent.tags, request.register, data_dir)
    if not tasks:
        return
    names = {cell.sha256: cell.config.name for cell in plan.cells}
    for result in _engine(request).run(tasks, watcher, interruption):
        results[result.sha256] = result
        accuracy = result.metrics.get("test_accuracy")
        said = result.reason if accuracy is None else f"test accuracy {accuracy:.4f}, run {result.run_id}"
        watcher.note(f"{names[result.sha256]}: {result.how}{', ' if said else ''}{said}")


def _delivered(
    prepared: Prepared, plan: Plan, results: Mapping[str, Result], interruption: "Interruption"
) -> dict[str, Result]:
    """The reused cells whose process died before MLflow had all of them; that is tried again, a bounded time."""
    reused = {sha256: result for sha256, result in results.items() if result.how == REUSED}
    # Oldest first: a cell names the run above it, which must be in MLflow before.
    late = [local.folder for local in plan.local if local.sha256 in reused or SWEEP_TAG in local.tags]
    deadline = time.monotonic() + (DELIVERY_SECONDS if prepared.store else 0.0)
    told: dict[str, Result] = {}
    for run in filter(None, map(earlier.undelivered, late)):
        pending, run_id = run.pending, run.run_id
        while is_locked(run.folder / journal_file.SENDING_LOCK) and time.monotonic() < deadline:
            interruption.check()
            time.sleep(0.1)
        if time.monotonic() < deadline:
            interruption.check()
            delivery = deliver(run.folder, deadline - time.monotonic())
            pending, run_id = delivery.pending, delivery.run_id
            if pending:
                deadline = 0.0  # a server that hasn't taken one run won't take the others
        result = reused.get(run.header.tags.get("configuration_sha256", ""))
        if result is not None and (result.folder == run.folder or result.run_id == run_id):
            told[result.sha256] = dataclasses.replace(result, run_id=run_id, undelivered=pending)
    return told


def _engine(request: Request) -> Engine:
    if request.engine == "ray":
        from mlflow_project.engines_ray import RayCluster

        return RayCluster(request.workers, request.address)
    return InProcess() if request.workers == 1 else Processes(request.workers)


def _divided(config: TrainingConfig, request: Request) -> TrainingConfig:
    """Without threads asked for, each of several workers has its share of them."""
    if config.threads or request.workers == 1:
        return config
    import torch

    return dataclasses.replace(config, threads=max(1, torch.get_num_threads() // request.workers))


def _keyed(request: Request, configs: Sequence[TrainingConfig]) -> dict[TrainingConfig, tuple[str, ...]]:
    pairs = zip(request.configs, configs, strict=True)
    return {config: request.aliases.get(asked, ()) for asked, config in pairs}


def _wait_for(
    cells: Sequence[Cell], results: Mapping[str, Result], watcher: "Watcher", interruption: "Interruption"
) -> bool:
    """Waits a bounded time until another process has done with these cells; whether some are free now."""
    watcher.note(f"waiting for {len(cells)} cells that another process has")
    deadline = time.monotonic() + ELSEWHERE_SECONDS
    paths = [stage.lock_path(cell.sha256) for cell in cells]
    folders = (results[cell.sha256].folder for cell in cells)
    paths += [folder / journal_file.LOCK for folder in folders if folder is not None]
    while any(is_locked(path) for path in paths):
        interruption.check()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
