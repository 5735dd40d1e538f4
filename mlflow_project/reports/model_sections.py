"""The report's sections about what was done: data, split, configurations, net, and each model's training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw2.common.formatting import format_percent, format_ratio, join_names, plural
from hw2.common.image_spec import STUDY
from hw2.data.catalog import SAMPLE_SUFFIX
from hw2.models.net_source import BASE, class_name
from mlflow_project.analysis.run_selection import IDENTITY
from mlflow_project.common.names import LAYERS_TABLE
from mlflow_project.registry.stored_runs import DatasetInputInfo, RunRecord
from mlflow_project.reports.elements import (
    Column,
    ReportFigure,
    Table,
    count,
    format_loss,
    format_setting,
    frame_table,
    kib,
    png_uri,
    seconds,
    share,
    short_sha,
    table,
)

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison
    from hw2.comparison.model_predictions import ModelPredictions

BASE_SET = "mnist"
EXAMPLES, LOSSES = "dataset_examples", "loss_curve"
PATHS = (f"{LOSSES}.png", f"tables/{LOSSES}.csv")
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class ReportData:
    """What a report is made from: the runs, their comparison, and their downloaded files."""

    runs: Sequence[RunRecord]
    comparison: "Comparison"
    files: Mapping[tuple[str, str], Path | None]

    def png(self, run_id: str, stem: str) -> str | None:
        """Return a stored plot as it stands in the page; None where there is none."""
        path = self.files.get((run_id, f"{stem}.png"))
        return None if path is None else png_uri(path.read_bytes())

    def frame(self, run_id: str, stem: str) -> pd.DataFrame | None:
        """Read a stored table; None where there is none."""
        path = self.files.get((run_id, f"tables/{stem}.csv"))
        return None if path is None else pd.read_csv(path, keep_default_na=True)

    def figure(
        self,
        run_id: str,
        stem: str,
        caption: str,
        describe: Callable[[pd.DataFrame], str],
        tabulate: Callable[[pd.DataFrame], Table],
    ) -> ReportFigure | None:
        """Return a stored plot, described from its stored table; None where one of them is missing."""
        uri, frame = self.png(run_id, stem), self.frame(run_id, stem)
        if uri is None or frame is None:
            return None
        return ReportFigure(caption, describe(frame), uri, (tabulate(frame),))

    @property
    def dataset(self) -> str:
        """Name of the first run's data set; all have the same test images."""
        first = self.runs[0]
        return first.tags.get("dataset") or first.parameters.get("dataset") or "a test set without a name"


@dataclass(frozen=True)
class Architecture:
    """A net in a sentence, and its layers with shapes and parameters."""

    sentence: str
    layers: Table | None


@dataclass(frozen=True)
class ModelSection:
    """One model: its name and configuration, its metrics, and its loss curve."""

    name: str
    configuration: str
    facts: Table
    curve: ReportFigure | None


def required_artifacts(runs: Sequence[RunRecord]) -> Iterator[tuple[RunRecord, str]]:
    """Yield the files that these sections need."""
    yield runs[0], f"{EXAMPLES}.png"
    yield runs[0], f"tables/{EXAMPLES}.csv"
    for run in runs:
        yield from ((run, path) for path in PATHS)
        if "model" in run.parameters or not _is_study_set(run):
            yield run, LAYERS_TABLE


def _is_study_set(run: RunRecord) -> bool:
    """Whether a run's images are MNIST's, on which BaseCNN's layers are known."""
    return run.tags.get("dataset", BASE_SET).removesuffix(SAMPLE_SUFFIX) == BASE_SET


def image_form(data: ReportData) -> str:
    """Say what one image is."""
    channels, height, width = _image_shape(data)
    return f"{width} × {height} {'grey values' if channels == 1 else 'pixels in color'}, 0 to 255"


def image_bytes(data: ReportData) -> int:
    """Count the bytes that one image takes in memory, with its label."""
    return math.prod(_image_shape(data)) + 1


def _image_shape(data: ReportData) -> tuple[int, ...]:
    """Return channels, height and width, by the table of the net's layers where the images aren't the study's."""
    layers = data.frame(data.runs[0].run_id, Path(LAYERS_TABLE).stem)
    if layers is None or _is_study_set(data.runs[0]):
        return 1, *STUDY.shape
    return tuple(map(int, str(layers["shape"].iloc[0]).split(" x ")))


def parts_of_data(data: ReportData) -> list[DatasetInputInfo]:
    """Return each part of the data once, in the order in which it is used."""
    parts: dict[tuple[str, str], DatasetInputInfo] = {}
    for run in data.runs:
        for part in run.data:
            parts.setdefault((part.context, part.sha256), part)
    order = {"training": 0, "validation": 1, "test": 2}
    return sorted(parts.values(), key=lambda part: order.get(part.context, len(order)))


