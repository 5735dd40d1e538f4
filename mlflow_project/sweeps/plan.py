"""A grid as a plan: which trials are done already, and which shared trainings do the rest.

Trials that differ in `epochs` alone are one training, from which each trial takes the state after its last epoch;
not where each batch's learning rate depends on their number.
A training begins where the most advanced fitting state is that an earlier run has left on this machine.
"""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.errors import CheckpointError
from hw2.common.formatting import format_float
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import config_hash, fingerprint
from mlflow_project.common.errors import RunError
from mlflow_project.common.names import CHECKPOINT
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import COMPLETED, ELSEWHERE, RESUMABLE, ExistingRun, LocalRunInfo
from mlflow_project.training import ui_views
from mlflow_project.training.inputs import resolve_validation_size, runtime_of
from mlflow_project.training.run_spec import read_run_spec, registered_name

if TYPE_CHECKING:
    from hw2.data.lookup import DatasetInfo

MISSING = "missing"
AXES = ("lr", "epochs", "batch_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values of each axis; `base` is all that the trials have in common."""

    base: TrainingConfig
    lr: tuple[float, ...]
    epochs: tuple[int, ...]
    batch_size: tuple[int, ...]
    seed: tuple[int, ...]

    @classmethod
    def of(
        cls,
        base: TrainingConfig,
        lr: Sequence[float] | None,
        epochs: Sequence[int] | None,
        batch_size: Sequence[int] | None,
        seeds: Sequence[int] | None,
    ) -> "Grid":
        """Return the grid of these values; those of `base` where an axis has none."""
        return cls(
            base=base,
            lr=tuple(lr or (base.lr,)),
            epochs=tuple(epochs or (base.epochs,)),
            batch_size=tuple(batch_size or (base.batch_size,)),
            seed=tuple(seeds or (base.seed,)),
        )

    def configs(self) -> list[TrainingConfig]:
        """Return one configuration for each trial; ConfigurationError for a value that can't be trained."""
        values = product(*(getattr(self, axis) for axis in AXES))
        return [
            dataclasses.replace(self.base, **dict(zip(AXES, trial, strict=True)))
            for trial in sorted(values, key=lambda trial: (trial[0], trial[2], trial[3], trial[1]))
        ]

    @property
    def name(self) -> str:
        """Return the axes as text, such as lr=0.1,0.01 epochs=5,8; one that has only its default is left out."""
        default = TrainingConfig()
        parts = [
            f"{axis}={','.join(map(format_float, getattr(self, axis)))}"
            for axis in AXES
            if axis in ("lr", "epochs") or getattr(self, axis) != (getattr(default, axis),)
        ]
        return " ".join(parts)


@dataclass(frozen=True)
class Trial:
    """One configuration of the grid and what there is of it. aliases: that its registered version gets."""

    config: TrainingConfig
    sha256: str
    existing: ExistingRun | None = None
    aliases: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """COMPLETED, ELSEWHERE, RESUMABLE or MISSING."""
        return self.existing.state if self.existing else MISSING


@dataclass(frozen=True)
class TrainingJob:
    """One training for the trials that it serves, by epochs, from `start` (epoch, batch) in the folder `source`."""

    trials: tuple[Trial, ...]
    fingerprint: str
    start: tuple[int, int] = (0, 0)
    source: Path | None = None

    @property
    def epochs(self) -> int:
        """Return how many epochs are still to be trained, one that has begun included."""
        return self.trials[-1].config.epochs - self.start[0]


@dataclass(frozen=True)
class SweepPlan:
    """trials in the grid's order, jobs for those that are to be done; ignored: local folders of deleted runs."""

    trials: tuple[Trial, ...]
    jobs: tuple[TrainingJob, ...]
    ignored: frozenset[str] = frozenset()
    local: tuple[LocalRunInfo, ...] = field(default=(), repr=False)

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of the grid: the same for the same trials, whatever their order and state."""
        return hashlib.sha256("\n".join(sorted(trial.sha256 for trial in self.trials)).encode()).hexdigest()

    @property
    def table(self) -> ui_views.View:
        """The view of MLflow's page of runs that tells the trials apart."""
        return ui_views.table_of(trial.config for trial in self.trials)

    @property
    def epochs(self) -> int:
        """Return how many epochs are to be trained."""
        return sum(job.epochs for job in self.jobs)

    @property
    def not_shared(self) -> str:
        """Say why trials that differ in epochs alone share no training; empty where they do, or there are none."""
        groups: dict[TrainingConfig, list[TrainingConfig]] = defaultdict(list)
        for trial in self.trials:
            groups[dataclasses.replace(trial.config, epochs=1)].append(trial.config)
        schedules = {
            group[0].schedule for group in groups.values() if len(group) > 1 and group[0].counts_epochs
        }
        if not schedules:
            return ""
        return (
            f"schedule {' and '.join(sorted(schedules))} has other rates for each number of epochs, so those that "
            "differ in epochs share no training"
        )

    @property
    def epochs_alone(self) -> int:
        """Return how many epochs the trials would train without sharing, each from the beginning."""
        return sum(trial.config.epochs for job in self.jobs for trial in job.trials)

    def seconds(self, images_per_second: float, images: int, workers: int) -> float:
        """Return how long the training takes on so many workers, at least as long as the longest job."""
        seconds = [job.epochs * images / images_per_second for job in self.jobs]
        return max([sum(seconds) / workers, *seconds], default=0.0)


def make_plan(
    configs: Sequence[TrainingConfig],
    dataset: "DatasetInfo",
    store: "existing_runs.ExperimentIndex | None",
    aliases: Mapping[TrainingConfig, tuple[str, ...]] | None = None,
    dry_run: bool = False,
    register: bool = False,
) -> SweepPlan:
    """Return what exists of these configurations and what is to be done.

    Args:
        configs: One for each trial.
        dataset: What they train on.
        store: None while the tracking server is unreachable; only runs of this machine are then known.
        aliases: For the registered version of each configuration.
        dry_run: Whether nobody will carry the plan out; jobs that begin at no earlier state then have no
            fingerprint, for which PyTorch would be imported.
        register: Whether all models are to be registered, and not only those that get an alias.
    """
    trials = {}
    for requested in configs:
        config = resolve_validation_size(requested, dataset)
        sha256 = config_hash(config, dataset.sha256)
        trials[sha256] = Trial(config, sha256, aliases=(aliases or {}).get(requested, ()))
    local = tuple(existing_runs.local_runs())
    by_trial = defaultdict(list)
    for local_run in local:
        if local_run.sha256 in trials:
            by_trial[local_run.sha256].append(local_run)
    remote = {} if store is None else store.find(trials.keys())
    ignored: set[str] = set()
    for sha256, trial in trials.items():
        run = remote.get(sha256)
        if run is None or run.state != COMPLETED:
            run = _best_local_run(by_trial[sha256], store, ignored) or run
        name = registered_name(trial.config, dataset)
        wanted = run is not None and run.state == COMPLETED and (register or trial.aliases)
        left = find_unregistered(name, run, by_trial[sha256], store) if run and wanted else None
        if run and left is not None:
            run = dataclasses.replace(run, unregistered=left)
        elif run and wanted and trial.aliases and not _is_registered(name, run, store):
            # Its state is still of use: the new run begins, and ends, at its end.
            ignored.update(local_run.folder.name for local_run in by_trial[sha256])
            run = None
        trials[sha256] = dataclasses.replace(trial, existing=run)
    to_do = [trial for trial in trials.values() if trial.state in (MISSING, RESUMABLE)]
    jobs = _training_jobs(to_do, dataset, local, dry_run)
    return SweepPlan(tuple(trials.values()), tuple(jobs), frozenset(ignored), local)


def find_unregistered(
    name: str, run: ExistingRun, same: Collection[LocalRunInfo], store: "existing_runs.ExperimentIndex | None"
) -> Path | None:
    """Return the folder of a completed run whose model is still to be registered as `name`, else None.

    same: The local runs of its configuration.
    """
    left = existing_runs.left_unregistered(run, same)
    return left if left is not None and (store is None or not _is_registered(name, run, store)) else None


def _is_registered(name: str, run: ExistingRun, store: "existing_runs.ExperimentIndex | None") -> bool:
    """Return whether a completed run has made a version of the registered model `name`, or will at its delivery."""
    if store is None:
        return True  # nobody can tell
    if run.run_id is not None and store.version(name, run.run_id) is not None:
        return True
    return run.folder is not None and _awaits_registration(run.folder)


def _awaits_registration(folder: Path) -> bool:
    """Return whether the delivery of a local run, which the sweep begins with, registers its model."""
    run = existing_runs.read_local_run(folder)
    try:
        return run is not None and bool(run.pending) and read_run_spec(folder).register
    except RunError:
        return False


def _best_local_run(
    runs: Sequence[LocalRunInfo], store: "existing_runs.ExperimentIndex | None", ignored: set[str]
) -> ExistingRun | None:
    """Return the best of the local runs that nobody has deleted in MLflow."""
    while best := existing_runs.find_local_runs(runs):
        assert best.folder is not None
        if store is None or best.state == ELSEWHERE or best.run_id is None or store.run_exists(best.run_id):
            return best
        ignored.add(best.folder.name)
        runs = [run for run in runs if run.folder != best.folder]
    return None


def _training_jobs(
    trials: Sequence[Trial], dataset: "DatasetInfo", local: Iterable[LocalRunInfo], dry_run: bool
) -> list[TrainingJob]:
    families: dict[TrainingConfig, list[Trial]] = defaultdict(list)
    for trial in trials:
        families[_family(trial.config)].append(trial)
    folders, named = defaultdict(list), defaultdict(list)
    for run in local:
        folders[run.fingerprint].append(run.folder)
        named[_without_epochs(run.name)].append(run.folder)
    jobs = []
    for family in families.values():
        threads = _threads(family)
        family = [
            dataclasses.replace(trial, config=dataclasses.replace(trial.config, threads=threads))
            for trial in sorted(family, key=lambda trial: trial.config.epochs)
        ]
        config = family[0].config
        if dry_run and not any(map(partial(_same_config, config), named[_without_epochs(config.name)])):
            jobs += _chains(family, "", {})
            continue
        spec = dataset.spec
        identity = fingerprint(config, dataset.sha256, runtime_of(config, spec), spec)
        jobs += _chains(family, identity, positions(folders[identity], identity))
    return jobs


def _family(config: TrainingConfig) -> TrainingConfig:
    """Return what the configurations of one training have in common: all but the epochs, unless the rate counts them.

    Patience looks at epochs that are over alone: what ends a training, and which weights it keeps, is for each of them
    as if it were alone.
    """
    return config if config.counts_epochs else dataclasses.replace(config, epochs=1)


def _without_epochs(name: str) -> str:
    """Return what the names of runs that may share a job have in common, so that not every plan must be read."""
    return re.sub(r"\bepochs=\d+", "", name, count=1)


def _same_config(config: TrainingConfig, folder: Path) -> bool:
    """Return whether a local run has this configuration, epochs and threads apart: only then is its state of use."""
    try:
        other = read_run_spec(folder).config
    except RunError:
        return False
    return dataclasses.replace(other, epochs=config.epochs, threads=config.threads) == config


def _threads(family: Sequence[Trial]) -> int:
    """Return the threads of an interrupted training: with others its state couldn't be used."""
    for trial in family:
        if trial.existing and trial.existing.folder and (trial.existing.folder / CHECKPOINT).exists():
            try:
                return read_run_spec(trial.existing.folder).config.threads
            except RunError:
                continue
    return family[0].config.threads


def _chains(
    trials: Sequence[Trial], identity: str, states: Mapping[Path, tuple[int, int]]
) -> list[TrainingJob]:
    """Jobs with the fewest epochs: a trial begins where the one before it ends, or at a state beyond that."""
    jobs: list[TrainingJob] = []
    for trial in trials:
        fitting = {folder: at for folder, at in states.items() if at <= (trial.config.epochs, 0)}
        source = max(fitting, key=lambda folder: fitting[folder], default=None)
        start = (0, 0) if source is None else fitting[source]
        if jobs and start <= (jobs[-1].trials[-1].config.epochs, 0):
            jobs[-1] = dataclasses.replace(jobs[-1], trials=(*jobs[-1].trials, trial))
        else:
            jobs.append(TrainingJob((trial,), identity, start, source))
    return jobs


def positions(folders: Iterable[Path], identity: str) -> dict[Path, tuple[int, int]]:
    """Return how far the states of this fingerprint in these folders are: complete epochs, batches after them."""
    from hw2.training import checkpoint

    states = {}
    for folder in folders:
        try:
            state = checkpoint.load(folder / CHECKPOINT)
        except CheckpointError:
            continue
        if state.fingerprint == identity:
            states[folder] = (state.epoch, state.batch)
    return states


def rows(plan: SweepPlan) -> list[dict[str, Any]]:
    """Return the plan as a table: one row for each trial, in the grid's order."""
    trainings = {trial.sha256: (n, job) for n, job in enumerate(plan.jobs, 1) for trial in job.trials}
    table = []
    for trial in plan.trials:
        number, job = trainings.get(trial.sha256, (None, None))
        row: dict[str, Any] = {axis: getattr(trial.config, axis) for axis in AXES}
        row |= {
            "state": trial.state,
            "training": number,
            "from_epoch": None,
            "epochs_trained": 0,
            "shared": 0,
        }
        if job is not None:
            before = [c.config.epochs for c in job.trials if c.config.epochs < trial.config.epochs]
            begin = max(before, default=job.start[0])
            row["epochs_trained"] = trial.config.epochs - begin
            row["shared"] = begin
            row["from_epoch"] = begin + 1
        row["run_id"] = trial.existing.run_id if trial.existing else None
        table.append(row)
    return table
