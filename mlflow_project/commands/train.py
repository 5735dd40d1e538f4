"""`train`: one configuration, one run."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.options import configuration, configuration_options, data_options, option, switch_option
from mlflow_project.output import format_option, print_rows

if TYPE_CHECKING:
    from mlflow_project.console import Console
    from mlflow_project.interruption import Interruption
    from mlflow_project.progress import Introduced
    from mlflow_project.run_plan import RunPlan, RunResult
    from mlflow_project.runs import TrackedRun

# How long the first line waits for the server to name the run; the training goes on meanwhile.
NAME_SECONDS = 5.0
RESULT_COLUMNS = ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "train_seconds", "test_seconds")


@click.command(short_help="Train and evaluate one configuration as one run.")
@configuration_options()
@data_options
@switch_option("register", "Register the model.", True)
@option("--resume", metavar="RUN_ID", default=None, help="Go on with an interrupted run.")
@format_option
def train(
    data_dir: Path | None, download: bool, register: bool, resume: str | None, format_: str, **given: Any
) -> int:
    """Train and evaluate one configuration as one MLflow run, and register its model.

    \b
    mlflow-project train --lr 0.1 --epochs 8
    mlflow-project train --resume 6f0c1d2e3b4a59687766554433221100
    """
    from mlflow_project.console import Console
    from mlflow_project.interruption import Interruption
    from mlflow_project.run_plan import RunPlan

    config = configuration(**given)
    with Interruption() as interruption, Console() as console:
        if resume:
            outcome = _resume(resume, data_dir, console, interruption)
        else:
            plan = RunPlan(config, data_dir, os.environ.get("MLFLOW_RUN_ID"), register=register)
            outcome = _start(plan, download, console, interruption)
    return _report(outcome, format_)


def _start(plan: "RunPlan", download: bool, console: "Console", interruption: "Interruption") -> "RunResult":
    import dataclasses

    from mlflow_project import pictures
    from mlflow_project.execution import SharedTraining
    from mlflow_project.runs import TrackedRun

    config, loaded = pictures.load(plan.config, plan.data_dir, download)
    if loaded.dataset.is_sample:
        console.warning(
            f"training on the embedded sample of {len(loaded.dataset.train):,} pictures; "
            "give the full data by --data-dir DIR, or --download"
        )
    interruption.check()
    run = TrackedRun.start(dataclasses.replace(plan, config=config), loaded, console)
    with _introduced(run, loaded, console) as watcher:
        return SharedTraining([run], loaded, watcher, interruption).execute()[0]


def _resume(
    name: str, data_dir: Path | None, console: "Console", interruption: "Interruption"
) -> "RunResult":
    from contextlib import ExitStack

    from hw2.configuration import fingerprint
    from mlflow_project import pictures, state
    from mlflow_project.errors import RunError
    from mlflow_project.execution import SharedTraining, best_state, damage_told
    from mlflow_project.run_plan import read_plan
    from mlflow_project.runs import TrackedRun, adopter

    local = state.find(name)
    if local.state == "finished":
        raise RunError(f"run {name} is finished; start a new one to train more")
    plan = read_plan(local.folder)
    config, loaded = pictures.load(plan.config, data_dir or plan.data_dir)
    identity, said = (
        fingerprint(config, loaded.dataset.sha256, loaded.runtime),
        local.header.tags["fingerprint"],
    )
    if identity != said:
        # What the run has said already would not fit what is computed now.
        raise RunError(
            f"run {name} has fingerprint {said[:12]}, here it would be {identity[:12]}: other code, pictures, "
            "machine or number of threads; start a new run instead"
        )
    interruption.check()
    given = os.environ.get("MLFLOW_RUN_ID")
    adopted = given if given and given != local.run_id else None
    with ExitStack() as stack:
        run = TrackedRun.reopen(local.folder, console, {"resumed_by": adopted} if adopted else None)
        other = stack.enter_context(adopter(adopted, local.header, console)) if adopted else None
        # Only now that no other process can add to it.
        start = best_state([local.folder], identity, config.epochs)
        if damage := damage_told(local.folder, start):
            console.warning(damage)
        done = "the beginning" if start is None else f"epoch {start.epoch + 1}, batch {start.batch + 1}"
        console.note(f"run {run.name} goes on from {done}")
        watcher = stack.enter_context(_introduced(run, loaded, console))
        outcome = SharedTraining([run], loaded, watcher, interruption).execute(start)[0]
        if other is not None and outcome.status != "FINISHED":
            other.problem = outcome.reason
    return outcome


def _introduced(run: "TrackedRun", loaded: Any, console: "Console") -> "Introduced":
    """Watches, with one line of what will happen before all others."""
    from mlflow_project.database import shown
    from mlflow_project.progress import Introduced

    runtime = loaded.runtime
    where = shown(run.journal.header.tracking_uri)

    def line(last: bool) -> str | None:
        run_id = run.wait_for_id(0)
        if run_id is None and not last:
            return None
        named = f"run {run_id}" if run_id else f"run {run.name} (the server hasn't named it yet)"
        return (
            f"{run.plan.config.name} on {loaded.dataset.name} ({len(loaded.train):,} pictures), "
            f"{runtime.device}, {runtime.precision}, {runtime.threads} threads; {named} in {where}"
        )

    return Introduced(console, line, NAME_SECONDS)


def _report(outcome: "RunResult", format_: str) -> int:
    from mlflow_project.errors import RegistryError, RunError
    from mlflow_project.links import ui_command, undelivered

    kept = undelivered(outcome.delivery, outcome.folder)
    refused = outcome.delivery.refused if outcome.delivery else ()
    for warning in ([] if kept is None else [kept]) + list(refused):
        click.echo(f"Warning: {warning}", err=True)
    if outcome.status != "FINISHED":
        raise RunError(
            f"{outcome.reason}; run {outcome.run_id or outcome.folder.name} is marked {outcome.status}"
        )
    row: dict[str, Any] = {"run": outcome.plan.config.name, "run_id": outcome.run_id or outcome.folder.name}
    row |= outcome.metrics if format_ != "table" else {name: outcome.metrics[name] for name in RESULT_COLUMNS}
    print_rows([row], format_)
    click.echo(ui_command(outcome), err=True)
    if outcome.unregistered:
        raise RegistryError(
            f"the model of run {row['run_id']} isn't registered: {outcome.unregistered}; "
            "all else of it is in MLflow: register it there, or mend the cause and train again"
        )
    return 0
