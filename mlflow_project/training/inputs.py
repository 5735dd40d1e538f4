"""Load all the images that a run needs, and resolve the machine that it trains on."""

import dataclasses
import hashlib
import os
import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.constants import MIN_FIT_IMAGES
from hw2.common.errors import ConfigurationError, Hw2Error
from hw2.common.formatting import first_line, plural
from hw2.common.image_spec import STUDY
from hw2.data.lookup import DatasetInfo, find_split, identify_dataset
from hw2.models.net_source import RESNET20
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import hash_sources
from hw2.training.runtime import ResolvedRuntime, resolve_runtime
from mlflow_project.tracking.journal import state_dir
from mlflow_project.training.progress import ProgressListener

if TYPE_CHECKING:
    from hw2.common.image_spec import ImageSpec
    from hw2.data.image_set import Dataset, ImageSet

OUTLIERS = "fashion-mnist"
OTHER_OUTLIERS = "mnist"  # for models of garments
GENERATED_OUTLIERS = "patches"  # for models of images in color or of another size


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """A run's images.

    train, validation: the data set's training part as divided, or its own validation part. outliers: of another data
    set, or made of the test images. no_score: why the model gets no outlier score; empty where it gets one.
    """

    dataset: "Dataset"
    train: "ImageSet"
    validation: "ImageSet | None"
    outliers: "ImageSet"
    runtime: ResolvedRuntime
    no_score: str = ""


def load(
    config: TrainingConfig,
    data_dir: Path | None = None,
    download: bool = False,
    listener: "ProgressListener | None" = None,
) -> tuple[TrainingConfig, TrainingInputs]:
    """Load a configuration's images, and try out its net.

    Args:
        config: What is to be trained.
        data_dir: Folder of the full data of a known set.
        download: Whether a known set may be downloaded.
        listener: Receives how far the decoding of files is, and what was changed or left out.

    Returns:
        The configuration with its validation_size decided, and the images.

    Raises:
        DataError, ConfigurationError: They can't be had, or this machine can't train the configuration.
    """
    from hw2.data.image_set import load_dataset
    from hw2.training.split import split_validation

    if config.device == "cuda" or config.precision == "bfloat16":  # before images are decoded or downloaded
        resolve_runtime(dataclasses.replace(config, threads=1))
    dataset = load_dataset(
        config.dataset, data_dir, download, config.image_size, None if listener is None else listener.task
    )
    listener = listener or ProgressListener()
    for note in dataset.notes:
        listener.info(f"{dataset.name}: {note}")
    train, validation = dataset.train, dataset.validation
    _try_out(config, train.spec)
    runtime = runtime_of(config, train.spec)
    config = resolve_validation_size(config, dataset.identity)
    assert config.validation_size is not None
    if validation is None or config.validation_size == 0:
        train, validation = split_validation(train, config.validation_size)
    _check_last_batch(config, train)
    no_score = score_problem(len(train), config.validation_size)
    if no_score:
        listener.warning(f"the model gets no outlier score: {no_score}")
    outliers = _load_outliers(dataset, data_dir)
    return config, TrainingInputs(dataset, train, validation, outliers, runtime, no_score)


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
    dataset = identify_dataset(config.dataset, data_dir, download, config.image_size)
    _try_out(config, dataset.spec)
    if dataset.image_shape == STUDY.shape:
        find_split(_outliers(dataset.name), "test", data_dir, sibling=True).read("test")
    return resolve_validation_size(config, dataset), dataset


def runtime_of(config: TrainingConfig, spec: "ImageSpec | None" = None) -> ResolvedRuntime:
    """What the configuration's `auto` means here; as before, where that was measured before.

    A state can be continued only with as many threads as it was begun with.

    Args:
        config: The configuration.
        spec: The images that a net without kernels is measured on for its threads; None for the study's.
    """
    spec = spec or STUDY
    return resolve_runtime(config, partial(_threads, spec=spec), by_autograd(config, spec))


def by_autograd(config: TrainingConfig, spec: "ImageSpec") -> bool:
    """Whether no compiled kernels can train the configuration on these images."""
    from hw2.train_step.factory import fits_kernels

    return config.by_autograd or not fits_kernels(spec)


