"""An MLflow run that is being logged: its journal, and the thread that uploads it."""

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from mlflow_project.common.errors import Interrupted, JournalError
from mlflow_project.common.names import NAME_TAG, REASON_TAG, STATUS_TAG
from mlflow_project.common.run_state import RunState
from mlflow_project.tracking.delivery.background import BackgroundUploader, upload_pending_runs
from mlflow_project.tracking.delivery.status import DeliveryStatus
from mlflow_project.tracking.experiment import require_active_experiment
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import Artifact, Entity, Metric, Param, RunEnded, Tag
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.new_run import create_journal

DELIVERY_SECONDS = 60.0  # how long the end of a run waits for the tracking server
KILLED_DELIVERY_SECONDS = 5.0  # SIGTERM is followed by SIGKILL soon; `sync` uploads the rest


class ActiveRun:
    """A run that a server may or may not know yet: what is logged is on disk first and uploaded from there.

    As a context it ends the run however the work in it ends: FINISHED, FAILED, or KILLED by a signal; FAILED, too, if
    its `problem` is set.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.problem: str | None = None
        self.delivery: DeliveryStatus | None = None
        """How much has arrived, once the run is closed."""
        self._uploader = BackgroundUploader(journal)
        self._uploader.start()

    @classmethod
    def create(
        cls,
        name: str,
        on_problem: Callable[[str], None],
        run_id: str | None,
        *opening: Entity,
        experiment: str | None = None,
        key: str | None = None,
        experiment_tags: Mapping[str, str] | None = None,
    ) -> Self:
        """Start a run in the store that MLflow's variables name.

        Args:
            name: The run's name.
            on_problem: Called with one line when the disk or the server fails.
            run_id: A run that `mlflow run` has created; None for a new one.
            opening: The first entities to log.
            experiment: The experiment's name; by default the one that MLflow's variables name.
            key: The journal's key, from `claim_given_run`.
            experiment_tags: Written on the experiment where it has none of that key.

        Raises:
            UsageError, RunError, JournalError: As `create_journal` does.
        """
        if run_id is None and experiment is None:
            require_active_experiment()
        journal = create_journal(
            name,
            run_id,
            parameters={value.key: value.value for value in opening if isinstance(value, Param)},
            experiment=experiment,
            key=key,
            experiment_tags=experiment_tags,
            on_problem=on_problem,
        )
        upload_pending_runs()
        run = cls(journal)
        run.log(Tag(NAME_TAG, name), Tag(STATUS_TAG, RunState.STARTED), *opening)
        return run

    @property
    def folder(self) -> Path:
        """Return the folder of the journal and of what else belongs to the run."""
        return self.journal.folder

    @property
    def name(self) -> str:
        """Return the run's ID in MLflow, or the provisional one while no server has given it."""
        return self.journal.run_id or self.journal.header.key

    @property
    def delivered(self) -> bool:
        """Return whether MLflow has everything that was logged so far."""
        return self._uploader.delivery().pending == 0

    def wait_for_upload(self, seconds: float) -> bool:
        """Wait at most so many seconds until MLflow has everything that was logged so far; return whether it has."""
        return self._uploader.wait(seconds).pending == 0

    def when_named(self, announce: Callable[[str], None]) -> None:
        """Call `announce` once with the run's ID in MLflow, as soon as the server has given it."""
        self._uploader.when_named(announce)

    def log(self, *entities: Entity) -> None:
        """Append entities to the journal; their files may be deleted once this returns."""
        self.journal.append(*entities)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log metrics of one step; a step that isn't above the last one of its key is dropped."""
        self.log(*(Metric(key, value, step) for key, value in metrics.items()))

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, whose values can't change afterwards."""
        self.log(*(Param(key, value) for key, value in params.items()))

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; the last value of a key counts."""
        self.log(*(Tag(key, value) for key, value in tags.items()))

    def log_artifact(self, local_path: str | Path, artifact_path: str = "") -> None:
        """Log a file, which is copied before this returns.

        Args:
            local_path: The file.
            artifact_path: The folder among the run's artifacts.

        Raises:
            JournalError: There is no such file.
        """
        file = Path(local_path)
        self.log(Artifact((PurePosixPath(artifact_path) / file.name).as_posix(), file))

    def end(self, status: str, reason: str = "") -> None:
        """Log that the run is FINISHED, FAILED or KILLED, and why.

        Raises:
            JournalError: It is FINISHED, but not everything that was logged is on disk.
        """
        if status == "FINISHED":
            self.ensure_durable()
        reasons = [Tag(REASON_TAG, reason)] if reason else []
        self.log(Tag(STATUS_TAG, RunState.of_mlflow(status)), *reasons, RunEnded(status))
        self.journal.sync()

    def ensure_durable(self) -> None:
        """Force everything that was logged onto the disk.

        Raises:
            JournalError: The disk doesn't take it; with the next step.
        """
        try:
            self.journal.flush_or_raise()
        except JournalError as error:
            local_runs.mark_disk_full(self.folder)
            raise JournalError(f"{error}, and {self._again}") from error

    @property
    def _again(self) -> str:
        """Return what to do about a run that couldn't be saved."""
        return "do it again"

    def close(
        self, seconds: float = DELIVERY_SECONDS, should_stop: Callable[[], bool] = lambda: False
    ) -> DeliveryStatus:
        """Wait at most so many seconds for the upload, or until `should_stop`, and release the run."""
        self.delivery = self._uploader.wait(seconds, should_stop)
        self._uploader.stop()
        self.journal.close()
        return self.delivery

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = isinstance(error, Interrupted | KeyboardInterrupt)
        unsaved: JournalError | None = None
        if error is not None:
            self.problem = str(error) or type(error).__name__
        self._log_results()
        if self.problem is None:
            try:
                self.end("FINISHED")
            except JournalError as caught:
                unsaved, self.problem = caught, str(caught)
        if self.problem is not None:
            self.end("KILLED" if killed else "FAILED", self.problem)
        self.close(self._delivery_seconds(killed))
        if unsaved is not None:
            raise unsaved

    def _log_results(self) -> None:
        """Log what is known only when the work is done; for subclasses."""

    def _delivery_seconds(self, killed: bool) -> float:
        """Return how long the end of the run waits for the tracking server."""
        return KILLED_DELIVERY_SECONDS if killed else DELIVERY_SECONDS
