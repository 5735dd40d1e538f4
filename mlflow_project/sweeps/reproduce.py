"""The reference study that this project reproduces, from the trainings to the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.training.config import TrainingConfig
from mlflow_project.analysis.compare_runs import compare_runs
from mlflow_project.analysis.outlier_test import find_outlier_test, run_outlier_test
from mlflow_project.analysis.run_selection import Selection
from mlflow_project.common.errors import StoreError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.reports import page, reference_study
from mlflow_project.sweeps.request import PreparedSweep, SweepSpec, prepare
from mlflow_project.sweeps.sweep import SweepResult, open_parent, run_sweep
from mlflow_project.training.progress import ProgressListener
from mlflow_project.training.run_spec import registered_name

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison
    from hw2.outliers.tables import LabelMatches
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.sweeps.parent_run import ParentRun

OUTPUT = Path(page.NAME)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The results of the study's workflow: five trained models, three of them tested, all compared and reported.

    outlier_run_id: of the run of the outlier test; None while the server hasn't named it.
    """

    sweep: SweepResult
    outlier_run_id: str | None
    comparison: "Comparison"
    report: Path

    def rows(self) -> list[dict[str, Any]]:
        """Return each model's metrics beside the study's own; `study_in_interval` compares the two."""
        table = []
        for model, trial in zip(reference_study.STUDY, self.sweep.plan.trials, strict=True):
            result = self.sweep.results[trial.sha256]
            metrics = result.metrics
            row: dict[str, Any] = {"model": model.alias, "lr": model.lr, "epochs": model.epochs}
            for name in ("train_seconds", "train_accuracy", "test_seconds", "test_accuracy"):
                row |= {name: metrics.get(name), f"study_{name}": getattr(model, name)}
            low, high = (metrics.get(f"test_accuracy_{end}") for end in ("low", "high"))
            if low is not None and high is not None:
                row["study_in_interval"] = "yes" if low <= model.test_accuracy <= high else "no"
            row |= {"run_id": result.run_id, "state": result.state}
            table.append(row)
        return table


def reproduce(
    base: TrainingConfig | None = None,
    *,
    output: Path = OUTPUT,
    listener: ProgressListener | None = None,
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> Reproduction:
    """Train the study's five models as m1 to m5, test three of them on Fashion-MNIST, compare them, and report.

    Completed work is reused.

    Args:
        base: What the five have in common; the study decides lr and epochs.
        output: Where the report is written; it is also an artifact of the sweep's run.
        listener: Receives the progress.
        shutdown: Checked between steps: whether a signal has come.
        options: Further fields of `SweepSpec`, such as data_dir and workers.

    Raises:
        SweepError: A model couldn't be trained or registered.
        Interrupted: A signal came; the same call again resumes it.
    """
    base, listener = base or TrainingConfig(), listener or ProgressListener()
    configs = {model.config(base): (model.alias,) for model in reference_study.STUDY}
    request = SweepSpec(name="the study", configs=list(configs), aliases=configs, **options)
    page.require_place(output)  # not after all the work
    with shutdown or GracefulShutdown() as shutdown:
        prepared = prepare(request, listener)
        shutdown.check()
        listener.info(reference_study.warmup_note(base.warmup))
        with open_parent(prepared, listener) as parent:
            run_sweep(prepared, parent, listener, shutdown)
            SweepResult.of(prepared, parent).raise_failure()
            outlier_run_id, comparison = _follow_up(prepared, parent, output, listener, shutdown)
    if prepared.dataset.is_sample:
        listener.info(
            f"Note: the study's figures (study_...) are of the full data, those beside them of the sample of "
            f"{prepared.dataset.training_images:,} images; they say nothing about each other"
        )
    return Reproduction(
        sweep=SweepResult.of(prepared, parent),
        outlier_run_id=outlier_run_id,
        comparison=comparison,
        report=output,
    )


def _follow_up(
    prepared: PreparedSweep,
    parent: "ParentRun",
    output: Path,
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> "tuple[str | None, Comparison]":
    """Do what the study does with its models: outlier images for three, a comparison of all, a report."""
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    name = registered_name(prepared.plan.trials[0].config, prepared.inputs.dataset)
    _point_aliases(prepared, parent)
    outlier_run_id, matches = _test_outliers(prepared, RegisteredModel(connect(), name), listener, shutdown)
    listener.info(f"{matches}")
    shutdown.check()
    selection = Selection(models=tuple(model.alias for model in reference_study.STUDY), registered_name=name)
    comparison, _ = compare_runs(selection)
    for table in ("accuracy", "pairs"):
        parent.attach(f"tables/{table}.csv", getattr(comparison, table).to_csv(index=False))
    html, _ = page.make_report(selection)
    parent.attach(page.NAME, html)
    page.write(output, html)
    listener.info(f"report written to {output}")
    return outlier_run_id, comparison


def _test_outliers(
    prepared: PreparedSweep,
    registry: "RegisteredModel",
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> "tuple[str | None, LabelMatches | None]":
    """Show garments to the study's three models, unless a run has done just that."""
    from hw2.outliers.tables import LabelMatches

    request, models = prepared.request, reference_study.OUTLIER_MODELS
    examples = reference_study.OUTLIER_EXAMPLES
    known = find_outlier_test(
        registry, models, examples=examples, data_dir=request.data_dir, download=request.download
    )
    if known is not None and "matched" in known.metrics:
        listener.info(f"run {known.run_id} has tested these models on outliers; it is reused")
        counts = (int(known.metrics[name]) for name in ("matched", "answers"))
        return known.run_id, LabelMatches(*counts)
    tested = run_outlier_test(
        registry,
        models,
        examples=examples,
        data_dir=request.data_dir,
        download=request.download,
        listener=listener,
        shutdown=shutdown,
    )
    return tested.run_id, tested.matches


def _point_aliases(prepared: PreparedSweep, parent: "ParentRun") -> None:
    """Point m1 to m5 at the versions of these runs, also of those that are reused."""
    from mlflow_project.sweeps.existing_runs import ExperimentIndex
    from mlflow_project.tracking.delivery.client import connect

    store = ExperimentIndex(connect())
    for trial in prepared.plan.trials:
        name = registered_name(trial.config, prepared.inputs.dataset)
        run_id = parent.results[trial.sha256].run_id
        version = None if run_id is None else store.version(name, run_id)
        if version is None:
            raise StoreError(
                f"{trial.config.name} isn't registered as {name} yet; upload it with: mlflow-project sync, "
                "then run this command again"
            )
        for alias in trial.aliases:
            store.set_alias(name, alias, version, f"named by {parent.journal.header.run_name}")
