"""A grid as a plan: which trials are done already, and which shared trainings do the rest.

Trials that differ in `epochs` alone are one training, from which each trial takes the state after its last epoch.
A training begins where the most advanced fitting state is that an earlier run has left on this machine.
"""

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
from mlflow_project.training.inputs import runtime_of
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
        """The grid of these values; those of `base` where an axis has none."""
        return cls(
            base=base,
            lr=tuple(lr or (base.lr,)),
            epochs=tuple(epochs or (base.epochs,)),
            batch_size=tuple(batch_size or (base.batch_size,)),
            seed=tuple(seeds or (base.seed,)),
        )

    def configs(self) -> list[TrainingConfig]:
        """One configuration a trial; `ConfigurationError` for a value that can't be trained."""
        values = product(*(getattr(self, axis) for axis in AXES))
        return [
            dataclasses.replace(self.base, **dict(zip(AXES, trial, strict=True)))
            for trial in sorted(values, key=lambda trial: (trial[0], trial[2], trial[3], trial[1]))
        ]

    @property
    def name(self) -> str:
        """The axes as a person says them; one that has its default alone is left out."""
        default = TrainingConfig()
        said = [
            f"{axis}={','.join(map(format_float, getattr(self, axis)))}"
            for axis in AXES
            if axis in ("lr", "epochs") or getattr(self, axis) != (getattr(default, axis),)
        ]
        return " ".join(said)


@dataclass(frozen=True)
class Trial:
    """One configuration of the grid and what there is of it. aliases: that its registered version gets."""

    config: TrainingConfig
    sha256: str
    found: ExistingRun | None = None
    aliases: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """COMPLETED, ELSEWHERE, RESUMABLE or MISSING."""
        return self.found.state if self.found else MISSING


@dataclass(frozen=True)
class TrainingJob:
    """One training for the trials that it serves, by epochs, from `start` (epoch, batch) in the folder `source`."""

    trials: tuple[Trial, ...]
    fingerprint: str
    start: tuple[int, int] = (0, 0)
    source: Path | None = None

    @property
    def epochs(self) -> int:
        """That are still to be trained, a begun one counted."""
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
        """Of the grid: the same for the same trials, whatever their order and state."""
        return hashlib.sha256("\n".join(sorted(trial.sha256 for trial in self.trials)).encode()).hexdigest()

    @property
    def table(self) -> ui_views.View:
        """The view of MLflow's page of runs that tells the trials apart."""
        return ui_views.table_of(trial.config for trial in self.trials)

    @property
    def epochs(self) -> int:
        """That are to be trained."""
        return sum(job.epochs for job in self.jobs)

    @property
    def epochs_alone(self) -> int:
        """That the trials which are to be done would train one by one from the beginning."""
        return sum(trial.config.epochs for job in self.jobs for trial in job.trials)

    def seconds(self, images_per_second: float, images: int, workers: int) -> float:
        """How long the training takes on so many workers; the longest job is the least."""
        each = [job.epochs * images / images_per_second for job in self.jobs]
        return max([sum(each) / workers, *each], default=0.0)


def make_plan(
    configs: Sequence[TrainingConfig],
    dataset: "DatasetInfo",
    store: "existing_runs.ExperimentIndex | None",
    aliases: Mapping[TrainingConfig, tuple[str, ...]] | None = None,
    only_shown: bool = False,
) -> SweepPlan:
    """What is there of these configurations and what is to be done.

    store: None while the tracking server is away; what it would know is then taken from this machine alone.
    only_shown: a plan that nobody carries out; jobs that begin at no earlier state then have no fingerprint, for
    which PyTorch would be imported.
    """
    trials = {}
    for asked in configs:
        config = asked.for_training_set(dataset.training_images)
        sha256 = config_hash(config, dataset.sha256)
        trials[sha256] = Trial(config, sha256, aliases=(aliases or {}).get(asked, ()))
    local = tuple(existing_runs.local_runs())
    by_trial = defaultdict(list)
    for run in local:
        if run.sha256 in trials:
            by_trial[run.sha256].append(run)
    remote = {} if store is None else store.find(trials.keys())
    ignored: set[str] = set()
    for sha256, trial in trials.items():
        found = remote.get(sha256)
        if found is None or found.state != COMPLETED:
            found = _found_here(by_trial[sha256], store, ignored) or found
        name = registered_name(trial.config, dataset)
        if found and found.state == COMPLETED and trial.aliases and not _is_registered(name, found, store):
            # Its state is still of use: the new run begins, and ends, at its end.
            ignored.update(run.folder.name for run in by_trial[sha256])
            found = None
        trials[sha256] = dataclasses.replace(trial, found=found)
    to_do = [trial for trial in trials.values() if trial.state in (MISSING, RESUMABLE)]
    jobs = _training_jobs(to_do, dataset.sha256, local, only_shown)
    return SweepPlan(tuple(trials.values()), tuple(jobs), frozenset(ignored), local)


