"""Where the jobs of a sweep are carried out: in this process, in several, or (engines_ray) on a Ray cluster.

Every engine does the same tasks with the same results, bit for bit where threads and processor are the same.
A process that dies costs what it did since its last checkpoint: its job is done again by another.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Protocol

from mlflow_project.common.bounded_exit import bound_exit
from mlflow_project.common.errors import Interrupted
from mlflow_project.sweeps.job import JobRunner
from mlflow_project.sweeps.task import FAILED, JobSpec, TrialResult
from mlflow_project.sweeps.task_progress import PrefixedListener, WorkerListener
from mlflow_project.tracking.active_run import DELIVERY_SECONDS

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.progress import ProgressListener

ATTEMPTS = 3  # at a job whose process dies; a job that kills its process each time is given up
# A worker that is told to end writes a checkpoint and delivers for 5 s; then it has had its time.
ENDING_SECONDS = 15.0
_POLL_SECONDS = 0.5


class Executor(Protocol):
    """Carries tasks out, in any order."""

    def run(
        self, tasks: Sequence[JobSpec], listener: "ProgressListener", interruption: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """One result a trial, as they come. `Interrupted` on a signal, after all that was begun has ended."""


class SerialExecutor:
    """One job after another in this process, while what is complete is still being delivered."""

    def run(
        self, tasks: Sequence[JobSpec], listener: "ProgressListener", interruption: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """See `Executor`."""
        waiting: list[JobRunner] = []
        try:
            for task in tasks:
                job = JobRunner(
                    task, PrefixedListener(listener, task) if len(tasks) > 1 else listener, interruption
                )
                waiting.append(job)
                job.train()
                for done in [job for job in waiting if job.delivered]:
                    waiting.remove(done)
                    yield from done.close()
        except Interrupted:
            for job in waiting:
                yield from job.close(0.0)
            raise
        deadline = time.monotonic() + DELIVERY_SECONDS
        for job in waiting:
            yield from job.close(max(0.0, deadline - time.monotonic()))


class ProcessExecutor:
    """Several processes on this machine, each with a job at a time."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self, tasks: Sequence[JobSpec], listener: "ProgressListener", interruption: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """See `Executor`. The store must exist: several processes that make one get in each other's way."""
        # The longest first: the last one to end then ends soonest.
        queue = deque(sorted(tasks, key=lambda task: -task.job.epochs))
        attempts: dict[int, int] = {}
        workers: list[_Worker] = []
        try:
            while queue or any(worker.task for worker in workers):
                interruption.check()
                while queue and len(workers) < self.workers:
                    workers.append(_Worker())
                for worker in workers:
                    if worker.task is None and queue:
                        worker.give(queue.popleft())
                ready = wait([w.connection for w in workers if w.task], timeout=_POLL_SECONDS)
                for worker in [w for w in workers if w.connection in ready]:
                    task = worker.task
                    assert task is not None
                    results = worker.results()
                    if results is not None:
                        yield from results
                        continue
                    workers.remove(worker)
                    attempts[task.number] = attempts.get(task.number, 0) + 1
                    yield from retry_or_fail(task, worker.ended(), attempts[task.number], queue, listener)
        except Interrupted:
            yield from _end(workers)
            raise
        finally:
            for worker in workers:
                worker.dismiss()


def failed_results(task: JobSpec, reason: str) -> Iterator[TrialResult]:
    """Gives a task up."""
    for trial in task.job.trials:
        yield TrialResult(sha256=trial.sha256, how=FAILED, reason=reason)


def retry_or_fail(
    task: JobSpec, how: str, attempts: int, queue: "deque[JobSpec]", listener: "ProgressListener"
) -> Iterator[TrialResult]:
    """Puts the task of a lost worker into the queue again, or gives it up."""
    if attempts < ATTEMPTS:
        listener.warning(f"the worker of training {task.number} {how}; its training goes on in another")
        queue.append(task)
        return
    yield from failed_results(task, f"the worker {how}, {attempts} times in a row")


class _Worker:
    """A process that does one task after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, os.getpid()), name="sweep-worker"
        )
        self.process.start()
        theirs.close()
        self.task: JobSpec | None = None

    def give(self, task: JobSpec) -> None:
        """Tells the process what to do."""
        self.task = task
        with contextlib.suppress(OSError):  # it has died; that is seen where its results would come
            self.connection.send(task)

    def results(self) -> list[TrialResult] | None:
        """Of the task that it had; None if the process has died instead."""
        try:
            results: list[TrialResult] = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.task = None
        return results

    def ended(self) -> str:
        """How a process that has died did so, in words."""
        self.process.join(ENDING_SECONDS)
        code = self.process.exitcode
        return (
            f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with status {code}"
        )

    def dismiss(self) -> None:
        """Lets an idle process end, and ends any other."""
        self.connection.close()
        if self.task is not None:
            self.process.terminate()
        self.process.join(ENDING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _end(workers: Sequence[_Worker]) -> Iterator[TrialResult]:
    """Has all workers end their runs as KILLED, and takes what they still say."""
    busy = [worker for worker in workers if worker.task]
    for worker in busy:
        worker.process.terminate()
    deadline = time.monotonic() + ENDING_SECONDS
    for worker in busy:
        if worker.connection.poll(max(0.0, deadline - time.monotonic())):
            yield from worker.results() or ()


def _work(connection: Connection, parent: int) -> None:
    """What a worker process does: tasks from the connection until there are no more."""
    from mlflow_project.common.signals import GracefulShutdown

    threading.Thread(target=_exit_when_orphaned, args=(parent,), daemon=True).start()
    with GracefulShutdown() as interruption:
        while True:
            try:
                task: JobSpec = connection.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                bound_exit(0)
                return
            job = JobRunner(task, WorkerListener(task), interruption)
            try:
                job.train()
            except Interrupted as interrupted:
                _send(connection, job.close(0.0))
                raise SystemExit(interrupted.exit_status) from None
            _send(connection, job.close())


def _send(connection: Connection, results: list[TrialResult]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more; the runs have been told all of it
        connection.send(results)


def _exit_when_orphaned(parent: int) -> None:
    """A worker whose sweep was killed ends as well, orderly: another sweep may want its trials."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