def total_images(run: RunRecord) -> int:
    """Count the images in all parts of a run's data; 0 where it names none."""
    return sum(part.images for part in run.data)


def class_table(data: ReportData) -> Table:
    """Build the table of the test images of each class."""
    model = data.comparison.models[0]
    counts = np.bincount(model.labels, minlength=len(model.classes))
    names = class_names(data)
    rows = [
        {"class": names.get(label, str(label)), "images": int(n), "share": n / model.n}
        for label, n in enumerate(counts)
        if n
    ]
    shown = [
        Column("class"),
        Column("images", "Test images", count),
        Column("share", "Share", lambda value: format_percent(value, 1)),
    ]
    return table("Test images of each class", rows, shown)


def class_names(data: ReportData) -> dict[int, str]:
    """Return the classes' names by label, from the first run's predictions or its table of examples."""
    if data.comparison.models[0].classes:
        return dict(enumerate(data.comparison.models[0].classes))
    frame = data.frame(data.runs[0].run_id, EXAMPLES)
    return (
        {} if frame is None else {int(n): str(c) for n, c in zip(frame["label"], frame["class"], strict=True)}
    )


def examples(data: ReportData) -> ReportFigure | None:
    """Return the images of each class, as the first run has drawn them."""
    run_id = data.runs[0].run_id
    uri, frame = data.png(run_id, EXAMPLES), data.frame(run_id, EXAMPLES)
    if uri is None or frame is None:
        return None
    per_class = int(frame.groupby("label").size().max())
    names = [str(name) for name in dict.fromkeys(frame["class"])]
    caption = f"{per_class} examples of each of {len(names)} classes, from the training images"
    alt = f"A column for each class ({', '.join(names)}), each with its first {per_class} training images."
    shown = [Column("class"), Column("index", "Number among the training images", count)]
    return ReportFigure(caption, alt, uri, (frame_table("Which images these are", frame, shown),))


def split(data: ReportData) -> Table:
    """Build the table of the parts of the data, and which models used them."""
    rows = []
    total = total_images(data.runs[0]) or 1
    for part in parts_of_data(data):
        users = [run.name for run in data.runs if any(p.sha256 == part.sha256 for p in run.data)]
        rows.append(
            {
                "context": part.context,
                "images": part.images,
                "share": part.images / total,
                "models": "all" if len(users) == len(data.runs) else join_names(users),
                "sha256": part.sha256,
                "source": part.source,
            }
        )
    shown = [
        Column("context", "Part"),
        Column("images", "Images", count),
        Column("share", "Share of all", lambda value: format_percent(value, 1)),
        Column("models", "Used by"),
        Column("sha256", "SHA-256 (beginning)", short_sha),
        Column("source", "From"),
    ]
    return table("The parts of the data", rows, shown)


def configurations(data: ReportData) -> tuple[Table, Table]:
    """Build the table of what differs among the models, a row a model, and that of what they have in common."""
    keys = list(dict.fromkeys(key for run in data.runs for key in run.parameters))
    values = {key: {run.parameters.get(key) for run in data.runs} for key in keys}
    differing = [key for key in keys if key in ("lr", "epochs") or len(values[key]) > 1]
    rows = [
        {"model": run.name, **{key: format_setting(run.parameters.get(key)) for key in differing}}
        for run in data.runs
    ]
    shown = [Column("model"), *(Column(key, config_key(key).capitalize()) for key in differing)]
    common = [
        {"what": config_key(key), "value": data.runs[0].parameters[key]}
        for key in keys
        if key not in differing
    ]
    for key in ("precision_used", "device_used", "host"):
        used = dict.fromkeys(run.tags.get(key, "") for run in data.runs)
        common.append({"what": config_key(key), "value": ", ".join(filter(None, used))})
    return (
        table("Configuration of each model", rows, shown),
        table("The same for all models", common, [Column("what", "Setting"), Column("value")]),
    )


def config_key(key: str) -> str:
    """Return a parameter's name in words."""
    return {"lr": "learning rate"}.get(key, key.replace("_", " "))