def _is_registered(name: str, found: ExistingRun, store: "existing_runs.ExperimentIndex | None") -> bool:
    if store is None or found.run_id is None:
        return True  # nobody can tell; its delivery will register it if it was to be
    return found.folder is not None or store.version(name, found.run_id) is not None


def _found_here(
    runs: list[LocalRunInfo], store: "existing_runs.ExperimentIndex | None", ignored: set[str]
) -> ExistingRun | None:
    """The best of the local runs that nobody has deleted in MLflow."""
    runs = list(runs)
    while found := existing_runs.find_local_runs(runs):
        assert found.folder is not None
        if store is None or found.state == ELSEWHERE or found.run_id is None or store.is_there(found.run_id):
            if found.state == COMPLETED:
                return dataclasses.replace(found, metrics=existing_runs.last_metrics(found.folder))
            return found
        ignored.add(found.folder.name)
        runs = [run for run in runs if run.folder != found.folder]
    return None


def _training_jobs(
    trials: Sequence[Trial], dataset_sha256: str, local: Iterable[LocalRunInfo], only_shown: bool
) -> list[TrainingJob]:
    families: dict[TrainingConfig, list[Trial]] = defaultdict(list)
    for trial in trials:
        families[dataclasses.replace(trial.config, epochs=1)].append(trial)
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
        if only_shown and not any(map(partial(_same_config, config), named[_without_epochs(config.name)])):
            jobs += _chains(family, "", {})
            continue
        identity = fingerprint(config, dataset_sha256, runtime_of(config))
        jobs += _chains(family, identity, positions(folders[identity], identity))
    return jobs


def _without_epochs(name: str) -> str:
    """The names of runs that may share a training are alike in this; thousands of plans needn't be read."""
    return re.sub(r"\bepochs=\d+", "", name, count=1)


def _same_config(config: TrainingConfig, folder: Path) -> bool:
    """Whether a local run was of this configuration, epochs and threads apart: only its state may be of use."""
    try:
        other = read_run_spec(folder).config
    except RunError:
        return False
    return dataclasses.replace(other, epochs=config.epochs, threads=config.threads) == config


def _threads(family: Sequence[Trial]) -> int:
    """An interrupted training goes on with the threads that it had: with others its state couldn't be used."""
    for trial in family:
        if trial.found and trial.found.folder and (trial.found.folder / CHECKPOINT).exists():
            try:
                return read_run_spec(trial.found.folder).config.threads
            except RunError:
                continue
    return family[0].config.threads


def _chains(
    trials: Sequence[Trial], identity: str, states: Mapping[Path, tuple[int, int]]
) -> list[TrainingJob]:
    """Stages with the least epochs: a trial begins where the one before it ends, or at a state beyond that."""
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
    """Where the states of this fingerprint in these run folders stand: complete epochs, batches after them."""
    from hw2.training import checkpoint

    found = {}
    for folder in folders:
        try:
            state = checkpoint.load(folder / CHECKPOINT)
        except CheckpointError:
            continue
        if state.fingerprint == identity:
            found[folder] = (state.epoch, state.batch)
    return found


def rows(plan: SweepPlan) -> list[dict[str, Any]]:
    """The plan as a table: one row a trial, in the grid's order."""
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
        row["run_id"] = trial.found.run_id if trial.found else None
        table.append(row)
    return table
