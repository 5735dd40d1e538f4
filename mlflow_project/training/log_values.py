"""What a run logs, as plain values under the names that people compare by. Nothing here talks to MLflow."""

import dataclasses
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from hw2 import figures
from hw2.common.constants import DIGITS
from hw2.common.image_spec import STUDY
from hw2.data.image_set import Dataset, ImageSet
from hw2.evaluation.metrics import (
    class_accuracy_table,
    confusion_matrix,
    confusion_table,
    largest_confusions_table,
    reliability_table,
)
from hw2.evaluation.predictions import write_predictions
from hw2.models.base_cnn import BaseCNN
from hw2.models.net import Net
from hw2.outliers.assessment import Assessment
from hw2.outliers.tables import example_indices
from hw2.training.config import LATER, TrainingConfig, without_later_defaults
from hw2.training.early_stopping import kept_result
from hw2.training.fingerprint import config_hash, fingerprint, hash_sources
from hw2.training.runtime import ResolvedRuntime
from hw2.training.trainer import EpochResult
from mlflow_project.common.names import LAYERS_TABLE
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    Entity,
    LoggedImage,
    Metric,
    Param,
    Tag,
    now_ms,
)

EPOCH_METRICS = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "epoch_seconds",
    "images_per_second",
    "suspended_seconds",
)
BATCH_METRIC = "batch_loss"
IMAGE_GRID = ("confusion_matrix", "outlier_predictions")  # also shown side by side in the chart view
IMAGE_STEP = 0
"""The same for all runs: the grid shows one step of each run, at first this one, and they end at different epochs."""
MODEL = "model"  # its name among the run's artifacts
EXAMPLES = 10  # outlier images shown one by one
VERSION_PARAMS = (
    "lr",
    "epochs",
    "batch_size",
    "warmup",
    "seed",
    "validation_size",
    "optimizer",
    "momentum",
)
NO_SCORE = "none: too few images"  # where a threshold would stand
DIGEST_LENGTH = 36  # the longest that MLflow keeps


def parameters(config: TrainingConfig) -> list[Param]:
    """Return the configuration as parameters; the net only where it isn't BaseCNN, later options where they're used.

    So the same training has the same parameters as in earlier versions, which had no such options.
    """
    left_out = ("model_source",) if config.custom_net else ("model", "model_source")
    values = without_later_defaults(dataclasses.asdict(config))
    return [Param(k, str(value)) for k, value in values.items() if k not in left_out]


def initial_tags(config: TrainingConfig, runtime: ResolvedRuntime, dataset: Dataset) -> list[Tag]:
    """Return the tags that identify the run, and what `auto` resolved to."""
    tags = {
        "status": "started",
        "configuration_sha256": config_hash(config, dataset.sha256),
        "fingerprint": fingerprint(config, dataset.sha256, runtime, dataset.train.spec),
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "code_sha256": hash_sources(config),
        "precision_used": runtime.precision,
        "device_used": runtime.device,
        "host": platform.node(),
        "resumed": "0",
    }
    return [Tag(key, value) for key, value in tags.items()]


def dataset_inputs(dataset: Dataset, train: ImageSet, validation: ImageSet | None) -> Iterator[DatasetInput]:
    """Yield the images that go into a run, each part with what it is used for."""
    for context, part in (("training", train), ("validation", validation), ("test", dataset.test)):
        if part is not None:
            yield dataset_input(part, dataset.name, context)


def dataset_input(part: ImageSet, name: str, context: str) -> DatasetInput:
    """Describe one set of images as MLflow's UI shows it."""
    shape = [
        {
            "name": "images",
            "type": "tensor",
            "tensor-spec": {"dtype": "uint8", "shape": [-1, *part.images.shape[1:]]},
        }
    ]
    return DatasetInput(
        name=name,
        digest=part.sha256[:DIGEST_LENGTH],
        source=json.dumps({"uri": part.source}),
        schema=json.dumps({"mlflow_tensorspec": {"features": json.dumps(shape), "targets": None}}),
        profile=json.dumps({"pictures": len(part), "classes": len(part.classes), "sha256": part.sha256}),
        context=context,
    )


def batch_losses(points: Iterable[tuple[int, float]], timestamp_ms: int | None = None) -> list[Metric]:
    """Return losses of single batches; step = batches so far."""
    when = now_ms() if timestamp_ms is None else timestamp_ms
    return [Metric(BATCH_METRIC, loss, step, when) for step, loss in points]


def epoch_metrics(result: EpochResult, timestamp_ms: int | None = None) -> list[Metric]:
    """Return an epoch's metrics; step = epoch. Without validation images, without theirs."""
    when = now_ms() if timestamp_ms is None else timestamp_ms
    values = ((name, getattr(result, name)) for name in EPOCH_METRICS)
    return [Metric(name, value, result.epoch, when) for name, value in values if value is not None]


def history_table(history: Iterable[EpochResult]) -> pd.DataFrame:
    """Build a row for each epoch; columns that have no value in any are left out."""
    return pd.DataFrame([dataclasses.asdict(result) for result in history]).dropna(axis=1, how="all")


def final_metrics(
    assessment: Assessment,
    history: Sequence[EpochResult],
    model_size_bytes: int,
    step: int,
    patience: int | None = None,
) -> list[Metric]:
    """Return the metrics of a trained and tested model; with patience also which epoch's it is, and which was last."""
    when = now_ms()
    kept = (
        {} if patience is None else {"best_epoch": kept_result(history, patience).epoch, "last_epoch": step}
    )
    known = {
        # As if trained alone.
        "train_seconds": sum(result.epoch_seconds for result in history),
        **assessment.metrics(),
        "model_size_bytes": float(model_size_bytes),
        **{key: float(epoch) for key, epoch in kept.items()},
    }
    return [Metric(key, value, step, when) for key, value in known.items()]


