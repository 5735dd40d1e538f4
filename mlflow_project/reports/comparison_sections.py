"""The report's rooms about what follows: the study's figures beside these, verdicts, and observations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2.common.formatting import join_names
from hw2.comparison.findings import findings
from mlflow_project.common.text import same_value
from mlflow_project.registry.stored_runs import RunRecord
from mlflow_project.reports import reference_study
from mlflow_project.reports.elements import (
    Column,
    ReportFigure,
    Table,
    count,
    draw,
    format_setting,
    frame_table,
    kib,
    p_value,
    points,
    seconds,
    share,
    table,
)
from mlflow_project.reports.model_sections import ReportData

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison

TOPICS = {
    "best": "The best model, and whether that is certain",
    "schedules": "Short and aggressive against long and patient",
    "epochs": "What more epochs gain",
    "digits": "The digit with the most correct predictions",
}
_OF_THE_STUDY = {"batch_size": "64", "optimizer": "sgd", "momentum": "0.0"}


@dataclass(frozen=True)
class SideBySide:
    """The output table; holds: a sentence for each model of the study, on whether its figure is in the interval."""

    table: Table
    holds: tuple[str, ...]
    info: str


def of_study(run: RunRecord) -> reference_study.StudyModel | None:
    """The study's model of the same configuration, whatever it was trained on."""
    said = run.parameters
    if not all(same_value(said.get(key, value), value) for key, value in _OF_THE_STUDY.items()):
        return None
    for model in reference_study.STUDY:
        try:
            if float(said["lr"]) == model.lr and int(said["epochs"]) == model.epochs:
                return model
        except (KeyError, ValueError):
            return None
    return None


def is_digits(material: ReportData) -> bool:
    """Whether the models were trained on the study's images, or the sample of these."""
    return material.dataset.removesuffix("-sample") == reference_study.StudyData.dataset


def side_by_side(material: ReportData) -> SideBySide:
    """Every model's figures, and the study's beside them where it has that configuration."""
    theirs = {run.run_id: of_study(run) for run in material.runs} if is_digits(material) else {}
    accuracy = material.comparison.accuracy.to_dict("records")
    rows, holds = [], []
    for run, found in zip(material.runs, accuracy, strict=True):
        model = theirs.get(run.run_id)
        row: dict[str, Any] = {
            "model": run.name,
            "lr": format_setting(run.parameters.get("lr")),
            "epochs": format_setting(run.parameters.get("epochs")),
            "test_accuracy": found["accuracy"],
            "interval": f"{share(found['low'])} to {share(found['high'])}",
            "size": run.metrics.get("model_size_bytes"),
        }
        row |= {key: run.metrics.get(key) for key in ("train_seconds", "train_accuracy", "test_seconds")}
        if model is not None:
            inside = bool(found["low"] <= model.test_accuracy <= found["high"])
            row |= {
                f"study_{key}": getattr(model, key)
                for key in ("train_seconds", "train_accuracy", "test_seconds", "test_accuracy")
            }
            row |= {"holds": inside, "study_size": reference_study.MODEL_KB}
            holds.append(_held(run.name, model, found, inside))
        rows.append(row)
    columns = [Column("model", "Model"), Column("lr", "Learning rate"), Column("epochs", "Epochs")]
    for key, heading, say in (
        ("train_seconds", "training time (s)", seconds),
        ("train_accuracy", "training accuracy", share),
        ("test_seconds", "test time (s)", seconds),
        ("test_accuracy", "test accuracy", share),
    ):
        columns.append(Column(key, heading.capitalize(), say))
        if holds:
            columns.append(Column(f"study_{key}", f"Study: {heading}", say))
        if key == "test_accuracy":
            columns.append(Column("interval", "95 % interval"))
    if holds:
        columns.append(Column("holds", "Interval holds the study’s figure"))
    columns.append(Column("size", "Size (KiB)", kib))
    if holds:
        columns.append(Column("study_size", "Study: size (KB)", count))
    return SideBySide(table("All models", rows, columns), tuple(holds), _note(material, bool(holds)))


def _held(name: str, model: reference_study.StudyModel, found: Mapping[Any, Any], inside: bool) -> str:
    said = f"{share(found['low'])} to {share(found['high'])}"
    if inside:
        return f"{name}: the study’s {share(model.test_accuracy)} is inside {said}."
    side = "below" if model.test_accuracy < found["low"] else "above"
    return f"{name}: the study’s {share(model.test_accuracy)} is {side} {said}."


