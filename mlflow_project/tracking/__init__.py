"""Durable logging for any program: what a run logs is on disk first, and is uploaded to MLflow from there.

    from mlflow_project.tracking import start_run

    with start_run("lr=0.1", "mnist") as run:
        run.log_params({"lr": 0.1})
        run.log_metrics({"loss": 0.5}, step=1)

A server that is unreachable or a process that is killed loses nothing; `mlflow-project sync` uploads the rest.
Nothing is imported before `start_run` is called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_project.tracking.active_run import ActiveRun

__all__ = ["start_run"]


def start_run(
    name: str,
    experiment: str,
    on_problem: "Callable[[str], None] | None" = None,
    *,
    run_id: str | None = None,
) -> "ActiveRun":
    """Start a run at MLFLOW_TRACKING_URI; as a context it ends the run, too.

    Args:
        name: The run's name.
        experiment: The experiment's name; it is created if need be.
        on_problem: Called with one line when the disk or the server fails; a `UserWarning` by default.
        run_id: A run that exists in MLflow; None for a new one.

    Raises:
        UsageError: MLFLOW_TRACKING_URI names no store that MLflow knows.
        RunError: The existing run has ended, or belongs to another process.
        JournalError: The disk doesn't take it.
    """
    import warnings

    from mlflow_project.tracking.active_run import ActiveRun

    return ActiveRun.create(name, on_problem or warnings.warn, run_id, experiment=experiment)
