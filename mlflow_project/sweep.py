"""A grid as a plan: which cells are done already, and which shared trainings do the rest.

Cells that differ in `epochs` alone are one training, from which each cell takes the state after its last epoch.
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

from hw2.configuration import TrainingConfig, configuration_sha256, fingerprint, resolve
from hw2.errors import CheckpointError
from hw2.wording import shortest
from mlflow_project import earlier
from mlflow_project.earlier import COMPLETED, ELSEWHERE, RESUMABLE, Found, Local
from mlflow_project.errors import RunError
from mlflow_project.names import CHECKPOINT
from mlflow_project.run_plan import read_plan, registered_name

if TYPE_CHECKING:
    from hw2.stored_set import DatasetIdentity

MISSING = "missing"
AXES = ("lr", "epochs", "batch_size", "seed")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Values of each axis; `base` is all that the cells have in common."""

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
        """One configuration a cell; `ConfigurationError` for a value that can't be trained."""
        values = product(*(getattr(self, axis) for axis in AXES))
        return [
            dataclasses.replace(self.base, **dict(zip(AXES, cell, strict=True)))
            for cell in sorted(values, key=lambda cell: (cell[0], cell[2], cell[3], cell[1]))
        ]

    @property
    def name(self) -> str:
        """The axes as a person says them; one that has its default alone is left out."""
        default = TrainingConfig()
        said = [
            f"{axis}={','.join(map(shortest, getattr(self, axis)))}"
            for axis in AXES
            if axis in ("lr", "epochs") or getattr(self, axis) != (getattr(default, axis),)
        ]
        return " ".join(said)


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid and what there is of it. aliases: that its registered version gets."""

    config: TrainingConfig
    sha256: str
    found: Found | None = None
    aliases: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """COMPLETED, ELSEWHERE, RESUMABLE or MISSING."""
        return self.found.state if self.found else MISSING


@dataclass(frozen=True)
class Stage:
    """One training for the cells that it serves, by epochs, from `start` (epoch, batch) in the folder `source`."""

    cells: tuple[Cell, ...]
    fingerprint: str
    start: tuple[int, int] = (0, 0)
    source: Path | None = None

    @property
    def epochs(self) -> int:
        """That are still to be trained, a begun one counted."""
        return self.cells[-1].config.epochs - self.start[0]


@dataclass(frozen=True)
class Plan:
    """cells in the grid's order, stages for those that are to be done; ignored: local folders of deleted runs."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    ignored: frozenset[str] = frozenset()
    local: tuple[Local, ...] = field(default=(), repr=False)

    @property
    def sha256(self) -> str:
        """Of the grid: the same for the same cells, whatever their order and state."""
        return hashlib.sha256("\n".join(sorted(cell.sha256 for cell in self.cells)).encode()).hexdigest()

    @property
    def epochs(self) -> int:
        """That are to be trained."""
        return sum(stage.epochs for stage in self.stages)

    @property
    def epochs_alone(self) -> int:
        """That the cells which are to be done would train one by one from the beginning."""
        return sum(cell.config.epochs for stage in self.stages for cell in stage.cells)

    def seconds(self, images_per_second: float, pictures: int, workers: int) -> float:
        """How long the training takes on so many workers; the longest stage is the least."""
        each = [stage.epochs * pictures / images_per_second for stage in self.stages]
        return max([sum(each) / workers, *each], default=0.0)


def make_plan(
    configs: Sequence[TrainingConfig],
    dataset: "DatasetIdentity",
    store: "earlier.Store | None",
    aliases: Mapping[TrainingConfig, tuple[str, ...]] | None = None,
    only_shown: bool = False,
) -> Plan:
    """What is there of these configurations and what is to be done.

    store: None while the tracking server is away; what it would know is then taken from this machine alone.
    only_shown: a plan that nobody carries out; stages that begin at no earlier state then have no fingerprint, for
    which PyTorch would be imported.
    """
    cells = {}
    for asked in configs:
        config = asked.for_training_set(dataset.training_pictures)
        sha256 = configuration_sha256(config, dataset.sha256)
        cells[sha256] = Cell(config, sha256, aliases=(aliases or {}).get(asked, ()))
    local = tuple(earlier.local_runs())
    by_cell = defaultdict(list)
    for run in local:
        if run.sha256 in cells:
            by_cell[run.sha256].append(run)
    remote = {} if store is None else store.find(cells.keys())
    ignored: set[str] = set()
    for sha256, cell in cells.items():
        found = remote.get(sha256)
        if found is None or found.state != COMPLETED:
            found = _found_here(by_cell[sha256], store, ignored) or found
        name = registered_name(cell.config, dataset)
        if found and found.state == COMPLETED and cell.aliases and not _is_registered(name, found, store):
            # Its state is still of use: the new run begins, and ends, at its end.
            ignored.update(run.folder.name for run in by_cell[sha256])
            found = None
        cells[sha256] = dataclasses.replace(cell, found=found)
    to_do = [cell for cell in cells.values() if cell.state in (MISSING, RESUMABLE)]
    stages = _stages(to_do, dataset.sha256, local, only_shown)
    return Plan(tuple(cells.values()), tuple(stages), frozenset(ignored), local)