def _note(material: ReportData, any_study: bool) -> str:
    if not any_study:
        return ""
    if material.dataset != reference_study.StudyData.dataset:
        return (
            f"These models were trained and tested on {material.dataset}, a small part of the study’s images: "
            "their figures are no repetition of the study’s, which stand here for orientation."
        )
    fewer = any(
        of_study(run) and float(run.parameters.get("validation_size", 0)) > 0 for run in material.runs
    )
    held_out = (
        "The study trained on all training images; a part of them (validation_size) was held out here. "
        if fewer
        else ""
    )
    return held_out + (
        "The study’s times were measured on its own machine. The interval is for what the test images leave "
        "open; another start or order of training moves an accuracy, too."
    )


def accuracies(material: ReportData) -> ReportFigure:
    """Each accuracy with its interval."""
    from hw2 import figures

    frame = material.comparison.accuracy.copy()
    if is_digits(material):
        theirs = [of_study(run) for run in material.runs]
        if any(theirs):
            frame["study_accuracy"] = [None if m is None else m.test_accuracy for m in theirs]
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
    """What the figures of accuracy are drawn from."""
    columns = [
        Column("model", "Model"),
        Column("right", "Right", count),
        Column("pictures", "Images", count),
        Column("accuracy", "Accuracy", share),
        Column("low", "From", share),
        Column("high", "To", share),
        Column("train_seconds", "Training time (s)", seconds),
        Column("model_size_bytes", "Size (KiB)", kib),
        Column("pareto", "On the Pareto front"),
    ]
    if "study_accuracy" in frame:
        columns.insert(6, Column("study_accuracy", "Study", share))
    return frame_table("Accuracies with 95 % intervals, and what they cost", frame, columns)


def pareto(material: ReportData) -> ReportFigure | None:
    """Accuracy against what it costs; None where no training time is known."""
    from hw2 import figures

    frame = material.comparison.accuracy
    if len(frame) < 2 or frame["train_seconds"].isna().all():
        return None
    front = frame.loc[frame["pareto"], "model"].tolist()
    alt = (
        f"Points of accuracy over training time. On the Pareto front: {join_names(front)}. "
        + "; ".join(
            f"{row['model']} {share(row['accuracy'])} after {seconds(row['train_seconds'])} s"
            for row in frame.to_dict("records")
            if row["train_seconds"] is not pd.NA
        )
        + "."
    )
    return draw(figures.pareto(frame), "Accuracy against training time", alt, accuracy_table(frame))


def pairs(comparison: "Comparison") -> Table:
    """Each pair's verdict."""
    return frame_table(
        "Each pair of models on the same images",
        comparison.pairs,
        [
            Column("first", "First"),
            Column("second", "Second"),
            Column("verdict", "Verdict"),
            Column("only_first_right", "Only first right", count),
            Column("only_second_right", "Only second right", count),
            Column("same_answer", "Same answer", count),
            Column("difference", "Difference (points)", points),
            Column("low", "From", points),
            Column("high", "To", points),
            Column("p", "p", p_value),
            Column("p_holm", "p, corrected", p_value),
        ],
    )


def over_seeds(comparison: "Comparison") -> list[Table]:
    """Means over seeds and their paired tests; none where no configuration has two."""
    if not (comparison.seeds["models"] > 1).any():
        return []
    found = [
        frame_table(
            "Each configuration over its seeds",
            comparison.seeds,
            [
                Column("configuration", "Configuration"),
                Column("seeds", "Seeds"),
                Column("mean", "Mean accuracy", share),
                Column("sd", "Standard deviation", share),
                Column("least", "Least", share),
                Column("most", "Most", share),
            ],
        )
    ]
    if len(comparison.seed_pairs):
        found.append(
            frame_table(
                "Each pair of configurations over the seeds that both have",
                comparison.seed_pairs,
                [
                    Column("first", "First"),
                    Column("second", "Second"),
                    Column("verdict", "Verdict"),
                    Column("seeds", "Seeds", count),
                    Column("difference", "Difference (points)", points),
                    Column("low", "From", points),
                    Column("high", "To", points),
                    Column("p_holm", "p, corrected", p_value),
                ],
            )
        )
    return found


def observed(comparison: "Comparison") -> list[tuple[str, list[str]]]:
    """What the data say, by topic."""
    by_topic: dict[str, list[str]] = {}
    for found in findings(comparison):
        by_topic.setdefault(TOPICS[found.topic], []).append(found.text)
    return list(by_topic.items())


def provenance(runs: Sequence[RunRecord]) -> Table:
    """By what each model can be found and checked."""
    rows = [{"model": run.name, "run": run.run_id, **run.tags} for run in runs]
    columns = [
        Column("model", "Model"),
        Column("run", "Run in MLflow"),
        *(
            Column(key, heading, lambda value: str(value)[:12])
            for key, heading in (
                ("configuration_sha256", "Configuration"),
                ("weights_sha256", "Weights"),
                ("dataset_sha256", "Data"),
                ("code_sha256", "Code"),
                ("fingerprint", "Fingerprint"),
            )
        ),
    ]
    return table("Runs, and the beginnings of their SHA-256", rows, columns)
