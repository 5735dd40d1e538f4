"""Load all the images that a run needs, and resolve the machine that it trains on."""

import hashlib
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.constants import MIN_FIT_IMAGES
from hw2.common.errors import ConfigurationError
from hw2.data.lookup import DatasetInfo, find_split, identify_dataset
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import hash_sources
from hw2.training.runtime import ResolvedRuntime, resolve_runtime
from mlflow_project.tracking.journal import state_dir

if TYPE_CHECKING:
    from hw2.data.image_set import Dataset, ImageSet

OUTLIERS = "fashion-mnist"
OTHER_OUTLIERS = "mnist"  # for models of garments


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """A run's images. train, validation: the data set's training part as divided. outliers: of another data set."""

    dataset: "Dataset"
    train: "ImageSet"
    validation: "ImageSet | None"
    outliers: "ImageSet"
    runtime: ResolvedRuntime


def load(
    config: TrainingConfig, data_dir: Path | None = None, download: bool = False
) -> tuple[TrainingConfig, TrainingInputs]:
    """Load a configuration's images, and try out its net.

    Returns:
        The configuration with its validation_size decided, and the images.

    Raises:
        DataError, ConfigurationError: They can't be had, or this machine can't train the configuration.
    """
    from hw2.data.image_set import load_dataset, load_split
    from hw2.training.split import split_validation

    _try_out(config)
    runtime = runtime_of(config)
    dataset = load_dataset(config.dataset, data_dir, download)
    config = _with_validation_size(config, len(dataset.train))
    assert config.validation_size is not None
    train, validation = split_validation(dataset.train, config.validation_size)
    outliers = load_split(_outliers(dataset.name), "test", data_dir, sibling=True)
    return config, TrainingInputs(dataset, train, validation, outliers, runtime)


def resolve_inputs(
    config: TrainingConfig, data_dir: Path | None = None, download: bool = False
) -> tuple[TrainingConfig, DatasetInfo]:
    """Resolve a configuration's inputs for planning, without loading images.

    PyTorch, whose import takes longer than all else here, is imported only for what a machine may not have.

    Returns:
        The configuration with its validation_size decided, and what identifies the data set.

    Raises:
        DataError, ConfigurationError: As `load`.
    """
    if config.device == "cuda" or config.precision == "bfloat16":
        runtime_of(config)
    _try_out(config)
    dataset = identify_dataset(config.dataset, data_dir, download)
    find_split(_outliers(dataset.name), "test", data_dir, sibling=True).read("test")
    return _with_validation_size(config, dataset.training_images), dataset


def runtime_of(config: TrainingConfig) -> ResolvedRuntime:
    """What the configuration's `auto` means here; as before, where that was measured before.

    A state can be continued only with as many threads as it was begun with.
    """
    return resolve_runtime(config, _threads)


def _threads(config: TrainingConfig, most: int, precision: str) -> int:
    import torch

    from hw2.training.thread_count import fastest_threads

    decisive = (hash_sources(config), config.model_name, config.batch_size, most, precision)
    place = (torch.__version__, platform.node())
    key = hashlib.sha256(repr((decisive, place)).encode()).hexdigest()[:32]
    path = state_dir.state_dir() / "threads" / key
    with suppress(OSError, ValueError):
        return min(most, max(1, int(path.read_text(encoding="utf-8"))))
    threads = fastest_threads(config, most, precision)
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # then it is measured each time
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(str(threads), encoding="utf-8")
        part.replace(path)
    return threads


def compilation_note(config: TrainingConfig, runtime: ResolvedRuntime) -> str:
    """What a person should know who waits for the first training step; empty where nothing is compiled."""
    from hw2.train_step.factory import needs_compilation

    if not needs_compilation(runtime.device, config.custom_net is not None):
        return ""
    return "compiling the training step for this processor: some 20 s, only the first time"


def sample_warning(images: int) -> str:
    """What a person should know who trains on the embedded sample, which has so many training images."""
    return (
        f"training on the bundled {images:,}-image sample, which is for trying out, not for choosing between models; "
        "use --data-dir DIR or --download for the full data set"
    )


def _try_out(config: TrainingConfig) -> None:
    if config.custom_net is not None:
        from mlflow_project.packaging.exported_program import validate_custom_net

        validate_custom_net(config.custom_net)


def _with_validation_size(config: TrainingConfig, images: int) -> TrainingConfig:
    """Decide the configuration's validation_size, which must leave enough images on both sides."""
    config = config.for_training_set(images)
    assert config.validation_size is not None
    check_fit_sizes(images - config.validation_size, config.validation_size)
    return config


def _outliers(dataset: str) -> str:
    return OTHER_OUTLIERS if dataset.startswith(OUTLIERS) else OUTLIERS


def check_fit_sizes(training: int, validation: int) -> None:
    """Raise ConfigurationError where these are too few images to fit the outlier score at the end."""
    held_out = validation or training // 2
    rest = training if validation else training - held_out
    for images, kind in ((held_out, "held-out"), (rest, "training")):
        if images < MIN_FIT_IMAGES:
            raise ConfigurationError(
                f"{images} {kind} images for the outlier score, expected at least {MIN_FIT_IMAGES}; "
                f"use a larger data set, or a validation_size that leaves {MIN_FIT_IMAGES} on either side"
            )
