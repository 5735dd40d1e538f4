"""All the pictures that a run needs, loaded once, and the machine they are trained on."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from hw2.configuration import Runtime, TrainingConfig, resolve
from hw2.data import Dataset, ImageSet, load_dataset, load_split, split_validation

OUTLIERS = "fashion-mnist"
OTHER_OUTLIERS = "mnist"  # for models of garments


@dataclass(frozen=True, eq=False)
class Pictures:
    """dataset: as loaded. train, validation: its training part as divided. outliers: pictures of something else."""

    dataset: Dataset
    train: ImageSet
    validation: ImageSet | None
    outliers: ImageSet
    runtime: Runtime


def load(
    config: TrainingConfig, data_dir: Path | None = None, download: bool = False
) -> tuple[TrainingConfig, Pictures]:
    """The configuration with its validation_size decided, and its pictures.

    `DataError` or `ConfigurationError` where they can't be had, or this machine can't do what is asked.
    """
    runtime = resolve(config)
    dataset = load_dataset(config.dataset, data_dir, download)
    config = config.for_training_set(len(dataset.train))
    assert config.validation_size is not None
    train, validation = split_validation(dataset.train, config.validation_size)
    other = OTHER_OUTLIERS if dataset.name.startswith(OUTLIERS) else OUTLIERS
    return config, Pictures(dataset, train, validation, load_split(other, "test", data_dir), runtime)


def with_threads(pictures: Pictures, threads: int) -> Pictures:
    """The same pictures for a worker that has only so many processor threads."""
    return dataclasses.replace(pictures, runtime=dataclasses.replace(pictures.runtime, threads=threads))