def version_tags(
    config: TrainingConfig,
    dataset: Dataset,
    identity: str,
    assessment: Assessment,
    weights_sha256: str,
    files_sha256: str,
    validation_accuracy: float | None = None,
    runtime: ResolvedRuntime | None = None,
) -> dict[str, str]:
    """Return the tags that a registered version repeats of its run, so that queries need not open the run.

    identity: the run's fingerprint. runtime: on what it was trained, where that is known.
    """
    trained_on = {"precision": runtime.precision, "device": runtime.device} if runtime else {}
    detector = assessment.detector
    threshold = {
        "outlier_threshold": NO_SCORE if detector is None else str(detector.threshold),
        **({} if detector is None else {"outlier_threshold_from": detector.threshold_from}),
    }
    validated = {} if validation_accuracy is None else {"validation_accuracy": str(validation_accuracy)}
    return {
        **{key: str(getattr(config, key)) for key in VERSION_PARAMS},
        **{param.key: param.value for param in parameters(config) if param.key in LATER},
        **trained_on,
        **validated,
        "test_accuracy": str(assessment.test.accuracy),
        "weights_sha256": weights_sha256,
        "files_sha256": files_sha256,
        "dataset": dataset.name,
        "dataset_sha256": dataset.sha256,
        "fingerprint": identity,
        **threshold,
        **assessment.threshold_summary(),
    }


def files(
    folder: Path, dataset: Dataset, outliers: ImageSet, assessment: Assessment, history: list[EpochResult]
) -> Iterator[Entity]:
    """Draw the plots and write tables and predictions into `folder`; yield each as a value."""
    (folder / "tables").mkdir(parents=True)
    (folder / "predictions").mkdir()
    for stem, frame in assessment.predictions().items():
        path = f"predictions/{stem}.parquet"
        write_predictions(folder / path, frame)
        yield Artifact(path, folder / path)
    for stem, table, png in render_plots(dataset, outliers, assessment, history):
        table.to_csv(folder / "tables" / f"{stem}.csv", index=False)
        (folder / f"{stem}.png").write_bytes(png)
        yield Artifact(f"tables/{stem}.csv", folder / "tables" / f"{stem}.csv")
        yield Artifact(f"{stem}.png", folder / f"{stem}.png")
        if stem in IMAGE_GRID:
            yield LoggedImage(stem, IMAGE_STEP, folder / f"{stem}.png")
    for stem, table in class_tables(assessment):
        table.to_csv(folder / "tables" / f"{stem}.csv", index=False)
        yield Artifact(f"tables/{stem}.csv", folder / "tables" / f"{stem}.csv")


def layer_table_files(folder: Path, model: Net) -> Iterator[Artifact]:
    """Write the layers of a net as a table, unless it is BaseCNN on images as the study's."""
    if not isinstance(model, BaseCNN) or (model.spec.shape, model.spec.classes) != (
        STUDY.shape,
        STUDY.classes,
    ):
        frame = pd.DataFrame(model.layers(), columns=["layer", "shape", "parameters"])
        frame.to_csv(folder / LAYERS_TABLE, index=False)
        yield Artifact(LAYERS_TABLE, folder / LAYERS_TABLE)


def render_plots(
    dataset: Dataset, outliers: ImageSet, assessment: Assessment, history: list[EpochResult]
) -> Iterator[tuple[str, pd.DataFrame, bytes]]:
    """Yield every plot of a run: its stem, the table that it is drawn from, and the PNG."""
    test = assessment.test
    table = history_table(history)
    yield "loss_curve", table, figures.png(figures.loss_curve(table))
    matrix = confusion_matrix(test.labels, test.predicted, len(test.classes))
    table = confusion_table(matrix, test.classes, test.classes)
    yield "confusion_matrix", table, figures.png(figures.confusion_matrix(table))
    rejected = assessment.rejected(assessment.outlier_scores)
    shown = example_indices(outliers, EXAMPLES)
    table = figures.outlier_table({MODEL: assessment.outliers}, outliers, shown, {MODEL: rejected})
    yield "outlier_predictions", table, figures.png(figures.outlier_predictions(table, outliers))
    table = figures.examples_table(dataset.train)
    yield "dataset_examples", table, figures.png(figures.dataset_examples(table, dataset.train))
    table = reliability_table(test.confidence, test.correct)
    yield "reliability", table, figures.png(figures.reliability(table))
    if assessment.detector is None or assessment.test_scores is None or assessment.outlier_scores is None:
        return
    scores = {dataset.test.name: assessment.test_scores, outliers.name: assessment.outlier_scores}
    table = figures.outlier_scores_table(scores, assessment.detector.threshold)
    yield "outlier_scores", table, figures.png(figures.outlier_scores(table))


def class_tables(assessment: Assessment) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the accuracy of each class and the largest confusions, for models of other classes than digits."""
    test = assessment.test
    if test.classes != DIGITS:
        yield "class_accuracy", class_accuracy_table(test.labels, test.predicted, test.classes)
        matrix = confusion_matrix(test.labels, test.predicted, len(test.classes))
        yield "largest_confusions", largest_confusions_table(matrix, test.classes)
