"""`reproduce`: the whole study that this project repeats, in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.commands.sweep import engine_options, open_parent
from mlflow_project.options import configuration, configuration_options, data_options, option
from mlflow_project.output import format_option, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_project.console import Console
    from mlflow_project.interruption import Interruption
    from mlflow_project.parent import Parent
    from mlflow_project.sweep_request import Prepared
    from mlflow_project.task import Result

OUTPUT = "report.html"
COLUMNS = (
    "model",
    "lr",
    "epochs",
    "train_seconds",
    "study_train_seconds",
    "train_accuracy",
    "study_train_accuracy",
    "test_accuracy",
    "study_test_accuracy",
    "study_in_interval",
)


@click.command(short_help="The five models, the outlier test, the comparison and the report of the study.")
@configuration_options(
    "lr", "epochs", "batch_size", "optimizer", "momentum", "seed", "dataset", "validation_size", "model"
)
@data_options
@engine_options
@option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=OUTPUT,
    show_default=True,
    help="Where the report is written; it is also an artifact of the sweep's run.",
)
@format_option
def reproduce(
    data_dir: Path | None,
    download: bool,
    engine: str,
    workers: int,
    address: str | None,
    output: Path,
    format_: str,
    **given: Any,
) -> int:
    """Train the five models of the study as m1 to m5, show three of them garments, compare them, and report.

    The five share three trainings: 26 epochs instead of 36. What was done before is used again.

    \b
    mlflow-project reproduce --data-dir data
    """
    from mlflow_project import report
    from mlflow_project.console import Console
    from mlflow_project.interruption import Interruption
    from mlflow_project.links import experiment_command
    from mlflow_project.study import STUDY
    from mlflow_project.sweep_request import checked_request, prepare
    from mlflow_project.sweeping import carry_out, raise_failure

    base = configuration(**given)
    configs = {model.config(base): (model.alias,) for model in STUDY}
    request = checked_request(
        "the study", list(configs), data_dir, download, True, engine, workers, address, configs
    )
    report.require_place(output)  # not after all the work
    with Interruption() as interruption, Console() as console:
        prepared = prepare(request, console)
        interruption.check()
        with open_parent(prepared, console) as parent:
            results = carry_out(prepared, parent, console, interruption)
            raise_failure(prepared.plan, results)
            verdicts = follow_up(prepared, parent, output, console, interruption)
    print_rows(rows(prepared, results), format_, COLUMNS if format_ == "table" else None)
    if format_ == "table":
        click.echo(f"\n{verdicts}")
    click.echo(experiment_command(parent.journal.folder), err=True)
    return 0


def follow_up(
    prepared: "Prepared",
    parent: "Parent",
    output: Path,
    console: "Console",
    interruption: "Interruption",
) -> str:
    """What the study does with its models: garments for three, a comparison of all, a report; the verdicts."""
    from mlflow_project import report, study
    from mlflow_project.comparing import compare_stored
    from mlflow_project.comparison_text import render_comparison
    from mlflow_project.connection import client
    from mlflow_project.outlier_test import run_outlier_test
    from mlflow_project.registry import Registry
    from mlflow_project.run_plan import registered_name
    from mlflow_project.selection import Selection

    name = registered_name(prepared.plan.cells[0].config, prepared.pictures.dataset)
    point_aliases(prepared, parent)

    def on_progress(what: str, share: float) -> None:
        interruption.check()

    found = run_outlier_test(
        Registry(client(), name),
        study.OUTLIER_MODELS,
        examples=study.OUTLIER_EXAMPLES,
        data_dir=prepared.request.data_dir,
        download=prepared.request.download,
        watcher=console,
        on_progress=on_progress,
    )
    console.note(f"{found.matches}")
    interruption.check()
    models = tuple(model.alias for model in study.STUDY)
    selection = Selection(models=models, registered_name=name)
    comparison, _ = compare_stored(client(), selection)
    for table in ("accuracy", "pairs"):
        parent.attach(f"tables/{table}.csv", getattr(comparison, table).to_csv(index=False))
    html, _ = report.make_report(client(), selection)
    parent.attach(report.NAME, html)
    report.write(output, html)
    console.note(f"the report is in {output}")
    return render_comparison(comparison)


def point_aliases(prepared: "Prepared", parent: "Parent") -> None:
    """Lets m1 to m5 name the versions of these runs, also of those that were there before."""
    from mlflow_project.connection import client
    from mlflow_project.earlier import Store
    from mlflow_project.errors import StoreError
    from mlflow_project.run_plan import registered_name

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


def rows(prepared: "Prepared", results: "Mapping[str, Result]") -> list[dict[str, Any]]:
    """Each model's figures beside the study's own, which `study_in_interval` compares with ours."""
    from mlflow_project.study import STUDY

    table = []
    for model, cell in zip(STUDY, prepared.plan.cells, strict=True):
        result = results[cell.sha256]
        found = result.metrics
        ours = ("train_seconds", "train_accuracy", "test_seconds", "test_accuracy")
        row: dict[str, Any] = {"model": model.alias, "lr": model.lr, "epochs": model.epochs}
        for name in ours:
            row |= {name: found.get(name), f"study_{name}": getattr(model, name)}
        low, high = (found.get(f"test_accuracy_{end}") for end in ("low", "high"))
        if low is not None and high is not None:
            row["study_in_interval"] = "yes" if low <= model.test_accuracy <= high else "no"
        row |= {"run_id": result.run_id, "state": result.how}
        table.append(row)
    return table