def _threads(config: TrainingConfig, most: int, precision: str, spec: "ImageSpec") -> int:
    import torch

    from hw2.training.thread_count import fastest_threads

    decisive: tuple[object, ...] = (
        hash_sources(config),
        config.model_name,
        config.batch_size,
        most,
        precision,
    )
    if not config.update_rule.is_plain:
        decisive = (*decisive, str(config.update_rule))
    if (spec.shape, spec.num_classes) != (STUDY.shape, STUDY.num_classes):
        decisive = (*decisive, str((spec.shape, spec.num_classes)))
    place = (torch.__version__, platform.node())
    key = hashlib.sha256(repr((decisive, place)).encode()).hexdigest()[:32]
    path = state_dir.state_dir() / "threads" / key
    with suppress(OSError, ValueError):
        return min(most, max(1, int(path.read_text(encoding="utf-8"))))
    threads = fastest_threads(config, most, precision, spec)
    part = path.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # then it is measured each time
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(str(threads), encoding="utf-8")
        part.replace(path)
    return threads


def compilation_note(
    config: TrainingConfig, runtime: ResolvedRuntime, spec: "ImageSpec | None" = None
) -> str:
    """What a person should know who waits for the first training step; empty where nothing is compiled."""
    from hw2.train_step.factory import needs_compilation

    if not needs_compilation(runtime.device, by_autograd(config, spec or STUDY)):
        return ""
    return "compiling the training step for this processor: some 20 s, only the first time"


def sample_warning(images: int) -> str:
    """What a person should know who trains on the embedded sample, which has so many training images."""
    return (
        f"training on the bundled {images:,}-image sample, which is for trying out, not for choosing between models; "
        "use --data-dir DIR or --download for the full data set"
    )


def _try_out(config: TrainingConfig, spec: "ImageSpec") -> None:
    if config.custom_net is None or config.model == RESNET20:
        return  # they take all images
    from mlflow_project.packaging.exported_program import validate_net

    try:
        validate_net(config.custom_net, spec)
    except ConfigurationError as error:
        if not config.model_source:
            raise
        raise ConfigurationError(f"{config.model.rpartition(':')[0]}: {error}") from error


def _check_last_batch(config: TrainingConfig, train: "ImageSet") -> None:
    """Raise ConfigurationError where the last batch is one image and the net can't be trained on one."""
    if config.custom_net is None or len(train) % config.batch_size != 1 % config.batch_size:
        return
    import torch

    from hw2.models.factory import new_model

    net = new_model(config.seed, config.custom_net, train.spec).train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), suppress(Hw2Error, SystemExit):
            net.forward_preprocessed(net.preprocess(train.images[:1]))
    except ValueError as error:  # batch norm's, of one value a channel
        raise ConfigurationError(
            f"{config.model} can't be trained on one image at a time ({first_line(error)}), and the last batch of "
            f"{len(train):,} images by {config.batch_size} has one; use another --batch-size"
        ) from error
    except Exception:  # whatever it is, the training says so
        return


def resolve_validation_size(config: TrainingConfig, dataset: DatasetInfo) -> TrainingConfig:
    """Decide the configuration's validation_size: that of the set's own validation part, where it has one."""
    own = dataset.validation_images
    if own is None or config.validation_size == 0:
        return config.for_training_set(dataset.training_images)
    if config.validation_size not in (None, own):
        raise ConfigurationError(
            f"validation_size is {config.validation_size}, but {dataset.name} has a validation part of its own, of "
            f"{plural(own, 'image')}; leave it out, or give 0 to train without"
        )
    config.check_trained_on(dataset.training_images)
    return dataclasses.replace(config, validation_size=own)


def _load_outliers(dataset: "Dataset", data_dir: Path | None) -> "ImageSet":
    """Load the outliers that a model is shown at the end of its training: of another set where that has such images."""
    from hw2.data.image_set import load_split
    from hw2.outliers.datasets import load_outliers

    if dataset.identity.image_shape == STUDY.shape:
        return load_split(_outliers(dataset.name), "test", data_dir, sibling=True)
    return load_outliers(GENERATED_OUTLIERS, None, dataset.test)


def _outliers(dataset: str) -> str:
    return OTHER_OUTLIERS if dataset.startswith(OUTLIERS) else OUTLIERS


def score_problem(training: int, validation: int) -> str:
    """Say why these are too few images to fit the outlier score on at the end; empty where they are enough."""
    held_out = validation or training // 2
    rest = training if validation else training - held_out
    for images, kind in ((held_out, "held-out"), (rest, "training")):
        if images < MIN_FIT_IMAGES:
            return f"{images} {kind} images, at least {MIN_FIT_IMAGES} are needed"
    return ""
