"""The report's sections about all models: their metrics beside the reference study's, verdicts and findings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2.common.formatting import join_names
from hw2.comparison.findings import findings
from hw2.training.config import LATER
from mlflow_project.common.text import same_value
from mlflow_project.registry.stored_runs import RunRecord
from mlflow_project.reports import reference_study
from mlflow_project.reports.elements import (
    Column,
    ReportFigure,
    Table,
    columns,
    count,
    difference_columns,
    draw,
    format_setting,
    frame_table,
    kib,
    p_value,
    seconds,
    share,
    short_sha,
    table,
)
from mlflow_project.reports.model_sections import ReportData

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison

TOPICS = {
    "best": "The most accurate model, and whether its lead is significant",
    "schedules": "Short and aggressive against long and patient",
    "epochs": "What more epochs gain",
    "digits": "The digit with the most correct predictions",
    "classes": "The class with the most correct predictions",
}
_STUDY_SETTINGS = {"batch_size": "64", "optimizer": "sgd", "momentum": "0.0"}


@dataclass(frozen=True)
class SideBySide:
    """The table of all models; holds: for each model of the study, whether its accuracy is in the interval."""

    table: Table
    holds: tuple[str, ...]
    note: str


def of_study(run: RunRecord) -> reference_study.StudyModel | None:
    """Return the study's model of the same configuration, whatever it was trained on."""
    params = run.parameters
    if not all(same_value(params.get(key, value), value) for key, value in _STUDY_SETTINGS.items()):
        return None
    if not params.keys().isdisjoint(LATER):  # which the study didn't have either
        return None
    for model in reference_study.STUDY:
        try:
            if float(params["lr"]) == model.lr and int(params["epochs"]) == model.epochs:
                return model
        except (KeyError, ValueError):
            return None
    return None


def is_digits(data: ReportData) -> bool:
    """Return whether the models were trained on the study's images, or the sample of these."""
    return data.dataset.removesuffix("-sample") == reference_study.StudyData.dataset


def side_by_side(data: ReportData) -> SideBySide:
    """Build every model's metrics, and the study's beside them where it has that configuration."""
    study_models = {run.run_id: of_study(run) for run in data.runs} if is_digits(data) else {}
    compared = (
        ("train_seconds", "training time (s)", seconds),
        ("train_accuracy", "training accuracy", share),
        ("test_seconds", "test time (s)", seconds),
        ("test_accuracy", "test accuracy", share),
    )
    rows, holds = [], []
    for run, accuracy in zip(data.runs, data.comparison.accuracy.to_dict("records"), strict=True):
        model = study_models.get(run.run_id)
        row: dict[str, Any] = {
            "model": run.name,
            **{key: format_setting(run.parameters.get(key)) for key in ("lr", "epochs")},
            **{key: run.metrics.get(key) for key, _, _ in compared},
            "test_accuracy": accuracy["accuracy"],
            "interval": _interval(accuracy),
            "size": run.metrics.get("model_size_bytes"),
        }
        if model is not None:
            row |= {f"study_{key}": getattr(model, key) for key, _, _ in compared}
            row |= {"holds": _side(model, accuracy) == "inside", "study_size": reference_study.MODEL_KB}
            holds.append(
                f"{run.name}: the reference study’s {share(model.test_accuracy)} is {_side(model, accuracy)} "
                f"{_interval(accuracy)}."
            )
        rows.append(row)
    shown = [Column("model"), Column("lr", "Learning rate"), Column("epochs")]
    for key, heading, format_ in compared:
        shown.append(Column(key, heading.capitalize(), format_))
        if holds:
            shown.append(Column(f"study_{key}", f"Study: {heading}", format_))
    shown.append(Column("interval", "95 % interval"))
    if holds:
        shown.append(Column("holds", "Interval holds the study’s accuracy"))
    shown.append(Column("size", "Size (KiB)", kib))
    if holds:
        shown.append(Column("study_size", "Study: size (KB)", count))
    return SideBySide(table("All models", rows, shown), tuple(holds), _note(data) if holds else "")


def _interval(accuracy: Mapping[Any, Any]) -> str:
    return f"{share(accuracy['low'])} to {share(accuracy['high'])}"


def _side(model: reference_study.StudyModel, accuracy: Mapping[Any, Any]) -> str:
    if model.test_accuracy < accuracy["low"]:
        return "below"
    return "above" if model.test_accuracy > accuracy["high"] else "inside"