def architectures(data: ReportData) -> list[Architecture]:
    """Describe every net once, in the order of the models."""
    from hw2.models.base_cnn import layer_table

    users: dict[tuple[str, str], list[RunRecord]] = {}
    foreign = [run.name for run in data.runs if IDENTITY not in run.tags]
    for run in data.runs:
        if IDENTITY not in run.tags:
            continue
        net = run.parameters.get("model", BASE)
        users.setdefault((net, "" if net == BASE else run.tags.get("code_sha256", "")), []).append(run)
    nets = []
    for (net, _), runs in users.items():
        name = class_name(net)
        who = (
            "Every model is"
            if len(users) == 1 and not foreign
            else f"{join_names([run.name for run in runs])}:"
        )
        stored = data.frame(runs[0].run_id, Path(LAYERS_TABLE).stem)
        if net == BASE and stored is None:
            layers: Sequence[tuple[str, str, int]] | None = layer_table()
        else:
            layers = None if stored is None else list(stored.fillna("").itertuples(index=False, name=None))
        if layers is None:
            nets.append(Architecture(f"{who} {name}; the table of its layers is missing.", None))
            continue
        total = sum(int(row[2]) for row in layers)
        sentence = f"{who} a {name} with {total:,} parameters. Its preprocessing is part of it."
        nets.append(Architecture(sentence, _layers(name, layers, total)))
    if foreign:
        nets.append(
            Architecture(f"{join_names(foreign)}: logged by another program, which names no net.", None)
        )
    return nets


def _layers(name: str, layers: Sequence[tuple[str, str, int]], total: int) -> Table:
    rows: list[Row] = [{"layer": layer, "shape": shape, "parameters": n} for layer, shape, n in layers]
    rows.append({"layer": "in all", "shape": None, "parameters": total})
    shown = [
        Column("layer"),
        Column("shape", "Output for one image"),
        Column("parameters", format=count),
    ]
    return table(f"{name}, layer by layer", rows, shown)


_FACTS = (
    ("train_loss", "training loss (nats)", format_loss),
    ("train_accuracy", "training accuracy, last epoch", share),
    ("validation_loss", "validation loss (nats)", format_loss),
    ("validation_accuracy", "validation accuracy", share),
    ("test_balanced_accuracy", "balanced test accuracy (each class counts alike)", share),
    ("test_top5_accuracy", "test accuracy among the five likeliest", share),
    ("test_loss", "test loss (nats)", format_loss),
    ("test_calibration_error", "calibration error", format_loss),
    ("train_seconds", "training time (s)", seconds),
    ("images_per_second", "images/s, last epoch", count),
    ("test_seconds", "test time (s)", seconds),
    ("model_size_bytes", "size (KiB)", kib),
    ("test_rejected", "inliers rejected", share),
    ("outlier_rejected", "outliers rejected", share),
    ("outlier_auroc", "outlier AUROC", format_ratio),
)


def model_sections(data: ReportData) -> list[ModelSection]:
    """Build a section for each model."""
    return [
        ModelSection(
            run.name,
            ", ".join(
                f"{config_key(k)} {run.parameters[k]}"
                for k in ("lr", "epochs", "seed")
                if k in run.parameters
            ),
            _facts(run, model),
            _curve(data, run),
        )
        for run, model in zip(data.runs, data.comparison.models, strict=True)
    ]


def _facts(run: RunRecord, model: "ModelPredictions") -> Table:
    rows = [
        {"what": "test images correct", "value": f"{int(model.correct.sum()):,} of {model.n:,}"},
        {"what": "test accuracy", "value": share(model.accuracy)},
    ]
    metrics = {**model.logit_metrics, **run.metrics}
    rows += [
        {"what": heading, "value": format_(metrics[key])}
        for key, heading, format_ in _FACTS
        if key in metrics
    ]
    if "test_accuracy" in run.metrics and "outlier_auroc" not in run.metrics:
        rows.append({"what": "outlier score", "value": "none: too few images to fit one on"})
    rows += [
        {"what": heading, "value": run.tags[key]}
        for key, heading in (
            ("shares_training_with", "shares its training with"),
            ("resumed", "times resumed"),
        )
        if run.tags.get(key, "0") != "0"
    ]
    return table(f"Metrics of {run.name}", rows, [Column("what", "Metric"), Column("value")])


def _curve(data: ReportData, run: RunRecord) -> ReportFigure | None:
    caption = f"Loss and accuracy of {run.name} by epoch"
    formats = {"epoch": count, "epoch_seconds": seconds, "images_per_second": count}

    def describe(frame: pd.DataFrame) -> str:
        first, last = frame.iloc[0], frame.iloc[-1]
        text = (
            f"Two curves over {plural(len(frame), 'epoch')}: training loss goes from {first['train_loss']:.4f} to "
            f"{last['train_loss']:.4f}, training accuracy from {share(first['train_accuracy'])} to "
            f"{share(last['train_accuracy'])}."
        )
        if "validation_accuracy" not in frame:
            return text
        return f"{text} Validation accuracy ends at {share(last['validation_accuracy'])}."

    def tabulate(frame: pd.DataFrame) -> Table:
        names = map(str, frame)
        shown = [
            Column(n, n.replace("_", " "), formats.get(n) or (share if "accuracy" in n else format_loss))
            for n in names
        ]
        return frame_table(f"{run.name}, epoch by epoch", frame, shown)

    return data.figure(run.run_id, LOSSES, caption, describe, tabulate)
