"""The report's room about images that are no digits: the latest outlier test of its models, or their own runs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd

from hw2.common.formatting import format_ci, format_percent, format_ratio, join_names
from mlflow_project.analysis.run_selection import search, stored
from mlflow_project.registry.stored_runs import RunRecord
from mlflow_project.reports import reference_study
from mlflow_project.reports.elements import Column, ReportFigure, Table, count, frame_table, share
from mlflow_project.reports.model_sections import ReportData
from mlflow_project.tracking.experiment import experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DEFAULT_SCORE = "outlier_score"
_ANSWERS = "outlier_predictions"


@dataclass(frozen=True)
class OutlierSetSection:
    """One set of outliers: what each model makes of some of its images one by one, and of all of them."""

    name: str
    examples: tuple[ReportFigure, ...]
    whole: tuple[ReportFigure, ...]
    measures: Table | None


@dataclass(frozen=True)
class OutlierSection:
    """An outlier test with the study's way to read it, the honest one, and each set.

    own: of the models that are not in it, what their own runs have drawn.
    """

    about: str
    as_study: str | None = None
    honest: tuple[str, ...] = ()
    sets: tuple[OutlierSetSection, ...] = ()
    own: tuple[ReportFigure, ...] = ()


@dataclass(frozen=True)
class OutlierRun:
    """An outlier test, and which of the report's runs are in it: their ids by the name that it gives their models."""

    run: RunRecord
    shown: Mapping[str, str]

    @property
    def versions(self) -> dict[str, str]:
        """The URI of each model's registered version, by the name that tables and figures use."""
        versions: dict[str, str] = json.loads(self.run.tags.get("versions", "{}"))
        return versions

    @property
    def sets(self) -> list[str]:
        """As they are named in tables and figures; what was asked for may say it otherwise."""
        return [part.name for part in self.run.data if part.context == "outliers"]


def latest_test(client: "MlflowClient", runs: Sequence[RunRecord]) -> OutlierRun | None:
    """Of the completed outlier tests on these runs' data the one with the most of their models; the newest of such.

    None where no test has any of them.
    """
    from mlflow_project.tracking.delivery.client import mlflow_errors

    with mlflow_errors():
        experiment = client.get_experiment_by_name(experiment_name())
        ids = ", ".join(f"'{run.run_id}'" for run in runs)
        registered = {
            f"models:/{version.name}/{version.version}": str(version.run_id)
            for version in client.search_model_versions(f"run_id IN ({ids})")
        }
    if experiment is None or not registered:
        return None
    condition = (
        "tags.status = 'completed' and params.outliers LIKE '%' and "
        f"tags.dataset_sha256 = '{runs[0].tags.get('dataset_sha256', '')}'"
    )
    best: OutlierRun | None = None
    for found in search(client, [experiment.experiment_id], condition):
        test = OutlierRun(stored(found), {})
        shown = {name: registered[uri] for name, uri in test.versions.items() if uri in registered}
        if len(shown) > (len(best.shown) if best else 0):
            best = replace(test, shown=shown)
        if best and len(best.shown) == len(set(registered.values())):
            break
    return best


def required_artifacts(runs: Sequence[RunRecord], test: OutlierRun | None) -> Iterator[tuple[RunRecord, str]]:
    """The files that this room needs."""
    for run in _untested(runs, test):
        yield from ((run, path) for path in (f"{_ANSWERS}.png", f"tables/{_ANSWERS}.csv"))
    if test is None:
        return
    stems = [f"probability_vectors_{name}" for name in test.sets]
    stems += [
        f"{kind}_{name}_{model}"
        for kind in (_ANSWERS, "outlier_matrix", "outlier_scores")
        for name in test.sets
        for model in test.versions
    ]
    for stem in stems:
        yield test.run, f"{stem}.png"
        yield test.run, f"tables/{stem}.csv"
    yield test.run, "tables/thresholds.csv"
    yield test.run, "tables/outlier_measures.csv"


def outlier_section(material: ReportData, test: OutlierRun | None) -> OutlierSection | None:
    """All of it, from the runs' tables and figures; None where there is neither a test nor a run's own figure."""
    own = tuple(_own(material, test))
    if test is None:
        about = (
            "There is no outlier test of these models yet; one is made by mlflow-project outliers. "
            "Each model’s own run has shown it some images."
        )
        return OutlierSection(about, own=own) if own else None
    run, models = test.run, list(test.versions)
    names = {shown.run_id: shown.name for shown in material.runs}
    said = [
        f"{model} is {uri.removeprefix('models:/')}{_here(names.get(test.shown.get(model, '')), model)}"
        for model, uri in test.versions.items()
    ]
    return OutlierSection(
        f"Run {run.run_id}: {run.name}. Of the registered models, {join_names(said)}.",
        _as_study(run, models),
        tuple(_threshold_sentences(material, run)),
        tuple(_set_section(material, run, name, models) for name in test.sets),
        own,
    )


def _here(name: str | None, model: str) -> str:
    return "" if name in (None, model) else f" (here {name})"


def _untested(runs: Sequence[RunRecord], test: OutlierRun | None) -> list[RunRecord]:
    tested = set() if test is None else set(test.shown.values())
    return [run for run in runs if run.run_id not in tested]