def _is_registered(name: str, found: Found, store: "earlier.Store | None") -> bool:
    if store is None or found.run_id is None:
        return True  # nobody can tell; its delivery will register it if it was to be
    return found.folder is not None or store.version(name, found.run_id) is not None


def _found_here(runs: list[Local], store: "earlier.Store | None", ignored: set[str]) -> Found | None:
    """The best of the local runs that nobody has deleted in MLflow."""
    runs = list(runs)
    while found := earlier.found_locally(runs):
        assert found.folder is not None
        if store is None or found.state == ELSEWHERE or found.run_id is None or store.is_there(found.run_id):
            if found.state == COMPLETED:
                return dataclasses.replace(found, metrics=earlier.last_metrics(found.folder))
            return found
        ignored.add(found.folder.name)
        runs = [run for run in runs if run.folder != found.folder]
    return None


def _stages(
    cells: Sequence[Cell], dataset_sha256: str, local: Iterable[Local], only_shown: bool
) -> list[Stage]:
    families: dict[TrainingConfig, list[Cell]] = defaultdict(list)
    for cell in cells:
        families[dataclasses.replace(cell.config, epochs=1)].append(cell)
    folders, named = defaultdict(list), defaultdict(list)
    for run in local:
        folders[run.fingerprint].append(run.folder)
        named[_without_epochs(run.name)].append(run.folder)
    stages = []
    for family in families.values():
        threads = _threads(family)
        family = [
            dataclasses.replace(cell, config=dataclasses.replace(cell.config, threads=threads))
            for cell in sorted(family, key=lambda cell: cell.config.epochs)
        ]
        config = family[0].config
        if only_shown and not any(map(partial(_alike, config), named[_without_epochs(config.name)])):
            stages += _chains(family, "", {})
            continue
        identity = fingerprint(config, dataset_sha256, resolve(config))
        stages += _chains(family, identity, positions(folders[identity], identity))
    return stages


def _without_epochs(name: str) -> str:
    """The names of runs that may share a training are alike in this; thousands of plans needn't be read."""
    return re.sub(r"\bepochs=\d+", "", name, count=1)


def _alike(config: TrainingConfig, folder: Path) -> bool:
    """Whether a local run was of this configuration, epochs and threads apart: only its state may be of use."""
    try:
        other = read_plan(folder).config
    except RunError:
        return False
    return dataclasses.replace(other, epochs=config.epochs, threads=config.threads) == config


def _threads(family: Sequence[Cell]) -> int:
    """An interrupted training goes on with the threads that it had: with others its state couldn't be used."""
    for cell in family:
        if cell.found and cell.found.folder and (cell.found.folder / CHECKPOINT).exists():
            try:
                return read_plan(cell.found.folder).config.threads
            except RunError:
                continue
    return family[0].config.threads


def _chains(cells: Sequence[Cell], identity: str, states: Mapping[Path, tuple[int, int]]) -> list[Stage]:
    """Stages with the least epochs: a cell begins where the one before it ends, or at a state beyond that."""
    stages: list[Stage] = []
    for cell in cells:
        fitting = {folder: at for folder, at in states.items() if at <= (cell.config.epochs, 0)}
        source = max(fitting, key=lambda folder: fitting[folder], default=None)
        start = (0, 0) if source is None else fitting[source]
        if stages and start <= (stages[-1].cells[-1].config.epochs, 0):
            stages[-1] = dataclasses.replace(stages[-1], cells=(*stages[-1].cells, cell))
        else:
            stages.append(Stage((cell,), identity, start, source))
    return stages


def positions(folders: Iterable[Path], identity: str) -> dict[Path, tuple[int, int]]:
    """Where the states of this fingerprint in these run folders stand: complete epochs, batches after them."""
    from hw2 import checkpoint

    found = {}
    for folder in folders:
        try:
            state = checkpoint.load(folder / CHECKPOINT)
        except CheckpointError:
            continue
        if state.fingerprint == identity:
            found[folder] = (state.epoch, state.batch)
    return found


def rows(plan: Plan) -> list[dict[str, Any]]:
    """The plan as a table: one row a cell, in the grid's order."""
    trainings = {cell.sha256: (n, stage) for n, stage in enumerate(plan.stages, 1) for cell in stage.cells}
    table = []
    for cell in plan.cells:
        number, stage = trainings.get(cell.sha256, (None, None))
        row: dict[str, Any] = {axis: getattr(cell.config, axis) for axis in AXES}
        row |= {"state": cell.state, "training": number, "from_epoch": None, "epochs_trained": 0, "shared": 0}
        if stage is not None:
            before = [c.config.epochs for c in stage.cells if c.config.epochs < cell.config.epochs]
            begin = max(before, default=stage.start[0])
            row["epochs_trained"] = cell.config.epochs - begin
            row["shared"] = begin
            row["from_epoch"] = begin + 1
        row["run_id"] = cell.found.run_id if cell.found else None
        table.append(row)
    return table
