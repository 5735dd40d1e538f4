"""The report's room about pictures that are no digits: the latest outlier test of models on these data."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from hw2.wording import percent
from mlflow_project import study
from mlflow_project.report_models import Material
from mlflow_project.report_parts import Column, Picture, Table, below_one, count, frame_table, listed, share
from mlflow_project.runs import experiment_name
from mlflow_project.selection import StoredRun, search, stored

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SHIPPED = "outlier_score"
_TOGETHER = "together"


@dataclass(frozen=True)
class SetRoom:
    """One set of outliers: what each model makes of some of its pictures one by one, and of all of them."""

    name: str
    examples: tuple[Picture, ...]
    whole: tuple[Picture, ...]
    measures: Table | None


@dataclass(frozen=True)
class OutlierRoom:
    """An outlier test: which run it is, the study's way to read it, the honest one, and each set."""

    about: str
    as_study: str
    honest: tuple[str, ...]
    sets: tuple[SetRoom, ...]


def latest_test(client: "MlflowClient", dataset_sha256: str) -> StoredRun | None:
    """The newest completed outlier test of models on that data set."""
    from mlflow_project.connection import translated

    with translated():
        experiment = client.get_experiment_by_name(experiment_name())
    if experiment is None:
        return None
    condition = (
        f"tags.status = 'completed' and tags.dataset_sha256 = '{dataset_sha256}' and params.outliers LIKE '%'"
    )
    found = next(search(client, [experiment.experiment_id], condition), None)
    return None if found is None else stored(found)


def sets_and_models(run: StoredRun) -> tuple[list[str], list[str]]:
    """Which sets were shown to which models."""
    return run.parameters["outliers"].split(", "), run.parameters["models"].split(", ")


def wanted(run: StoredRun) -> Iterator[tuple[StoredRun, str]]:
    """The files that this room needs."""
    sets, models = sets_and_models(run)
    stems = [f"probability_vectors_{name}" for name in sets]
    stems += [
        f"{kind}_{name}_{model}"
        for kind in ("outlier_predictions", "outlier_matrix", "outlier_scores")
        for name in sets
        for model in models
    ]
    for stem in stems:
        yield run, f"{stem}.png"
        yield run, f"tables/{stem}.csv"
    yield run, "tables/thresholds.csv"
    yield run, "tables/outlier_measures.csv"


def outlier_room(material: Material, run: StoredRun) -> OutlierRoom:
    """All of it, from the run's tables and figures."""
    sets, models = sets_and_models(run)
    versions = json.loads(run.tags.get("versions", "{}"))
    named = ", ".join(f"{name} is {uri.removeprefix('models:/')}" for name, uri in versions.items())
    about = (
        f"Run {run.run_id}: {run.name}. Of the registered models, {named}." if named else f"Run {run.run_id}."
    )
    return OutlierRoom(
        about,
        _as_study(run, models),
        tuple(_honest(material, run)),
        tuple(_set_room(material, run, name, models) for name in sets),
    )


def _as_study(run: StoredRun, models: list[str]) -> str:
    from hw2.outlier_tables import Matches

    if "matched" not in run.metrics:
        return (
            "No set shown has ten classes, so the study’s way of reading, digit n as class n, doesn’t apply."
        )
    matches = Matches(int(run.metrics["matched"]), int(run.metrics["answers"]))
    return (
        f"Digit n read as garment class n, as the study does, for {listed(models)}: {matches}. "
        f"The study found {study.MATCHED} of {study.ANSWERS}."
    )


def _honest(material: Material, run: StoredRun) -> Iterator[str]:
    yield (
        "A garment has no digit, so no answer of a digit model can be right; a match is a coincidence of numbering. "
        "The question that can be asked is whether a model knows that it doesn’t know."
    )
    measures, thresholds = (material.frame(run.run_id, stem) for stem in ("outlier_measures", "thresholds"))
    if measures is None or thresholds is None:
        return
    for row in thresholds.to_dict("records"):
        own = measures[
            (measures["outliers"] == row["outliers"])
            & (measures["model"] == row["model"])
            & (measures["score"] == _SHIPPED)
        ]
        auroc = f" AUROC {below_one(own['auroc'].iloc[0])}." if len(own) else ""
        yield (
            f"{row['model']} by its own score and threshold rejects {percent(row['outliers_rejected'], 1)} of "
            f"{row['pictures']:,} pictures of {row['outliers']} and keeps {percent(row['digits_kept'], 1)} of "
            f"{row['digits']:,} digits.{auroc}"
        )


