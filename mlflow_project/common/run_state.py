"""The states of a run, as its tag `status` has them, and MLflow's word for each."""

from enum import StrEnum


class RunState(StrEnum):
    """A run's state; MLflow's word for it is `mlflow_status`."""

    STARTED = "started"
    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    STOPPED = "stopped"
    """Of a search: ended before its last epoch or its test, and able to go on."""

    @property
    def mlflow_status(self) -> str:
        """Return MLflow's word: RUNNING, FINISHED, FAILED or KILLED."""
        return _MLFLOW_STATUS[self]

    @classmethod
    def of_mlflow(cls, status: str) -> "RunState":
        """Return the state for MLflow's word.

        Raises:
            KeyError: No run of this project has that status.
        """
        return {word: state for state, word in _MLFLOW_STATUS.items() if state is not RunState.STOPPED}[
            status
        ]


_MLFLOW_STATUS = {
    RunState.STARTED: "RUNNING",
    RunState.COMPLETED: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.INTERRUPTED: "KILLED",
    RunState.STOPPED: "FINISHED",
}