def _note(data: ReportData) -> str:
    if data.dataset != reference_study.StudyData.dataset:
        return (
            f"These models were trained and tested on {data.dataset}, a small part of the study’s images: "
            "their metrics are no repetition of the study’s, which stand here for orientation."
        )
    fewer = any(of_study(run) and float(run.parameters.get("validation_size", 0)) > 0 for run in data.runs)
    held_out = (
        "The reference study trained on all training images; a part of them (validation_size) was held out here. "
        if fewer
        else ""
    )
    return held_out + (
        "The reference study’s times were measured on its own machine. The interval is for what the test images "
        "leave open; another seed moves an accuracy, too."
    )


def accuracies(data: ReportData) -> ReportFigure:
    """Draw each accuracy with its interval."""
    from hw2 import figures

    frame = data.comparison.accuracy.copy()
    if is_digits(data):
        study_models = [of_study(run) for run in data.runs]
        if any(study_models):
            frame["study_accuracy"] = [None if m is None else m.test_accuracy for m in study_models]
            frame["study_accuracy"] = frame["study_accuracy"].astype(float)
    alt = "; ".join(
        f"{row['model']} {share(row['accuracy'])}, between {share(row['low'])} and {share(row['high'])}"
        for row in frame.to_dict("records")
    )
    return draw(
        figures.accuracy_intervals(frame),
        "Accuracy of each model with its 95 % Wilson interval",
        f"Accuracies as points with intervals: {alt}.",
        accuracy_table(frame),
    )


def accuracy_table(frame: pd.DataFrame) -> Table:
    """Build the table that the plots of accuracy are drawn from."""
    shown = [
        Column("model"),
        Column("right", "Correct", count),
        Column("pictures", "Images", count),
        Column("accuracy", "Accuracy", share),
        Column("low", "From", share),
        Column("high", "To", share),
        Column("train_seconds", "Training time (s)", seconds),
        Column("model_size_bytes", "Size (KiB)", kib),
        Column("pareto", "On the Pareto front"),
    ]
    if "study_accuracy" in frame:
        shown.insert(6, Column("study_accuracy", "Reference study", share))
    return frame_table("Accuracies with 95 % intervals, time and size", frame, shown)


def pareto(data: ReportData) -> ReportFigure | None:
    """Draw accuracy against training time; None where no training time is known."""
    from hw2 import figures

    frame = data.comparison.accuracy
    if len(frame) < 2 or frame["train_seconds"].isna().all():
        return None
    front = frame.loc[frame["pareto"], "model"].tolist()
    points = "; ".join(
        f"{row['model']} {share(row['accuracy'])} after {seconds(row['train_seconds'])} s"
        for row in frame.to_dict("records")
        if pd.notna(row["train_seconds"])
    )
    alt = f"Points of accuracy over training time. On the Pareto front: {join_names(front)}. {points}."
    return draw(figures.pareto(frame), "Accuracy against training time", alt, accuracy_table(frame))


def pairs(comparison: "Comparison") -> Table:
    """Build each pair's verdict."""
    shown = [
        *columns("first", "second", "verdict"),
        Column("only_first_right", "Only first correct", count),
        Column("only_second_right", "Only second correct", count),
        Column("same_answer", "Same prediction", count),
        *difference_columns(),
        Column("p", "p", p_value),
        Column("p_holm", "p, corrected", p_value),
    ]
    return frame_table("Each pair of models on the same images", comparison.pairs, shown)


def observed(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    """Group the findings by topic."""
    by_topic: dict[str, list[str]] = {}
    for finding in findings(comparison):
        by_topic.setdefault(TOPICS[finding.topic], []).append(finding.text)
    return list(by_topic.items())


def provenance(runs: Sequence[RunRecord]) -> Table:
    """Build the table of what each model can be found and checked by."""
    hashes = {
        "configuration_sha256": "Configuration",
        "weights_sha256": "Weights",
        "dataset_sha256": "Data",
        "code_sha256": "Code",
        "fingerprint": "Fingerprint",
    }
    shown = [Column("model"), Column("run", "Run in MLflow")]
    shown += [Column(key, heading, short_sha) for key, heading in hashes.items()]
    rows = [{"model": run.name, "run": run.run_id, **run.tags} for run in runs]
    return table("Runs, and the beginnings of their SHA-256", rows, shown)
