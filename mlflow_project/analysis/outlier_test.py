"""Evaluate registered models on outlier images, as one MLflow run."""

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.constants import DIGITS
from hw2.data.catalog import SAMPLE_SUFFIX
from hw2.data.lookup import KNOWN
from mlflow_project.analysis.outlier_result import EXAMPLES, OutlierTest
from mlflow_project.analysis.run_selection import search
from mlflow_project.common.errors import RegistryError, UsageError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.registry.registered_model import LoadedModel, RegisteredModel
from mlflow_project.registry.stored_runs import RunRecord, fetch_or_none
from mlflow_project.registry.versions import Version
from mlflow_project.tracking.active_run import ActiveRun
from mlflow_project.tracking.delivery.client import artifact_exists, mlflow_errors
from mlflow_project.tracking.experiment import experiment_name
from mlflow_project.training.model_card import experiment_tags
from mlflow_project.training.progress import ProgressListener

if TYPE_CHECKING:
    from hw2.data.image_set import Dataset, ImageSet

OnProgress = Callable[[str, float], None]
"""Receives what is being done, and the share of the whole that is done, 0 to 1."""
# Shares of the time, roughly; the rest is for drawing.
EVALUATING, MEASURING = 0.6, 0.25


def run_outlier_test(
    registry: RegisteredModel,
    models: Sequence[str],
    sets: Sequence[str] | None = None,
    examples: int = EXAMPLES,
    data_dir: Path | None = None,
    listener: ProgressListener | None = None,
    *,
    download: bool = False,
    run_id: str | None = None,
    params: Mapping[str, str] | None = None,
    shutdown: GracefulShutdown | None = None,
) -> OutlierTest:
    """Evaluate models on all images that they were tested on and on all images of the outlier sets, as one run.

    Args:
        registry: Of the models.
        models: As `RegisteredModel.resolve` takes them.
        sets: As `hw2.outliers.datasets.load_outliers` takes them; None for those that suit the models' images.
        examples: Images that are shown one by one.
        data_dir: Folder of the full data.
        listener: Receives progress.
        download: Whether torchvision may download a data set that isn't on the disk.
        run_id: An existing MLflow run to log into.
        params: The run's parameters, letter by letter as the command line has them, since MLflow refuses to change what
            `mlflow run` has written.
        shutdown: Receives signals.

    Raises:
        RegistryError, UsageError, DataError: Something can't be had, before there is a run.
        Interrupted: A signal came; the run is marked KILLED.
    """
    from hw2.outliers.datasets import default_sets
    from mlflow_project.analysis import outlier_log_values

    listener = listener or ProgressListener()
    with shutdown or GracefulShutdown() as shutdown:

        def on_progress(description: str, share: float) -> None:
            shutdown.check()
            listener.task(description, share)

        versions = registry.resolve_all(models)
        loaded = {name: registry.load(version) for name, version in versions.items()}
        dataset = _tested_on(registry, versions, data_dir, download, listener)
        sets = default_sets(dataset.test) if sets is None else sets
        shown = {"models": ",".join(models), "outliers": ",".join(sets), "examples": str(examples)}
        params = shown | dict(params or {})
        outlier_sets = _outlier_sets(sets, dataset, data_dir, download, listener)
        for name, model in loaded.items():
            if model.detector is None:
                listener.warning(
                    f"{name} has no outlier score of its own: it had too few images to fit one on"
                )
        for name, version in versions.items():
            listener.info(f"{name}: {version.name} version {version.number}, {version.configuration}")
        with (
            tempfile.TemporaryDirectory(prefix="outliers-") as scratch,
            ActiveRun.create(
                f"outliers: {', '.join(versions)} on {', '.join(outlier_sets)}",
                listener.warning,
                run_id,
                *outlier_log_values.initial_values(versions, dataset.test, outlier_sets, params),
                experiment_tags=experiment_tags(),
            ) as run,
        ):
            test = _evaluate_models(loaded, dataset, outlier_sets, examples, on_progress)
            run.log(*outlier_log_values.metrics(test))
            for value in outlier_log_values.files(test, Path(scratch)):
                on_progress("drawing", EVALUATING + MEASURING)
                run.log(value)
        return dataclasses.replace(
            test, run_id=run.journal.run_id, folder=run.journal.folder, delivery=run.delivery
        )


