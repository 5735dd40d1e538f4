"""Registered models meet images that are no digits, as one MLflow run."""

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_project.analysis.outlier_result import OutlierTest
from mlflow_project.common.errors import RegistryError, UsageError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.registry.registered_model import LoadedModel, RegisteredModel
from mlflow_project.registry.versions import SEARCHABLE, Version
from mlflow_project.tracking.active_run import ActiveRun
from mlflow_project.training.model_card import EXPERIMENT_DESCRIPTION
from mlflow_project.training.progress import NullListener, ProgressListener

if TYPE_CHECKING:
    from hw2.data.image_set import Dataset, ImageSet

EXAMPLES = 10
SETS = ("fashion-mnist",)
OnProgress = Callable[[str, float], None]
"""Is told what is being done, and what share of the whole is, 0 to 1."""
# Shares of the time, roughly; the rest is for drawing.
SHOWING, MEASURING = 0.6, 0.25


def run_outlier_test(
    registry: RegisteredModel,
    models: Sequence[str],
    sets: Sequence[str] = SETS,
    examples: int = EXAMPLES,
    data_dir: Path | None = None,
    listener: ProgressListener | None = None,
    *,
    download: bool = False,
    run_id: str | None = None,
    asked: Mapping[str, str] | None = None,
    interruption: GracefulShutdown | None = None,
) -> OutlierTest:
    """Show all digits that the models were tested on, and all images of the sets, to every model.

    Args:
        registry: Of the models.
        models: As `RegisteredModel.resolve` takes them.
        sets: As `hw2.outliers.datasets.load_outliers` takes them.
        examples: Images that are shown one by one.
        data_dir: Folder of the full data.
        listener: Hears of the progress.
        download: Whether torchvision may fetch a data set that isn't on the disk.
        run_id: An MLflow run that exists already.
        asked: Its parameters, letter by letter as a person gave them, since MLflow refuses to change what
            `mlflow run` has written.
        interruption: Notes signals.

    Raises:
        RegistryError, UsageError, DataError: Something can't be had, before there is a run.
        Interrupted: A signal came; the run is marked KILLED.
    """
    asked = asked or {"models": ",".join(models), "outliers": ",".join(sets), "examples": str(examples)}
    listener = listener or NullListener()
    with interruption or GracefulShutdown() as interruption:
        return _run(
            registry, models, sets, examples, data_dir, download, listener, run_id, asked, interruption
        )


def _run(
    registry: RegisteredModel,
    models: Sequence[str],
    sets: Sequence[str],
    examples: int,
    data_dir: Path | None,
    download: bool,
    listener: ProgressListener,
    run_id: str | None,
    asked: Mapping[str, str],
    interruption: GracefulShutdown,
) -> OutlierTest:
    from mlflow_project.analysis import outlier_log_values

    def told(what: str, share: float) -> None:
        interruption.check()
        listener.task(what, share)

    versions = registry.resolve_all(models)
    loaded = {name: registry.load(version) for name, version in versions.items()}
    dataset = _digits(versions, data_dir, download)
    shown = _outlier_sets(sets, dataset, data_dir, download, listener)
    for short, version in versions.items():
        said = " ".join(f"{key}={version.tags[key]}" for key in SEARCHABLE if key in version.tags)
        listener.info(f"{short}: {version.name} version {version.number}, {said}")
    name = f"outliers: {', '.join(versions)} on {', '.join(shown)}"
    with (
        tempfile.TemporaryDirectory(prefix="outliers-") as scratch,
        ActiveRun.begin(
            name,
            listener.warning,
            run_id,
            *outlier_log_values.initial_values(versions, dataset.test, shown, asked),
            experiment_description=EXPERIMENT_DESCRIPTION,
        ) as run,
    ):
        found = _evaluate_models(loaded, dataset, shown, examples, told)
        run.log(*outlier_log_values.metrics(found))
        for value in outlier_log_values.files(found, Path(scratch)):
            told("drawing", SHOWING + MEASURING)
            run.log(value)
    return _ended(found, run)


def _digits(versions: dict[str, Version], data_dir: Path | None, download: bool) -> "Dataset":
    """The data set that all these models were trained and tested on."""
    from hw2.data.image_set import load_dataset

    names: dict[str, str] = {}
    for name, version in versions.items():
        if "dataset" not in version.tags or "dataset_sha256" not in version.tags:
            raise RegistryError(
                f"{name} doesn't say which images it was trained on (no tag dataset_sha256); "
                "register a model by mlflow-project train"
            )
        names[version.tags["dataset_sha256"]] = f"{name} on {version.tags['dataset']}"
    if len(names) > 1:
        raise UsageError(
            f"the models were tested on different digits ({', '.join(names.values())}); test them apart"
        )
    expected = next(iter(names))
    said = next(iter(versions.values())).tags["dataset"]
    dataset = load_dataset(said, data_dir, download)
    if dataset.sha256 != expected:
        raise UsageError(
            f"{said} as found here ({dataset.name}, {dataset.test.source}) has SHA-256 {dataset.sha256[:12]}, "
            f"the models were trained on {expected[:12]}; give the folder of their images by --data-dir"
        )
    return dataset


