"""`train`: one configuration, one run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.cli.shared.options import (
    configuration_options,
    data_options,
    migrate_option,
    option,
    split_options,
    switch_option,
)
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.run_spec import RunResult

RESULT_COLUMNS = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


@click.command(short_help="Train one configuration as one MLflow run.")
@configuration_options()
@data_options
@switch_option("register", "Register the model.", True)
@option("--resume", metavar="RUN_ID", default=None, help="Resume an interrupted run.")
@migrate_option
@format_option
@click.pass_obj
def train(
    shutdown: "GracefulShutdown",
    /,
    data_dir: Path | None,
    resume: str | None,
    format_: str,
    **options: Any,
) -> int:
    """Train and evaluate one configuration as one MLflow run, and register its model.

    \b
    mlflow-project train --lr 0.1 --epochs 8
    mlflow-project train --resume 6f0c1d2e3b4a59687766554433221100
    """
    from mlflow_project.cli.shared.console import Console
    from mlflow_project.training import train as training

    config, others = split_options(options)
    run_id = os.environ.get("MLFLOW_RUN_ID")
    with Console() as console:
        if resume:
            given = {
                k: getattr(config, k) for k, v in options.items() if v is not None and hasattr(config, k)
            }
            result = training.resume(
                resume, data_dir=data_dir, adopted_run_id=run_id, listener=console, shutdown=shutdown, **given
            )
        else:
            result = training.train(
                config,
                data_dir=data_dir,
                run_id=run_id,
                listener=console,
                shutdown=shutdown,
                **others,
            )
    return _report(result, format_)


def _report(result: "RunResult", format_: str) -> int:
    from mlflow_project.cli.shared.hints import experiment_command
    from mlflow_project.common.errors import RegistryError
    from mlflow_project.tracking.journal.delivery_status import require_taken
    from mlflow_project.training.ui_views import table_of

    row: dict[str, Any] = {"run": result.plan.config.name, "run_id": result.run_id or result.folder.name}
    row |= result.metrics if format_ != "table" else {name: result.metrics[name] for name in RESULT_COLUMNS}
    print_rows([row], format_)
    click.echo(experiment_command(result.folder, table_of([result.plan.config])), err=True)
    require_taken(result.delivery)
    if result.unregistered:
        raise RegistryError(
            f"the model of run {row['run_id']} isn't registered: {result.unregistered}; "
            "everything else is in MLflow: register it there, or fix the cause and train again"
        )
    return 0