def find_outlier_test(
    registry: RegisteredModel,
    models: Sequence[str],
    sets: Sequence[str] | None = None,
    examples: int = EXAMPLES,
    data_dir: Path | None = None,
    *,
    download: bool = False,
) -> RunRecord | None:
    """Find the newest completed run of what `run_outlier_test` would do: these versions, images and examples."""
    from hw2.outliers.datasets import default_sets

    versions = registry.resolve_all(models)
    dataset = _tested_on(registry, versions, data_dir, download, ProgressListener())
    sets = default_sets(dataset.test) if sets is None else sets
    outlier_sets = _outlier_sets(sets, dataset, data_dir, download, ProgressListener())
    images = {(name, image_set.sha256) for name, image_set in outlier_sets.items()}
    with mlflow_errors():
        experiment = registry.client.get_experiment_by_name(experiment_name())
    condition = (
        f"tags.status = 'completed' and tags.dataset_sha256 = '{dataset.sha256}' "
        f"and params.examples = '{examples}'"
    )
    for run in search(registry.client, [experiment.experiment_id] if experiment else [], condition):
        record = RunRecord.from_mlflow(run)
        tested = json.loads(record.tags.get("versions", "{}"))
        shown = {(part.name, part.sha256) for part in record.data if part.context == "outliers"}
        if tested == {name: version.uri for name, version in versions.items()} and shown == images:
            measures = "tables/outlier_measures.csv"
            if artifact_exists(registry.client, run.info.artifact_uri, measures):
                return record
    return None


def _tested_on(
    registry: RegisteredModel,
    versions: dict[str, Version],
    data_dir: Path | None,
    download: bool,
    listener: ProgressListener,
) -> "Dataset":
    """Load the data set that all these models were trained and tested on."""
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
            f"the models were tested on different images ({', '.join(names.values())}); test them apart"
        )
    expected = next(iter(names))
    version = next(iter(versions.values()))
    wanted, image_size = _where_images_are(registry, version, data_dir)
    dataset = load_dataset(wanted, data_dir, download, image_size, listener.task)
    if dataset.sha256 != expected:
        raise UsageError(
            f"{wanted} as read here ({dataset.name}, {dataset.test.source}) has SHA-256 {dataset.sha256[:12]}, "
            f"the models were trained on {expected[:12]}; give the folder of their images by --data-dir"
        )
    return dataset


def _where_images_are(
    registry: RegisteredModel, version: Version, data_dir: Path | None
) -> tuple[str, int | None]:
    """Return a known set's name, or the path that a version's run had its images from, with their --image-size.

    Where they aren't there any more, `data_dir` is that path.
    """
    name = version.tags["dataset"]
    if name.removesuffix(SAMPLE_SUFFIX) in KNOWN:
        return name, None
    run = fetch_or_none(lambda: registry.client.get_run(version.run_id)) if version.run_id else None
    params = run.data.params if run is not None else {}
    path = params.get("dataset", name)
    if data_dir is not None and not Path(path).exists():
        path = str(data_dir)
    size = params.get("image_size")
    return path, int(size) if size else None