def _outlier_sets(
    sets: Sequence[str],
    dataset: "Dataset",
    data_dir: Path | None,
    download: bool,
    listener: "ProgressListener",
) -> "dict[str, ImageSet]":
    from hw2.outliers.datasets import load_outliers

    found: dict[str, ImageSet] = {}
    for said in sets:
        image_set = load_outliers(said, data_dir, dataset.test, download=download)
        if _are_the_digits(said, image_set, dataset.test):
            raise UsageError(
                f"{said} are the digits that the models were tested on; name another outlier set"
            )
        if image_set.name == f"{said}-sample":
            listener.warning(
                f"{said} stands for the embedded sample of {len(image_set):,} images; "
                "give the full set by --data-dir DIR, or --download"
            )
        if any(image_set.sha256 == known.sha256 for known in found.values()):
            listener.info(f"{said}: the same images are shown once")
            continue
        image_set = _unique_name(image_set, {dataset.test.name, *found})
        found[image_set.name] = image_set
    if not found:
        raise UsageError("no outlier set is named; give --outliers fashion-mnist, or several")
    return found


def _are_the_digits(said: str, image_set: "ImageSet", digits: "ImageSet") -> bool:
    """Whether they are by name, also as a sample of them, or by what they show, whatever their labels."""
    import torch

    names = {one.name.removesuffix("-sample") for one in (image_set, digits)}
    return (len(names) == 1 and not Path(said).is_dir()) or torch.equal(image_set.images, digits.images)


def _unique_name(image_set: "ImageSet", taken: Collection[str]) -> "ImageSet":
    """Two folders may have one name; figures and tables are told apart by it."""
    numbers = itertools.count(2)
    name = image_set.name
    while name in taken:
        name = f"{image_set.name}-{next(numbers)}"
    return image_set if name == image_set.name else dataclasses.replace(image_set, name=name)


def _evaluate_models(
    loaded: dict[str, LoadedModel],
    dataset: "Dataset",
    shown: "dict[str, ImageSet]",
    examples: int,
    on_progress: OnProgress,
) -> OutlierTest:
    from hw2 import figures
    from hw2.evaluation.evaluate import evaluate
    from hw2.outliers import tables as outlier_tables
    from hw2.outliers.fit_sets import fit_sets
    from hw2.outliers.scores import Scorer
    from hw2.outliers.tables import LabelMatches, ScoredEvaluation

    training = fit_sets(dataset.train, None).training
    parts = [training, dataset.test, *shown.values()]
    total = len(loaded) * sum(map(len, parts))
    done = 0
    digits: dict[str, ScoredEvaluation] = {}
    outliers: dict[str, dict[str, ScoredEvaluation]] = {name: {} for name in shown}
    for name, model in loaded.items():
        evaluations = []
        for part in parts:
            told = _describe(on_progress, f"{name}: {part.name} {part.split}", done, total)
            evaluations.append(evaluate(model.model, part, on_progress=told))
            done += len(part)
        scorer = Scorer.fit(evaluations[0], training.labels.numpy())
        judged = [ScoredEvaluation.of(evaluation, model.detector, scorer) for evaluation in evaluations[1:]]
        digits[name] = judged[0]
        for set_name, of_set in zip(shown, judged[1:], strict=True):
            outliers[set_name][name] = of_set
    on_progress("measuring", SHOWING)
    tables = {
        name: figures.outlier_table(
            {model: judged.evaluation for model, judged in outliers[name].items()},
            image_set,
            range(min(examples, len(image_set))),
            {model: judged.rejected for model, judged in outliers[name].items()},
        )
        for name, image_set in shown.items()
    }
    countable = [tables[name] for name, image_set in shown.items() if len(image_set.classes) == 10]
    return OutlierTest(
        models=loaded,
        digit_set=dataset.test,
        outlier_sets=shown,
        digits=digits,
        outliers=outliers,
        measures=outlier_tables.metrics_table(digits, outliers),
        thresholds=outlier_tables.thresholds_table(
            digits, outliers, {name: model.detector.threshold for name, model in loaded.items()}
        ),
        examples=tables,
        matches=LabelMatches.of(countable) if countable else None,
    )


def _describe(on_progress: OnProgress, what: str, before: int, total: int) -> Callable[[int], None]:
    """What `evaluate` calls with the images of one set that are done."""
    return lambda done: on_progress(what, SHOWING * (before + done) / total)


def _ended(found: OutlierTest, run: ActiveRun) -> OutlierTest:
    return dataclasses.replace(
        found, run_id=run.journal.run_id, folder=run.journal.folder, delivery=run.delivery
    )
