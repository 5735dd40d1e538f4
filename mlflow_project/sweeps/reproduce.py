"""The whole study that this project repeats, from the trainings to the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.training.config import TrainingConfig
from mlflow_project.analysis.compare_runs import compare_runs
from mlflow_project.analysis.outlier_test import run_outlier_test
from mlflow_project.analysis.run_selection import Selection
from mlflow_project.common.errors import StoreError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.reports import page, reference_study
from mlflow_project.sweeps.request import PreparedSweep, SweepSpec, prepare
from mlflow_project.sweeps.sweep import SweepResult, open_parent, raise_failure, run_sweep
from mlflow_project.training.progress import NullListener, ProgressListener
from mlflow_project.training.run_spec import registered_name

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison
    from mlflow_project.analysis.outlier_result import OutlierTest
    from mlflow_project.sweeps.parent_run import ParentRun

OUTPUT = Path(page.NAME)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What the study's workflow has made: five trained models, three of them tested, all compared and reported."""

    sweep: SweepResult
    outlier_test: "OutlierTest"
    comparison: "Comparison"
    report: Path

    def rows(self) -> list[dict[str, Any]]:
        """Each model's metrics beside the study's own, which `study_in_interval` compares with ours."""
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
            row |= {"run_id": result.run_id, "state": result.how}
            table.append(row)
        return table


def reproduce(
    base: TrainingConfig | None = None,
    *,
    output: Path = OUTPUT,
    listener: ProgressListener | None = None,
    interruption: GracefulShutdown | None = None,
    **how: Any,
) -> Reproduction:
    """Train the five models of the study as m1 to m5, show three of them garments, compare them, and report.

    What was done before is used again.

    Args:
        base: What the five have in common; the study decides lr and epochs.
        output: Where the report is written; it is also an artifact of the sweep's run.
        listener: Hears of the progress.
        interruption: Notes signals.
        how: Further fields of `SweepSpec`, such as data_dir and workers.

    Raises:
        SweepError: A model couldn't be trained or registered.
        Interrupted: A signal came; the same call again goes on.
    """
    base, listener = base or TrainingConfig(), listener or NullListener()
    configs = {model.config(base): (model.alias,) for model in reference_study.STUDY}
    request = SweepSpec(name="the study", configs=list(configs), aliases=configs, **how)
    page.require_place(output)  # not after all the work
    with interruption or GracefulShutdown() as interruption:
        prepared = prepare(request, listener)
        interruption.check()
        listener.info(reference_study.warmup_note(base.warmup))
        with open_parent(prepared, listener) as parent:
            results = run_sweep(prepared, parent, listener, interruption)
            raise_failure(prepared.plan, results)
            tested, comparison = _follow_up(prepared, parent, output, listener, interruption)
    if prepared.dataset.is_sample:
        listener.info(
            f"Note: the study's figures (study_...) are of the full data, those beside them of the sample of "
            f"{prepared.dataset.training_images:,} images; they say nothing about each other"
        )
    done = SweepResult(
        plan=prepared.plan, results=results, run_id=parent.journal.run_id, folder=parent.journal.folder
    )
    return Reproduction(sweep=done, outlier_test=tested, comparison=comparison, report=output)


def _follow_up(
    prepared: PreparedSweep,
    parent: "ParentRun",
    output: Path,
    listener: ProgressListener,
    interruption: GracefulShutdown,
) -> "tuple[OutlierTest, Comparison]":
    """What the study does with its models: garments for three, a comparison of all, a report."""
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    name = registered_name(prepared.plan.trials[0].config, prepared.inputs.dataset)
    _point_aliases(prepared, parent)
    tested = run_outlier_test(
        RegisteredModel(connect(), name),
        reference_study.OUTLIER_MODELS,
        examples=reference_study.OUTLIER_EXAMPLES,
        data_dir=prepared.request.data_dir,
        download=prepared.request.download,
        listener=listener,
        interruption=interruption,
    )
    listener.info(f"{tested.matches}")
    interruption.check()
    selection = Selection(models=tuple(model.alias for model in reference_study.STUDY), registered_name=name)
    comparison, _ = compare_runs(selection)
    for table in ("accuracy", "pairs"):
        parent.attach(f"tables/{table}.csv", getattr(comparison, table).to_csv(index=False))
    html, _ = page.make_report(selection)
    parent.attach(page.NAME, html)
    page.write(output, html)
    listener.info(f"the report is in {output}")
    return tested, comparison


def _point_aliases(prepared: PreparedSweep, parent: "ParentRun") -> None:
    """Lets m1 to m5 name the versions of these runs, also of those that were there before."""
    from mlflow_project.sweeps.existing_runs import ExperimentIndex
    from mlflow_project.tracking.delivery.client import connect

    store = ExperimentIndex(connect())
    for trial in prepared.plan.trials:
        name = registered_name(trial.config, prepared.inputs.dataset)
        run_id = parent.results[trial.sha256].run_id
        version = None if run_id is None else store.version(name, run_id)
        if version is None:
            raise StoreError(
                f"{trial.config.name} isn't registered as {name} yet; deliver it with: mlflow-project sync, "
                "then run this command again"
            )
        for alias in trial.aliases:
            store.point(name, alias, version, f"named by {parent.journal.header.run_name}")
