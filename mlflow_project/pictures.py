"""All the pictures that a run needs, loaded once, and the machine they are trained on."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from hw2.configuration import Runtime, TrainingConfig, resolve
from hw2.data import Dataset, ImageSet, load_dataset, load_split, split_validation
from hw2.errors import ConfigurationError

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
    """The configuration with its validation_size decided and its net tried out, and its pictures.

    `DataError` or `ConfigurationError` where they can't be had, or this machine can't do what is asked.
    """
    runtime = resolve(config)
    if config.own_net is not None:
        from mlflow_project.exported import try_out

        try_out(config.own_net)
    dataset = load_dataset(config.dataset, data_dir, download)
    config = config.for_training_set(len(dataset.train))
    assert config.validation_size is not None
    check_enough(len(dataset.train) - config.validation_size, config.validation_size)
    train, validation = split_validation(dataset.train, config.validation_size)
    other = OTHER_OUTLIERS if dataset.name.startswith(OUTLIERS) else OUTLIERS
    outliers = load_split(other, "test", data_dir, beside=True)
    return config, Pictures(dataset, train, validation, outliers, runtime)


def check_enough(training: int, validation: int) -> None:
    """`ConfigurationError` where these are too few pictures for the outlier score, which is fitted at the end."""
    from hw2.detector import MINIMUM_PICTURES

    held_out = validation or training // 2
    rest = training if validation else training - held_out
    for found, kind in ((held_out, "held-out"), (rest, "training")):
        if found < MINIMUM_PICTURES:
            raise ConfigurationError(
                f"{found} {kind} pictures for the outlier score, expected at least {MINIMUM_PICTURES}; "
                f"use a larger data set, or a validation_size that leaves {MINIMUM_PICTURES} on either side"
            )


def with_threads(pictures: Pictures, threads: int) -> Pictures:
    """The same pictures for a worker that has only so many processor threads."""
    return dataclasses.replace(pictures, runtime=dataclasses.replace(pictures.runtime, threads=threads))