def _set_room(material: Material, run: StoredRun, name: str, models: list[str]) -> SetRoom:
    examples: list[Picture | None] = []
    whole: list[Picture | None] = []
    for model in models:
        stem = f"outlier_predictions_{name}_{model}"
        frame = material.frame(run.run_id, stem)
        if frame is not None:
            caption = f"Pictures of {name} shown to {model}: what they are, and what they are taken for"
            examples.append(
                _picture(material, run, stem, caption, _taken(frame, name, model), _answers(frame))
            )
    stem = f"probability_vectors_{name}"
    frame = material.frame(run.run_id, stem)
    if frame is not None:
        examples.append(
            _picture(
                material,
                run,
                stem,
                f"The ten probabilities of each picture of {name}",
                _sureness(frame),
                frame_table(f"Probabilities for {name}", frame, _probability_columns(frame)),
            )
        )
    for kind in ("outlier_matrix", "outlier_scores"):
        for model in models:
            stem = f"{kind}_{name}_{model}"
            frame = material.frame(run.run_id, stem)
            if frame is None:
                continue
            if kind == "outlier_matrix":
                caption = f"All of {name} shown to {model}: which digit each class is taken for"
                alt = _strongest(frame, model)
            else:
                caption = f"Outlier scores of {model}: digits against {name}"
                alt = _overlap(frame, model)
            whole.append(_picture(material, run, stem, caption, alt, frame_table(caption, frame)))
    return SetRoom(
        name, tuple(filter(None, examples)), tuple(filter(None, whole)), _measures(material, run, name)
    )


def _picture(
    material: Material, run: StoredRun, stem: str, caption: str, alt: str, said: Table
) -> Picture | None:
    uri = material.png(run.run_id, stem)
    return None if uri is None else Picture(caption, alt, uri, (said,))


def _taken(frame: pd.DataFrame, name: str, model: str) -> str:
    said = ", ".join(f"{row['class']} taken for {row['predicted']}" for row in frame.to_dict("records"))
    return f"{len(frame)} pictures of {name} shown to {model}: {said}."


def _answers(frame: pd.DataFrame) -> Table:
    columns = [
        Column("class", "Label"),
        Column("predicted", "Predicted digit", count),
        Column("predicted_class", "Class of that number"),
        Column("matches", "Numbers match"),
        Column("confidence", "Confidence", share),
        Column("rejected", "Rejected as no digit"),
    ]
    return frame_table(f"Labels against predictions of {frame['model'].iloc[0]}", frame, columns)


def _probability_columns(frame: pd.DataFrame) -> list[Column]:
    digits = [Column(f"probability_{n}", str(n), lambda value: f"{value:.3f}") for n in range(10)]
    return [Column("class", "Label"), Column("model", "Model"), *(c for c in digits if c.key in frame)]


def _sureness(frame: pd.DataFrame) -> str:
    means = frame.groupby("model", sort=False)["confidence"].mean()
    said = ", ".join(f"{model} {percent(value, 0)}" for model, value in means.items())
    return f"A row of ten probabilities for each picture and model. Mean confidence: {said}."


def _strongest(frame: pd.DataFrame, model: str) -> str:
    counts = frame.drop(columns="label").to_numpy()
    parts = [
        f"{label} mostly for {row.argmax()} ({percent(row.max() / row.sum(), 0)})"
        for label, row in zip(frame["label"], counts, strict=True)
        if row.sum()
    ]
    return f"{model} takes {', '.join(parts)}."


def _overlap(frame: pd.DataFrame, model: str) -> str:
    names = [name for name in frame if name not in ("low", "high", "rejected")]
    rejected = frame["rejected"].astype(bool)
    said = [
        f"{int(frame[name][rejected].sum()):,} of {int(frame[name].sum()):,} pictures of {name}"
        for name in names
    ]
    return f"Histograms of the scores of {' and '.join(map(str, names))}. {model} rejects {listed(said)}."


def _measures(material: Material, run: StoredRun, name: str) -> Table | None:
    frame = material.frame(run.run_id, "outlier_measures")
    if frame is None:
        return None
    part = frame[frame["outliers"] == name]
    columns = [
        Column("model", "Model"),
        Column("score", "Score", lambda value: str(value).replace("_", " ")),
        Column("auroc", "AUROC", below_one),
        Column("auroc_low", "From", below_one),
        Column("auroc_high", "To", below_one),
        Column("outliers_accepted", "Outliers accepted while 95 % of digits are kept", share),
    ]
    return frame_table(f"Every score against {name}", part, columns)
