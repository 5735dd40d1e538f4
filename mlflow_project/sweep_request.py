"""A sweep as it is requested, and as it is planned."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.configuration import TrainingConfig
from mlflow_project import earlier, pictures
from mlflow_project.errors import StoreError, UsageError
from mlflow_project.sweep import Plan, make_plan

if TYPE_CHECKING:
    from hw2.stored_set import DatasetIdentity
    from mlflow_project.pictures import Pictures
    from mlflow_project.progress import Watcher

# Test, figures, export and registration of a cell on one core.
COMPLETION_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be done. aliases: of each configuration's registered version. UsageError for what can't be."""

    name: str
    configs: Sequence[TrainingConfig]
    data_dir: Path | None = None
    download: bool = False
    register: bool = True
    engine: str = "local"
    workers: int = 1
    address: str | None = None
    aliases: Mapping[TrainingConfig, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers is {self.workers}; it must be at least 1")
        if self.address and self.engine != "ray":
            raise UsageError("--address is of a Ray cluster; add --engine ray")


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


def _divided(config: TrainingConfig, request: Request) -> TrainingConfig:
    """Without threads asked for, each of several workers has its share of them."""
    if config.threads or request.workers == 1:
        return config
    import torch

    return dataclasses.replace(config, threads=max(1, torch.get_num_threads() // request.workers))


def _keyed(request: Request, configs: Sequence[TrainingConfig]) -> dict[TrainingConfig, tuple[str, ...]]:
    pairs = zip(request.configs, configs, strict=True)
    return {config: request.aliases.get(asked, ()) for asked, config in pairs}


def plan_line(planned: "Planned") -> str:
    """How much there is to do."""
    plan = planned.plan
    to_do = sum(len(stage.cells) for stage in plan.stages)
    seconds = planned.seconds()
    time = "unknown time" if seconds is None else f"about {_duration(seconds)}"
    alone = f" ({plan.epochs_alone} one by one)" if plan.epochs_alone > plan.epochs else ""
    return (
        f"{len(plan.cells)} cells, {len(plan.cells) - to_do} of them done or running already; to do: "
        f"{plan.epochs} epochs{alone} in {len(plan.stages)} trainings, {time}"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
