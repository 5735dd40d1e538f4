"""The report's section about outliers: the latest outlier test of its models, or their own runs' plots."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from hw2.common.constants import DIGITS
from hw2.common.formatting import format_ci, format_percent, format_ratio, join_names
from mlflow_project.analysis.run_selection import search
from mlflow_project.registry.stored_runs import RunRecord
from mlflow_project.reports import reference_study
from mlflow_project.reports.elements import Column, ReportFigure, Table, count, frame_table, share
from mlflow_project.reports.model_sections import ReportData
from mlflow_project.tracking.experiment import experiment_name

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DEFAULT_SCORE = "outlier_score"
_ENSEMBLE = "together"
MOST_PROBABILITIES = 20
"""Classes whose probabilities a table shows."""
_ANSWERS = "outlier_predictions"


@dataclass(frozen=True)
class OutlierSetSection:
    """One outlier set: what each model predicts for some of its images one by one, and for all of them."""

    name: str
    examples: tuple[ReportFigure, ...]
    whole: tuple[ReportFigure, ...]
    measures: Table | None


@dataclass(frozen=True)
class OutlierSection:
    """An outlier test with the reference study's way to read it, the honest one, and each set.

    own: the plots that the other models' own runs have drawn.
    """

    about: str
    as_study: str | None = None
    honest: tuple[str, ...] = ()
    sets: tuple[OutlierSetSection, ...] = ()
    own: tuple[ReportFigure, ...] = ()


@dataclass(frozen=True)
class OutlierRun:
    """An outlier test; shown: the report's runs that are in it, their ids by the test's names of their models."""

    run: RunRecord
    shown: Mapping[str, str]

    @property
    def versions(self) -> dict[str, str]:
        """URI of each model's registered version, by the name that tables and plots use."""
        versions: dict[str, str] = json.loads(self.run.tags.get("versions", "{}"))
        return versions

    @property
    def sets(self) -> list[str]:
        """Names of the outlier sets as tables and plots have them; the run's parameter may name them otherwise."""
        return [part.name for part in self.run.data if part.context == "outliers"]


def latest_test(client: "MlflowClient", runs: Sequence[RunRecord]) -> OutlierRun | None:
    """Find the completed outlier test on these runs' data with the most of their models, the newest of such.

    Returns:
        The test; None where no test has any of the models.
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
    for run in search(client, [experiment.experiment_id], condition):
        test = OutlierRun(RunRecord.from_mlflow(run), {})
        shown = {name: registered[uri] for name, uri in test.versions.items() if uri in registered}
        if len(shown) > (len(best.shown) if best else 0):
            best = replace(test, shown=shown)
        if best and len(best.shown) == len(set(registered.values())):
            break
    return best


def required_artifacts(runs: Sequence[RunRecord], test: OutlierRun | None) -> Iterator[tuple[RunRecord, str]]:
    """Yield the files that this section needs."""
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


def outlier_section(data: ReportData, test: OutlierRun | None) -> OutlierSection | None:
    """Build the section from stored tables and plots; None where there is neither a test nor a run's own plot."""
    own = tuple(_own(data, test))
    if test is None:
        about = (
            "There is no outlier test of these models yet; one is made by mlflow-project outliers. "
            "Each model’s own run has shown it some images."
        )
        return OutlierSection(about, own=own) if own else None
    run, models = test.run, list(test.versions)
    names = {run.run_id: run.name for run in data.runs}
    versions = [
        f"{model} is {uri.removeprefix('models:/')}{_here(names.get(test.shown.get(model, '')), model)}"
        for model, uri in test.versions.items()
    ]
    return OutlierSection(
        f"Run {run.run_id}: {run.name}. Of the registered models, {join_names(versions)}.",
        _as_study(run, models) if has_digits(data) else None,
        tuple(_threshold_sentences(data, run)),
        tuple(_set_section(data, run, name, models) for name in test.sets),
        own,
    )


def has_digits(data: ReportData) -> bool:
    """Whether the models tell digits apart."""
    return data.comparison.models[0].classes == DIGITS


def inliers(data: ReportData) -> str:
    """Call the images that the models were tested on."""
    return "digits" if has_digits(data) else "test images"


def _here(name: str | None, model: str) -> str:
    return "" if name in (None, model) else f" (here {name})"


def _untested(runs: Sequence[RunRecord], test: OutlierRun | None) -> list[RunRecord]:
    tested = set() if test is None else set(test.shown.values())
    return [run for run in runs if run.run_id not in tested]


def _own(data: ReportData, test: OutlierRun | None) -> Iterator[ReportFigure]:
    """Yield the plots that runs have drawn of their own models."""
    for run in _untested(data.runs, test):
        caption = f"{run.name} by its own run: some images, and what they are predicted as"
        describe = partial(_taken, name="its run’s outlier set", model=run.name)
        figure = data.figure(run.run_id, _ANSWERS, caption, describe, partial(_answers, model=run.name))
        if figure is not None:
            yield figure


def _as_study(run: RunRecord, models: list[str]) -> str:
    from hw2.outliers.tables import LabelMatches

    if "matched" not in run.metrics:
        return "No outlier set has ten classes, so the reference study’s reading, digit n as class n, doesn’t apply."
    matches = LabelMatches(int(run.metrics["matched"]), int(run.metrics["answers"]))
    return (
        f"Digit n read as Fashion-MNIST class n, as in the reference study, for {join_names(models)}: {matches}. "
        f"The reference study found {reference_study.MATCHED} of {reference_study.ANSWERS}."
    )


