"""The run above the runs of a sweep or of a search: locked, resumed where it was interrupted, ended as they end."""

import os
import tempfile
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hw2.common.errors import Hw2Error
from mlflow_project.common.errors import DestinationError, RunBusyError, ServiceError
from mlflow_project.common.names import JOURNAL_REFERENCE, PARENT_TAG, RESUMED_TAG
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import LocalRunInfo
from mlflow_project.sweeps.job_spec import TrialResult
from mlflow_project.tracking.active_run import DELIVERY_SECONDS, KILLED_DELIVERY_SECONDS, ActiveRun
from mlflow_project.tracking.delivery.session import require_destination
from mlflow_project.tracking.experiment import require_active_experiment
from mlflow_project.tracking.journal import local_runs, state_dir
from mlflow_project.tracking.journal.entities import Artifact, RunResumed, Tag
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.new_run import claim_given_run, create_journal, note_claimed
from mlflow_project.training import model_card, ui_views
from mlflow_project.training.tracked_run import redirect_run

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from mlflow_project.training.progress import ProgressListener


class GroupRun(ActiveRun):
    """A parent run. One that was interrupted is resumed in the run that it had.

    Args:
        kind: `sweep` or `search`.
        name: What it runs.
        identity: The tag by which its run is recognized, and its SHA-256.
        table: The view of MLflow's page of runs that tells the trials apart.
        interrupted: The folder of its interrupted run, if there is one.
        listener: Receives warnings.

    Raises:
        RunBusyError: Another process runs the same.
    """

    def __init__(
        self,
        kind: str,
        name: str,
        identity: tuple[str, str],
        table: ui_views.View,
        interrupted: Path | None,
        listener: "ProgressListener",
    ) -> None:
        self.kind = kind
        self.results: dict[str, TrialResult] = {}
        """The results of the trials so far, by the SHA-256 of the configuration."""
        self._started = time.monotonic()
        self._lock = lock_group(kind, identity[1], name)
        self._times = 0
        self._other: ActiveRun | None = None
        try:
            journal = self._open_journal(f"{kind} {name}", identity, table, interrupted, listener)
        except BaseException:
            self._lock.release()
            raise
        super().__init__(journal)

    def _open_journal(
        self,
        title: str,
        identity: tuple[str, str],
        table: ui_views.View,
        folder: Path | None,
        listener: "ProgressListener",
    ) -> Journal:
        given_id = os.environ.get("MLFLOW_RUN_ID")
        if folder is None:
            if given_id is None:
                require_active_experiment()
            return create_journal(
                title,
                given_id,
                parameters={},
                tags=dict([identity]),
                experiment_tags=model_card.experiment_tags(table),
                on_problem=listener.warning,
            )
        own = given_id == local_runs.local_run(folder).run_id
        if given_id and own:
            note_claimed(given_id)
        key = claim_given_run(given_id) if given_id and not own else ""
        journal = Journal.open(folder, on_problem=listener.warning)
        self._times = local_runs.count_resume(folder)
        journal.append(RunResumed(), Tag(RESUMED_TAG, str(self._times)))
        if given_id and not own:
            self._other = redirect_run(given_id, key, journal.header, listener)
            journal.append(Tag("resumed_by", given_id))
        return journal

    @property
    def resumed(self) -> bool:
        """Return whether this is the run of an earlier, interrupted attempt."""
        return self._times > 0

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of every run below this one. The journal stands for the run, which may have no id yet."""
        return {PARENT_TAG: JOURNAL_REFERENCE + self.journal.header.key}

    def attach(self, path: str, content: str | bytes) -> None:
        """Log a text or bytes as an artifact."""
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            file = Path(scratch) / "artifact"
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            self.log(Artifact(path, file))

    def attach_report(
        self, client: "MlflowClient", runs: Iterable[str], listener: "ProgressListener"
    ) -> None:
        """Log the report on these runs; where it can't be made, a warning says why."""
        from mlflow_project.analysis.run_selection import Selection
        from mlflow_project.reports import page

        try:
            html, _ = page.make_report(Selection(runs=tuple(runs)), client)
        except (Hw2Error, ServiceError) as error:
            listener.warning(f"the {self.kind} has no report: {error}")
            return
        self.attach(page.NAME, html)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._lock.release()
            if self._other is not None:
                if error is None:
                    self._other.problem = self.problem
                self._other.__exit__(kind, error, trace)

    @property
    def _again(self) -> str:
        return f"start the same {self.kind} again"

    def _delivery_seconds(self, killed: bool) -> float:
        # A server that hasn't taken the trials won't take their parent either.
        undelivered = any(result.undelivered for result in self.results.values())
        return KILLED_DELIVERY_SECONDS if killed or undelivered else DELIVERY_SECONDS


def lock_group(kind: str, sha256: str, name: str) -> FileLock:
    """Lock a sweep or a search for this process; RunBusyError where another has it."""
    folder = state_dir.state_dir() / {"sweep": "sweeps", "search": "searches"}[kind]
    lock = FileLock(folder / f"{sha256}.lock")
    with state_dir.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        acquired = lock.acquire()
    if not acquired:
        raise RunBusyError(f"another process is running this {kind} ({name}); wait for it or stop it first")
    return lock


def find_interrupted(
    local: Iterable[LocalRunInfo],
    identity: tuple[str, str],
    ignored: Collection[str] = (),
    finished: bool = False,
) -> Path | None:
    """Return the folder of the newest parent run of this identity, one that has finished only where that will do."""
    tag, sha256 = identity
    for info in reversed(list(local)):
        if info.tags.get(tag) == sha256 and info.folder.name not in ignored:
            run = existing_runs.read_local_run(info.folder)
            if run is None:
                continue
            if run.state == "finished" and not finished:
                return None
            try:
                require_destination(run.folder)
            except DestinationError:
                continue
            return run.folder
    return None
