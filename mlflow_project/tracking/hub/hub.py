"""The journals of this process for one store: which run or model belongs to which, and waiting for their upload."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mlflow.exceptions import MlflowException

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.delivery.background import deliver, upload_pending_runs
from mlflow_project.tracking.delivery.client import (
    REQUEST_SECONDS,
    adopt_mlflow,
    open_client,
    real_stores,
    request_timeout,
)
from mlflow_project.tracking.delivery.error_policy import describe_error
from mlflow_project.tracking.hub.reachability import Reachability, is_answer, is_certain, require_port
from mlflow_project.tracking.hub.run_log import RunLog
from mlflow_project.tracking.hub.worker import Worker
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.state_dir import runs_folder
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.programs.ids import Promise, is_provisional
from mlflow_project.tracking.programs.passing import delivering
from mlflow_project.tracking.programs.record import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

WAIT_SECONDS = 2.0
"""How long a creation waits for the real ID, and a read for what is to be uploaded before it."""

SEARCH_SECONDS = 8.0
"""How long a search waits for a server that takes what is pending: an answer without it would be wrong."""

Result = TypeVar("Result")


class Hub:
    """What this process logs to one store."""

    def __init__(self, uri: str, inherited: Mapping[str, RunRecord] | None = None) -> None:
        adopt_mlflow()
        self.uri = uri
        """The store's address, without the prefix."""
        self.guard = threading.RLock()
        self.reachability = Reachability(uri, str(runs_folder()))
        self.experiments: dict[str, Promise] = {}
        """Experiments that no server has yet, by their provisional IDs."""
        self.inherited = dict(inherited or {})
        """What the process from which this one was forked knew of its runs."""
        self.seen_experiments: dict[str, Any] = {}
        """Experiments that the server has named, by ID."""
        self.deleted_runs: set[str] = set()
        """Runs that this process has deleted: what it would log to them could not be delivered."""
        self._logs: list[RunLog] = []
        self._by_run: dict[str, RunLog] = {}
        self._by_model: dict[str, tuple[RunLog, str]] = {}
        self._real: dict[str, str] = {}
        self._ended: dict[str, tuple[Path, str]] = {}
        """Folder and experiment, as the program knows it, of the runs that were let go."""
        self._registry: RunLog | None = None
        self._client: MlflowClient | None = None
        self._opening = threading.Lock()
        self._worker: Worker | None = None

    # The store itself.

    def connect(self, uri: str = "") -> "MlflowClient":
        """Return the client of the real store."""
        with self._opening:
            if self._client is None:
                require_port(self.uri)
                self._client = open_client(self.uri)
            return self._client

    @property
    def tracking(self) -> Any:
        """Return the real tracking store."""
        return real_stores(self.connect())[0]

    @property
    def registry(self) -> Any:
        """Return the real model registry."""
        return real_stores(self.connect())[1]

    def ask(self, action: Callable[[], Result]) -> Result:
        """Return the server's answer to a question, which is asked again after a passing failure.

        Raises:
            Unreachable: It gives none.
        """
        # One request that is late is no outage: another is made if it can end in time.
        deadline, pause = time.monotonic() + max(WAIT_SECONDS, REQUEST_SECONDS - request_timeout()), 0.1
        if self.reachability.is_down:
            raise self.reachability.error()
        while True:
            try:
                with delivering():
                    result = action()
            except Exception as error:
                if is_answer(error):
                    self.reachability.note_answer()
                    raise
                self.reachability.note_failure(error)
                if is_certain(error) or time.monotonic() + pause > deadline:
                    raise self.reachability.error(error) from error
                time.sleep(pause)
                pause *= 2
            else:
                self.reachability.note_answer()
                return result

    # Journals.

    def begin(self, header: Mapping[str, Any], record: RunRecord) -> RunLog:
        """Begin a journal.

        Raises:
            MlflowException: The disk takes none, so nothing could be kept.
        """
        try:
            journal = Journal.create(self.uri, on_problem=_tell, **header)
        except JournalError as error:
            raise MlflowException(str(error)) from error
        log = RunLog(journal.folder, journal, record, self.connect)
        log.acquire_sending()
        with self.guard:
            self._logs.append(log)
        self.worker  # noqa: B018
        return log

    @property
    def worker(self) -> Worker:
        with self.guard:
            if self._worker is None:
                self._worker = Worker(self._current, self.reachability, self._note_progress, self._probe)
                upload_pending_runs()
            return self._worker

    @property
    def registry_log(self) -> RunLog:
        """Return the journal of what belongs to no run."""
        with self.guard:
            if self._registry is None:
                header = {"experiment": "", "run_name": "model registry", "origin": "registry"}
                self._registry = self.begin(header, RunRecord("", "", 0))
            return self._registry

    def know_run(self, run_id: str, log: RunLog) -> None:
        with self.guard:
            self._by_run[run_id] = log

    def find_log(self, run_id: str) -> RunLog | None:
        """Return this process's journal of a run, by any ID of the run."""
        with self.guard:
            log = self._by_run.get(run_id)
            ended = self._ended.get(run_id)
            if log is None and ended is not None:
                log = RunLog.reopen(ended[0], self.connect)
                log.record.experiment_id = ended[1]
                for known in [known for known, place in self._ended.items() if place == ended]:
                    self._by_run[known] = log
                    del self._ended[known]
            if log is not None and log not in self._logs:
                self._logs.append(log)
            return log

    def forget(self, log: RunLog) -> None:
        """Drop a journal that was begun in vain."""
        log.close()
        with self.guard:
            if log in self._logs:
                self._logs.remove(log)
            self._by_run = {known: other for known, other in self._by_run.items() if other is not log}
        log.release()

    def know_model(self, model_id: str, log: RunLog, provisional: str) -> None:
        with self.guard:
            self._by_model[model_id] = (log, provisional)

    def find_model(self, model_id: str, *, to_write: bool = False) -> tuple[RunLog, str] | None:
        """Return the journal in which a model was created, and its provisional ID; by any ID of the model.

        Args:
            model_id: Any ID of the model.
            to_write: Open the journal again where it was let go with its run.
        """
        with self.guard:
            for log, provisional in [] if model_id in self._by_model else list(self._by_model.values()):
                if log.real_id(provisional) == model_id:  # it came after the creation
                    self._by_model[model_id] = (log, provisional)
            found = self._by_model.get(model_id)
            if found is None or found[0] in self._logs:
                return found
            header = found[0].header
            current = next((log for log in self._logs if log.folder == found[0].folder), None)
            if current is None and to_write:
                current = self.find_log(header.provisional_id or header.adds_to or "")
            if current is not None:
                for known, (log, provisional) in list(self._by_model.items()):
                    if log is found[0]:
                        self._by_model[known] = current, provisional
            return self._by_model[model_id]

    def own_models(self) -> list[str]:
        """List the IDs of the models that this process has created."""
        return list(self._by_model)

    def real_id(self, text: str) -> str | None:
        """Return the real ID of a provisional one, None where it isn't known yet; of others the text itself."""
        if not is_provisional(text):
            return text
        if text in self._real:
            return self._real[text]
        log = self._by_run.get(text)
        owned = self._by_model.get(text)
        real = log.run_id if log is not None else owned[0].real_id(owned[1]) if owned is not None else None
        if real is not None:
            self._real[text] = real
        return real

    def promised_experiment(self, experiment_id: str) -> Promise | None:
        """Return what is to become of a provisional experiment."""
        if experiment_id not in self.experiments and is_provisional(experiment_id):
            promise = Promise.load(experiment_id)
            if promise is None:
                return None
            self.experiments[experiment_id] = promise
        return self.experiments.get(experiment_id)

    def shown_experiment(self, real: str) -> str:
        """Return the ID by which this process knows an experiment of the server's."""
        return next((known for known in self.experiments if self._real.get(known) == real), real)

    def note_real(self, provisional: str, real: str) -> None:
        self._real[provisional] = real

    def promise(self, provisional: str, log: RunLog) -> None:
        """Save where a provisional ID's real one comes from, since the program sees it."""
        Promise(tracking_uri=self.uri, key=log.header.key).save(provisional)

    # Waiting.

    def wait(self, done: Callable[[], Any], seconds: float = WAIT_SECONDS) -> bool:
        """Wait for an upload, but not for a server that is known to be unreachable; return whether it is done."""
        if done():
            return True
        self.worker.wait(lambda: bool(done()) or self.reachability.is_down, seconds)
        return bool(done())

    def deliver(
        self, log: RunLog | None = None, seconds: float = WAIT_SECONDS, *, files: bool = False
    ) -> bool:
        """Wait until what was logged so far, to one run or to all, is uploaded; return whether it is."""
        goals = [(each, each.size) for each in (self._current() if log is None else [log])]
        return self.wait(
            lambda: all((each.position if files else each.values_position) >= goal for each, goal in goals),
            seconds,
        )

    def deliver_experiments(self) -> None:
        """Wait until what was logged to experiments is uploaded, or for a short while."""
        if self._registry is not None:
            self.deliver(self._registry)

    def deliver_for_search(self) -> None:
        """Wait until all is uploaded: a short while for a server that is away, longer for one that takes it."""
        if self.reachability.is_down:
            self.worker.wait(lambda: not self.reachability.is_down, WAIT_SECONDS)
        if not self.deliver(seconds=SEARCH_SECONDS) and not self.reachability.is_down:
            _tell("the server answers a search before all that this process has logged is there")

    def running(self) -> list[RunLog]:
        """List the journals of runs that this process has begun or resumed, and not ended."""
        return [log for log in self._current() if log.is_open_run]

    def pending(self) -> list[RunLog]:
        """List the journals of which not all is uploaded."""
        return [log for log in self._current() if not log.is_delivered]

    def positions(self, log: RunLog | None) -> dict[str, int]:
        """Return up to where a journal must be uploaded before what comes now."""
        return {} if log is None or log is self._registry else {log.header.key: log.size}

    def finish(self, seconds: float) -> None:
        """Upload what is left for so many seconds, then release everything."""
        logs = self._current()
        for log in logs:
            log.sync()
        if self._worker is not None:
            deadline = time.monotonic() + seconds
            self._worker.wait(lambda: all(log.is_delivered for log in logs), seconds)
            self._worker.stop()
            self._deliver_orphans(deadline)
        left = self.pending()
        for log in logs:
            log.close()
            log.release()
        if left:
            runs = "1 journal" if len(left) == 1 else f"{len(left)} journals"
            problems = [describe_error(log.problem, self.uri) for log in left if log.problem is not None]
            problem = self.reachability.problem or next(iter(problems), None)
            why = f" ({problem})" if problem else ""
            _tell(
                f"{runs} of this process not uploaded completely{why}; upload the rest with: mlflow-project sync"
            )

    def _deliver_orphans(self, deadline: float) -> None:
        """Upload what processes that ended before this one have added to its runs."""
        own = {*self._by_run, *self._ended}
        for run in local_runs.undelivered():
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self.reachability.is_down:
                return
            if run.header.adds_to in own:
                deliver(run.folder, remaining)

    def abandon(self) -> dict[str, RunRecord]:
        """Let go, in a forked process, of what is the parent's; return what it knew of its runs."""
        for log in self._logs:
            log.abandon()
        return {run_id: log.record for run_id, log in self._by_run.items()}

    def _current(self) -> list[RunLog]:
        # The registry's last: it refers to the runs.
        with self.guard:
            return sorted(self._logs, key=lambda log: log.header.origin == "registry")

    def _note_progress(self, log: RunLog) -> None:
        """Learn the real IDs, and let go of a run that has ended and is uploaded."""
        run_id = log.run_id
        if run_id and log.header.origin == "program" and run_id not in self._by_run:
            with self.guard:
                self._by_run[run_id] = log
        if log.header.origin == "registry" or log.record.status == "RUNNING":
            return
        # What comes after the end opens the journal again.
        with self.guard, log.guard:
            log.close()
            if log.is_delivered and log in self._logs:
                self._logs.remove(log)
                for known in [known for known, other in self._by_run.items() if other is log]:
                    self._ended[known] = log.folder, log.record.experiment_id
                    del self._by_run[known]
                log.release()

    def _probe(self) -> None:
        self.tracking.search_experiments(max_results=1, view_type=1)


def _tell(line: str) -> None:
    print(f"durable tracking: {line}", file=sys.stderr)