def _threshold_sentences(data: ReportData, run: RunRecord) -> Iterator[str]:
    if has_digits(data):
        yield (
            "A Fashion-MNIST image has no digit, so no prediction of a digit model can be correct; a match is a "
            "coincidence of numbering. The question that can be asked is whether a model rejects such an image."
        )
    measures, thresholds = (data.frame(run.run_id, stem) for stem in ("outlier_measures", "thresholds"))
    if measures is None or thresholds is None:
        return
    scored = set(thresholds["model"])
    for model in dict.fromkeys(measures["model"]):
        if model not in scored and model != _ENSEMBLE:
            yield f"{model} has no outlier score of its own: it had too few images to fit one on."
    for row in thresholds.to_dict("records"):
        own = measures[
            (measures["outliers"] == row["outliers"])
            & (measures["model"] == row["model"])
            & (measures["score"] == _DEFAULT_SCORE)
        ]
        auroc = f" AUROC {format_ratio(own['auroc'].iloc[0])}." if len(own) else ""
        acceptance, accuracy, rejection = (
            format_ci(*(row[f"{name}{end}"] for end in ("", "_low", "_high")))
            for name in ("digits_kept", "accuracy_on_kept", "outliers_rejected")
        )
        yield (
            f"{row['model']} by its own score and threshold: outlier rejection rate {rejection} of "
            f"{row['pictures']:,} images of {row['outliers']}; inlier acceptance {acceptance} of {row['digits']:,} "
            f"{inliers(data)}; selective accuracy {accuracy}.{auroc}"
        )


def _set_section(data: ReportData, run: RunRecord, name: str, models: list[str]) -> OutlierSetSection:
    figure = partial(data.figure, run.run_id)
    examples = [
        figure(
            f"{_ANSWERS}_{name}_{model}",
            f"Images of {name} shown to {model}, and what they are predicted as",
            partial(_taken, name=name, model=model),
            partial(_answers, model=model),
        )
        for model in models
    ]
    examples.append(
        figure(
            f"probability_vectors_{name}",
            f"The probabilities of each image of {name}",
            _confidence,
            lambda frame: frame_table(f"Probabilities for {name}", frame, _probability_columns(frame)),
        )
    )
    whole = []
    captions = {
        "outlier_matrix": (
            f"All of {name} shown to {{}}: which {'digit' if has_digits(data) else 'class'} each class is predicted as",
            _strongest,
        ),
        "outlier_scores": (f"Outlier scores of {{}}: {inliers(data)} against {name}", _overlap),
    }
    for kind, (text, describe) in captions.items():
        for model in models:
            caption = text.format(model)
            tabulate = partial(frame_table, caption)
            whole.append(figure(f"{kind}_{name}_{model}", caption, partial(describe, model=model), tabulate))
    return OutlierSetSection(
        name, tuple(filter(None, examples)), tuple(filter(None, whole)), _measures(data, run, name)
    )


def _taken(frame: pd.DataFrame, name: str, model: str) -> str:
    name_of = "predicted" if "matches" in frame else "predicted_class"
    answers = ", ".join(f"{row['class']} predicted as {row[name_of]}" for row in frame.to_dict("records"))
    return f"{len(frame)} images of {name} shown to {model}: {answers}."


def _answers(frame: pd.DataFrame, model: str) -> Table:
    of_digits = "matches" in frame
    columns = [
        Column("class", "Label"),
        Column("predicted", "Predicted digit" if of_digits else "Number", count),
        Column("predicted_class", "Class of that number" if of_digits else "Predicted class"),
        *([Column("matches", "Numbers match")] if of_digits else []),
        Column("confidence", format=share),
        Column("rejected", "Rejected as an outlier"),
    ]
    return frame_table(f"Labels against predictions of {model}", frame, columns)


def _probability_columns(frame: pd.DataFrame) -> list[Column]:
    names = [str(name).removeprefix("probability_") for name in frame if str(name).startswith("probability_")]
    shown = [
        Column(f"probability_{name}", name, lambda value: f"{value:.3f}")
        for name in names[:MOST_PROBABILITIES]
    ]
    return [Column("class", "Label"), Column("model"), *shown]


def _confidence(frame: pd.DataFrame) -> str:
    means = frame.groupby("model", sort=False)["confidence"].mean()
    text = ", ".join(f"{model} {format_percent(value, 0)}" for model, value in means.items())
    return f"A row of probabilities for each image and model. Mean confidence: {text}."


def _strongest(frame: pd.DataFrame, model: str) -> str:
    counts = frame.drop(columns="label").to_numpy()
    classes = [str(column).removeprefix("predicted_") for column in frame if column != "label"]
    parts = [
        f"{label} mostly as {classes[row.argmax()]} ({format_percent(row.max() / row.sum(), 0)})"
        for label, row in zip(frame["label"], counts, strict=True)
        if row.sum()
    ]
    return f"{model} predicts {', '.join(parts)}."


def _overlap(frame: pd.DataFrame, model: str) -> str:
    names = [name for name in frame if name not in ("low", "high", "rejected")]
    rejected = frame["rejected"].astype(bool)
    counts = [
        f"{int(frame[name][rejected].sum()):,} of {int(frame[name].sum()):,} images of {name}"
        for name in names
    ]
    return (
        f"Histograms of the scores of {' and '.join(map(str, names))}. {model} rejects {join_names(counts)}."
    )


def _measures(data: ReportData, run: RunRecord, name: str) -> Table | None:
    frame = data.frame(run.run_id, "outlier_measures")
    if frame is None:
        return None
    part = frame[frame["outliers"] == name]
    columns = [
        Column("model"),
        Column("score", "Score", lambda value: str(value).replace("_", " ")),
        Column("auroc", "AUROC", format_ratio),
        Column("auroc_low", "From", format_ratio),
        Column("auroc_high", "To", format_ratio),
        Column("outliers_accepted", "Outliers accepted at 95 % inlier acceptance", share),
    ]
    return frame_table(f"Every score against {name}", part, columns)
