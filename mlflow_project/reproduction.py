"""The whole study that this project repeats, from the trainings to the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.configuration import TrainingConfig
from mlflow_project import report, study
from mlflow_project.comparing import compare_runs
from mlflow_project.errors import StoreError
from mlflow_project.interruption import Interruption
from mlflow_project.outlier_test import run_outlier_test
from mlflow_project.progress import Silence, Watcher
from mlflow_project.run_plan import registered_name
from mlflow_project.selection import Selection
from mlflow_project.sweep_request import Prepared, Request, prepare
from mlflow_project.sweeping import SweepResult, carry_out, open_parent, raise_failure

if TYPE_CHECKING:
    from hw2.comparison import Comparison
    from mlflow_project.outlier_result import OutlierTest
    from mlflow_project.parent import ParentRun

OUTPUT = Path(report.NAME)


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
        for model, cell in zip(study.STUDY, self.sweep.plan.cells, strict=True):
            result = self.sweep.results[cell.sha256]
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
    listener: Watcher | None = None,
    interruption: Interruption | None = None,
    **how: Any,
) -> Reproduction:
    """Train the five models of the study as m1 to m5, show three of them garments, compare them, and report.

    What was done before is used again.

    Args:
        base: What the five have in common; the study decides lr and epochs.
        output: Where the report is written; it is also an artifact of the sweep's run.
        listener: Hears of the progress.
        interruption: Notes signals.
        how: Further fields of `Request`, such as data_dir and workers.

    Raises:
        SweepError: A model couldn't be trained or registered.
        Interrupted: A signal came; the same call again goes on.
    """
    base, listener = base or TrainingConfig(), listener or Silence()
    configs = {model.config(base): (model.alias,) for model in study.STUDY}
    request = Request(name="the study", configs=list(configs), aliases=configs, **how)
    report.require_place(output)  # not after all the work
    with interruption or Interruption() as interruption:
        prepared = prepare(request, listener)
        interruption.check()
        with open_parent(prepared, listener) as parent:
            results = carry_out(prepared, parent, listener, interruption)
            raise_failure(prepared.plan, results)
            tested, comparison = _follow_up(prepared, parent, output, listener, interruption)
    done = SweepResult(
        plan=prepared.plan, results=results, run_id=parent.journal.run_id, folder=parent.journal.folder
    )
    return Reproduction(sweep=done, outlier_test=tested, comparison=comparison, report=output)


def _follow_up(
    prepared: Prepared, parent: "ParentRun", output: Path, listener: Watcher, interruption: Interruption
) -> "tuple[OutlierTest, Comparison]":
    """What the study does with its models: garments for three, a comparison of all, a report."""
    from mlflow_project.connection import client
    from mlflow_project.registry import Registry

    name = registered_name(prepared.plan.cells[0].config, prepared.pictures.dataset)
    _point_aliases(prepared, parent)
    tested = run_outlier_test(
        Registry(client(), name),
        study.OUTLIER_MODELS,
        examples=study.OUTLIER_EXAMPLES,
        data_dir=prepared.request.data_dir,
        download=prepared.request.download,
        listener=listener,
        interruption=interruption,
    )
    listener.note(f"{tested.matches}")
    interruption.check()
    selection = Selection(models=tuple(model.alias for model in study.STUDY), registered_name=name)
    comparison, _ = compare_runs(selection)
    for table in ("accuracy", "pairs"):
        parent.attach(f"tables/{table}.csv", getattr(comparison, table).to_csv(index=False))
    html, _ = report.make_report(selection)
    parent.attach(report.NAME, html)
    report.write(output, html)
    listener.note(f"the report is in {output}")
    return tested, comparison


def _point_aliases(prepared: Prepared, parent: "ParentRun") -> None:
    """Lets m1 to m5 name the versions of these runs, also of those that were there before."""
    from mlflow_project.connection import client
    from mlflow_project.earlier import Store

    store = Store(client())
    for cell in prepared.plan.cells:
        name = registered_name(cell.config, prepared.pictures.dataset)
        run_id = parent.results[cell.sha256].run_id
        version = None if run_id is None else store.version(name, run_id)
        if version is None:
            raise StoreError(
                f"{cell.config.name} isn't registered as {name} yet; deliver it with: mlflow-project sync, "
                "then run this command again"
            )
        for alias in cell.aliases:
            store.point(name, alias, version, f"named by {parent.journal.header.run_name}")
