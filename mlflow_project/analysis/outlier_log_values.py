"""What an outlier test logs, as plain values: its inputs, metrics, tables and plots."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hw2 import figures
from hw2.data.image_set import ImageSet
from hw2.evaluation.metrics import coverage_table, reliability_table
from hw2.evaluation.predictions import predictions_frame, write_predictions
from hw2.outliers.tables import DEFAULT_SCORE, ENSEMBLE, ensemble_scores
from mlflow_project.tracking.journal.entities import Artifact, Entity, Metric, ModelInput, Param, Tag
from mlflow_project.training.log_values import dataset_input

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mlflow_project.analysis.outlier_result import OutlierTest
    from mlflow_project.registry.versions import Version


def initial_values(
    versions: "Mapping[str, Version]",
    digits: ImageSet,
    sets: Mapping[str, ImageSet],
    params: Mapping[str, str],
) -> Iterator[Entity]:
    """Yield the run's inputs: parameters, the models' versions, the digits and the outliers."""
    for key, text in params.items():
        yield Param(key, text)
    yield Tag("versions", json.dumps({name: version.uri for name, version in versions.items()}))
    yield Tag("dataset_sha256", next(iter(versions.values())).tags["dataset_sha256"])
    for version in versions.values():
        if version.model_id is not None:
            yield ModelInput(version.model_id)
    yield dataset_input(digits, digits.name, "test")
    for name, image_set in sets.items():
        yield dataset_input(image_set, name, "outliers")


def metrics(test: "OutlierTest") -> Iterator[Metric]:
    """Yield the default score's metrics, named as a training's with set and model: `outlier_auroc/SET/MODEL`."""
    measures = test.measures[test.measures["score"] == DEFAULT_SCORE]
    for row in measures.to_dict("records"):
        place = f"{row['outliers']}/{row['model']}"
        yield Metric(f"outlier_auroc/{place}", row["auroc"])
        yield Metric(f"outliers_accepted/{place}", row["outliers_accepted"])
    for row in test.thresholds.to_dict("records"):
        yield Metric(f"outlier_rejected/{row['outliers']}/{row['model']}", row["outliers_rejected"])
    for row in test.thresholds.drop_duplicates("model").to_dict("records"):
        yield Metric(f"test_rejected/{row['model']}", 1 - row["digits_kept"])
        yield Metric(f"accuracy_on_kept/{row['model']}", row["accuracy_on_kept"])
    if test.matches is not None:
        yield Metric("matched", test.matches.matched)
        yield Metric("answers", test.matches.answers)


def files(test: "OutlierTest", folder: Path) -> Iterator[Artifact]:
    """Write tables, predictions and plots into `folder`; yield each as it is written."""
    for below in ("tables", "predictions"):
        (folder / below).mkdir(parents=True)
    for stem, table in (("outlier_measures", test.measures), ("thresholds", test.thresholds)):
        yield _table(folder, stem, table)
    sets = {test.digit_set.name: test.digits, **test.outliers}
    for set_name, judgements in sets.items():
        for model, judged in judgements.items():
            path = f"predictions/{set_name}_{model}.parquet"
            frame = predictions_frame(judged.evaluation, judged.scores.get(DEFAULT_SCORE), judged.rejected)
            write_predictions(folder / path, frame)
            yield Artifact(path, folder / path)
    for stem, table, figure in render_plots(test):
        yield _table(folder, stem, table)
        (folder / f"{stem}.png").write_bytes(figures.png(figure))
        yield Artifact(f"{stem}.png", folder / f"{stem}.png")


def render_plots(test: "OutlierTest") -> "Iterator[tuple[str, pd.DataFrame, Figure]]":
    """Yield every plot: its stem, the table that it is drawn from, and itself."""
    for model, judged in test.digits.items():
        table = reliability_table(judged.evaluation.confidence, judged.evaluation.correct)
        yield f"reliability_{model}", table, figures.reliability(table)
    coverage = {
        model: coverage_table(-judged.scores[DEFAULT_SCORE], judged.evaluation.correct)
        for model, judged in test.digits.items()
        if DEFAULT_SCORE in judged.scores
    }
    if coverage:
        together = pd.concat([table.assign(model=model) for model, table in coverage.items()])
        yield "accuracy_against_coverage", together, figures.accuracy_against_coverage(coverage)
    for name in test.outlier_sets:
        yield from _plots_of_set(test, name)


def _plots_of_set(test: "OutlierTest", name: str) -> "Iterator[tuple[str, pd.DataFrame, Figure]]":
    """Yield the plots of one outlier set."""
    image_set, examples = test.outlier_sets[name], test.examples[name]
    yield f"probability_vectors_{name}", examples, figures.probability_vectors(examples)
    for model, judged in test.outliers[name].items():
        table = examples[examples["model"] == model].reset_index(drop=True)
        yield f"outlier_predictions_{name}_{model}", table, figures.outlier_predictions(table, image_set)
        table = figures.outlier_matrix_table(judged.evaluation, image_set)
        yield f"outlier_matrix_{name}_{model}", table, figures.outlier_matrix(table, model)
        of_digits = test.digits[model].scores
        detector = test.models[model].detector
        if detector is not None:
            pair = {test.digit_set.name: of_digits[DEFAULT_SCORE], name: judged.scores[DEFAULT_SCORE]}
            table = figures.outlier_scores_table(pair, detector.threshold)
            yield f"outlier_scores_{name}_{model}", table, figures.outlier_scores(table)
        table = figures.roc_table({score: (of_digits[score], judged.scores[score]) for score in of_digits})
        yield f"roc_curves_{name}_{model}", table, figures.roc_curves(table)
    digits, outliers = ensemble_scores(test.digits), ensemble_scores(test.outliers[name])
    if digits:
        table = figures.roc_table({score: (digits[score], outliers[score]) for score in digits})
        yield f"roc_curves_{name}_{ENSEMBLE}", table, figures.roc_curves(table)


def _table(folder: Path, stem: str, table: pd.DataFrame) -> Artifact:
    path = f"tables/{stem}.csv"
    table.to_csv(folder / path, index=False)
    return Artifact(path, folder / path)