def _own(material: ReportData, test: OutlierRun | None) -> Iterator[ReportFigure]:
    """The figures that runs have drawn of their own models."""
    for run in _untested(material.runs, test):
        frame = material.frame(run.run_id, _ANSWERS)
        if frame is None:
            continue
        caption = f"{run.name} by its own run: what some images are, and what they are taken for"
        alt = _taken(frame, "its run’s outlier set", run.name)
        answers = _answers(frame.assign(model=run.name))
        image = _image(material, run, _ANSWERS, caption, alt, answers)
        if image is not None:
            yield image


def _as_study(run: RunRecord, models: list[str]) -> str:
    from hw2.outliers.tables import LabelMatches

    if "matched" not in run.metrics:
        return (
            "No set shown has ten classes, so the study’s way of reading, digit n as class n, doesn’t apply."
        )
    matches = LabelMatches(int(run.metrics["matched"]), int(run.metrics["answers"]))
    return (
        f"Digit n read as garment class n, as the study does, for {join_names(models)}: {matches}. "
        f"The study found {reference_study.MATCHED} of {reference_study.ANSWERS}."
    )


def _threshold_sentences(material: ReportData, run: RunRecord) -> Iterator[str]:
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
            & (measures["score"] == _DEFAULT_SCORE)
        ]
        auroc = f" AUROC {format_ratio(own['auroc'].iloc[0])}." if len(own) else ""
        kept, accuracy, rejected = (
            format_ci(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))
            for name in ("digits_kept", "accuracy_on_kept", "outliers_rejected")
        )
        yield (
            f"{row['model']} by its own score and threshold rejects {rejected} of {row['pictures']:,} images of "
            f"{row['outliers']} and keeps {kept} of {row['digits']:,} digits, of which {accuracy} are right.{auroc}"
        )


def _set_section(material: ReportData, run: RunRecord, name: str, models: list[str]) -> OutlierSetSection:
    examples: list[ReportFigure | None] = []
    whole: list[ReportFigure | None] = []
    for model in models:
        stem = f"outlier_predictions_{name}_{model}"
        frame = material.frame(run.run_id, stem)
        if frame is not None:
            caption = f"Images of {name} shown to {model}: what they are, and what they are taken for"
            examples.append(_image(material, run, stem, caption, _taken(frame, name, model), _answers(frame)))
    stem = f"probability_vectors_{name}"
    frame = material.frame(run.run_id, stem)
    if frame is not None:
        examples.append(
            _image(
                material,
                run,
                stem,
                f"The ten probabilities of each image of {name}",
                _confidence(frame),
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
            whole.append(_image(material, run, stem, caption, alt, frame_table(caption, frame)))
    return OutlierSetSection(
        name, tuple(filter(None, examples)), tuple(filter(None, whole)), _measures(material, run, name)
    )


def _image(
    material: ReportData, run: RunRecord, stem: str, caption: str, alt: str, said: Table
) -> ReportFigure | None:
    uri = material.png(run.run_id, stem)
    return None if uri is None else ReportFigure(caption, alt, uri, (said,))


def _taken(frame: pd.DataFrame, name: str, model: str) -> str:
    said = ", ".join(f"{row['class']} taken for {row['predicted']}" for row in frame.to_dict("records"))
    return f"{len(frame)} images of {name} shown to {model}: {said}."


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


def _confidence(frame: pd.DataFrame) -> str:
    means = frame.groupby("model", sort=False)["confidence"].mean()
    said = ", ".join(f"{model} {format_percent(value, 0)}" for model, value in means.items())
    return f"A row of ten probabilities for each image and model. Mean confidence: {said}."


def _strongest(frame: pd.DataFrame, model: str) -> str:
    counts = frame.drop(columns="label").to_numpy()
    parts = [
        f"{label} mostly for {row.argmax()} ({format_percent(row.max() / row.sum(), 0)})"
        for label, row in zip(frame["label"], counts, strict=True)
        if row.sum()
    ]
    return f"{model} takes {', '.join(parts)}."


def _overlap(frame: pd.DataFrame, model: str) -> str:
    names = [name for name in frame if name not in ("low", "high", "rejected")]
    rejected = frame["rejected"].astype(bool)
    said = [
        f"{int(frame[name][rejected].sum()):,} of {int(frame[name].sum()):,} images of {name}"
        for name in names
    ]
    return f"Histograms of the scores of {' and '.join(map(str, names))}. {model} rejects {join_names(said)}."


def _measures(material: ReportData, run: RunRecord, name: str) -> Table | None:
    frame = material.frame(run.run_id, "outlier_measures")
    if frame is None:
        return None
    part = frame[frame["outliers"] == name]
    columns = [
        Column("model", "Model"),
        Column("score", "Score", lambda value: str(value).replace("_", " ")),
        Column("auroc", "AUROC", format_ratio),
        Column("auroc_low", "From", format_ratio),
        Column("auroc_high", "To", format_ratio),
        Column("outliers_accepted", "Outliers accepted while 95 % of digits are kept", share),
    ]
    return frame_table(f"Every score against {name}", part, columns)
