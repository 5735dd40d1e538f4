"""The specification of a sweep, and its plan."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.formatting import plural
from hw2.common.image_spec import ImageSpec
from hw2.training.config import TrainingConfig
from mlflow_project.common.errors import DestinationError, StoreError, UsageError
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.plan import SweepPlan, make_plan
from mlflow_project.tracking.new_run import checked_uri
from mlflow_project.training import inputs

if TYPE_CHECKING:
    from hw2.data.lookup import DatasetInfo
    from mlflow_project.training.inputs import TrainingInputs
    from mlflow_project.training.progress import ProgressListener

# Test, figures, export and registration of a trial on one core.
COMPLETION_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class ExecutionSpec:
    """How the trials of a sweep or a search are trained. UsageError where fields don't fit."""

    data_dir: Path | None = None
    download: bool = False
    register: bool = True
    engine: str = "local"
    workers: int = 1
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers is {self.workers}; it must be at least 1")
        if self.address and self.engine != "ray":
            raise UsageError("--address names a Ray cluster; add --engine ray")

    def check_destination(self) -> None:
        """Check, before anything is loaded, that the store is of a kind that MLflow knows, and that a cluster answers.

        Raises:
            UsageError, SweepError: It isn't, or doesn't.
        """
        checked_uri()
        if self.engine == "ray":
            from mlflow_project.sweeps.ray_executor import require_cluster

            require_cluster(self.address)


@dataclass(frozen=True, kw_only=True)
class SweepSpec(ExecutionSpec):
    """What to run. aliases: of each configuration's registered version."""

    name: str
    configs: Sequence[TrainingConfig]
    aliases: Mapping[TrainingConfig, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SweepPreview:
    """A specification with its plan; store is None while the tracking server is unreachable."""

    request: SweepSpec
    dataset: "DatasetInfo"
    store: "existing_runs.ExperimentIndex | None"
    plan: SweepPlan
    measured_speed: float | None = field(default=None, kw_only=True)
    """In images a second, where no earlier run tells it."""

    def seconds(self) -> float | None:
        """Return an estimate by earlier runs on this host, or by what was measured; None where there is neither."""
        import platform

        if not self.plan.jobs:
            return 0.0
        config = self.plan.jobs[0].trials[0].config
        speed = self.store and self.store.images_per_second(platform.node(), config)
        speed = speed or self.measured_speed
        if speed is None:
            return None
        trials = sum(len(job.trials) for job in self.plan.jobs)
        images = self.dataset.training_images
        if self.dataset.validation_images is None:
            images -= config.validation_size or 0
        return self.plan.seconds(speed, images, self.request.workers) + trials * COMPLETION_SECONDS


@dataclass(frozen=True, eq=False)
class PreparedSweep(SweepPreview):
    """All that it takes to run the plan."""

    inputs: "TrainingInputs"


def prepare(request: SweepSpec, listener: "ProgressListener") -> PreparedSweep:
    """Load the images and make the plan."""
    request.check_destination()
    _, loaded = inputs.load(request.configs[0], request.data_dir, request.download, listener)
    dataset = loaded.dataset.identity
    configs = [divide_threads(config, request.workers, dataset.spec) for config in request.configs]
    return PreparedSweep(request, dataset, *_plan(request, configs, dataset, listener), loaded)


def preview(request: SweepSpec, listener: "ProgressListener") -> SweepPreview:
    """Make the plan alone; nothing imports PyTorch for it, unless this host has no run by which to tell the time."""
    _, dataset = inputs.resolve_inputs(request.configs[0], request.data_dir, request.download)
    configs = [divide_threads(config, request.workers, dataset.spec) for config in request.configs]
    planned = SweepPreview(request, dataset, *_plan(request, configs, dataset, listener, dry_run=True))
    if planned.seconds() is not None:
        return planned
    speed = _measure(planned.plan.jobs[0].trials[0].config, dataset, listener)
    return dataclasses.replace(planned, measured_speed=speed)


def _measure(config: TrainingConfig, dataset: "DatasetInfo", listener: "ProgressListener") -> float:
    from hw2.training.speed import images_per_second

    runtime = inputs.runtime_of(config, dataset.spec)
    if compilation := inputs.compilation_note(config, runtime, dataset.spec):
        listener.info(compilation)
    return images_per_second(config, runtime.precision, runtime.device, runtime.threads, dataset.spec)


def _plan(
    request: SweepSpec,
    configs: Sequence[TrainingConfig],
    dataset: "DatasetInfo",
    listener: "ProgressListener",
    dry_run: bool = False,
) -> "tuple[existing_runs.ExperimentIndex | None, SweepPlan]":
    from mlflow_project.tracking.delivery.client import connect

    if dataset.is_sample:
        listener.warning(inputs.sample_warning(dataset.training_images))
    store = None
    aliases = _keyed(request, configs)
    try:
        opened = connect(create=not dry_run)
        store = existing_runs.ExperimentIndex(opened)
        return store, make_plan(configs, dataset, store, aliases, dry_run, request.register)
    except DestinationError:
        raise
    except StoreError as error:
        listener.warning(f"{error}; only runs of this machine can be reused")
        return store, make_plan(configs, dataset, None, aliases, dry_run, request.register)


def divide_threads(config: TrainingConfig, workers: int, spec: ImageSpec) -> TrainingConfig:
    """Return the configuration with a worker's share of the threads, where it doesn't say how many."""
    if config.threads or workers == 1:
        return config
    import torch

    share = max(1, torch.get_num_threads() // workers)
    if inputs.by_autograd(config, spec):
        share = min(share, inputs.runtime_of(config, spec).threads)
    return dataclasses.replace(config, threads=share)


def _keyed(request: SweepSpec, configs: Sequence[TrainingConfig]) -> dict[TrainingConfig, tuple[str, ...]]:
    pairs = zip(request.configs, configs, strict=True)
    return {config: request.aliases.get(requested, ()) for requested, config in pairs}


def plan_line(planned: "SweepPreview") -> str:
    """Return one line about how much there is to do."""
    plan = planned.plan
    to_do = sum(len(job.trials) for job in plan.jobs)
    seconds = planned.seconds()
    time = "unknown time" if seconds is None else f"about {_duration(seconds)}"
    alone = f" ({plan.epochs_alone} without sharing)" if plan.epochs_alone > plan.epochs else ""
    return (
        f"{plural(len(plan.trials), 'trial')}, {len(plan.trials) - to_do} done or running; to do: "
        f"{plural(plan.epochs, 'epoch')} in {plural(len(plan.jobs), 'job')}{alone}, {time}"
        + (f"; {plan.not_shared}" if plan.not_shared else "")
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