def _outlier_sets(
    sets: Sequence[str],
    dataset: "Dataset",
    data_dir: Path | None,
    download: bool,
    listener: "ProgressListener",
) -> "dict[str, ImageSet]":
    from hw2.outliers.datasets import load_outliers

    loaded: dict[str, ImageSet] = {}
    for query in sets:
        image_set = load_outliers(query, data_dir, dataset.test, download=download)
        if _are_the_tested(query, image_set, dataset.test):
            raise UsageError(
                f"{query} are the images that the models were tested on; name another outlier set"
            )
        if image_set.name == f"{query}-sample":
            listener.warning(
                f"{query} stands for the bundled sample of {len(image_set):,} images; "
                "use --data-dir DIR or --download for the full set"
            )
        if any(image_set.sha256 == known.sha256 for known in loaded.values()):
            listener.info(f"{query}: the same images are evaluated once")
            continue
        image_set = _unique_name(image_set, {dataset.test.name, *loaded})
        loaded[image_set.name] = image_set
    if not loaded:
        raise UsageError("no outlier set is named; give --outliers fashion-mnist, or several")
    return loaded


def _are_the_tested(query: str, image_set: "ImageSet", digits: "ImageSet") -> bool:
    """Return whether a set is the digits by name, also as a sample of them, or by its images, whatever its labels."""
    import torch

    names = {images.name.removesuffix("-sample") for images in (image_set, digits)}
    return (len(names) == 1 and not Path(query).is_dir()) or torch.equal(image_set.images, digits.images)


def _unique_name(image_set: "ImageSet", taken: Collection[str]) -> "ImageSet":
    """Rename a set whose name is taken: two folders may have one name, and plots and tables are named by it."""
    numbers = itertools.count(2)
    name = image_set.name
    while name in taken:
        name = f"{image_set.name}-{next(numbers)}"
    return image_set if name == image_set.name else dataclasses.replace(image_set, name=name)


def _evaluate_models(
    loaded: dict[str, LoadedModel],
    dataset: "Dataset",
    outlier_sets: "dict[str, ImageSet]",
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
    parts = [training, dataset.test, *outlier_sets.values()]
    total = len(loaded) * sum(map(len, parts))
    done = 0
    digits: dict[str, ScoredEvaluation] = {}
    outliers: dict[str, dict[str, ScoredEvaluation]] = {name: {} for name in outlier_sets}
    for name, model in loaded.items():
        evaluations = []
        for part in parts:
            report = _describe(on_progress, f"{name}: {part.name} {part.split}", done, total)
            evaluations.append(evaluate(model.model, part, on_progress=report))
            done += len(part)
        scorer = Scorer.fit(evaluations[0], training.labels.numpy())
        judged = [ScoredEvaluation.of(evaluation, model.detector, scorer) for evaluation in evaluations[1:]]
        digits[name] = judged[0]
        for set_name, of_set in zip(outlier_sets, judged[1:], strict=True):
            outliers[set_name][name] = of_set
    on_progress("measuring", EVALUATING)
    tables = {
        name: figures.outlier_table(
            {model: judged.evaluation for model, judged in outliers[name].items()},
            image_set,
            outlier_tables.example_indices(image_set, examples),
            {model: judged.rejected for model, judged in outliers[name].items()},
        )
        for name, image_set in outlier_sets.items()
    }
    countable = [
        tables[name]
        for name, image_set in outlier_sets.items()
        if len(image_set.classes) == len(DIGITS) and "matches" in tables[name]
    ]
    return OutlierTest(
        models=loaded,
        digit_set=dataset.test,
        outlier_sets=outlier_sets,
        digits=digits,
        outliers=outliers,
        measures=outlier_tables.metrics_table(digits, outliers),
        thresholds=outlier_tables.thresholds_table(
            digits, outliers, {n: m.detector.threshold for n, m in loaded.items() if m.detector is not None}
        ),
        examples=tables,
        matches=LabelMatches.of(countable) if countable else None,
    )


def _describe(on_progress: OnProgress, description: str, before: int, total: int) -> Callable[[int], None]:
    """Make the callback that `evaluate` calls with the number of a set's images that are done."""
    return lambda done: on_progress(description, EVALUATING * (before + done) / total)
