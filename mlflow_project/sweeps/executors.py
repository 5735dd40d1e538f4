"""Where the jobs of a sweep run: in this process, in several, or (ray_executor) on a Ray cluster.

Every executor runs the same jobs with the same results, bit for bit where threads and processor are the same.
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
from mlflow_project.sweeps.job_runner import JobRunner, PrefixedListener, WorkerListener
from mlflow_project.sweeps.job_spec import FAILED, JobSpec, TrialResult
from mlflow_project.tracking.active_run import DELIVERY_SECONDS

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.progress import ProgressListener

ATTEMPTS = 3  # at a job whose process dies; a job that kills its process each time is given up
# A worker that is terminated writes a checkpoint and delivers for 5 s; then it has had its time.
ENDING_SECONDS = 15.0
_POLL_SECONDS = 0.5


class Executor(Protocol):
    """Runs jobs, in any order; a deque of them may grow while their results are taken."""

    def run(
        self, specs: Sequence[JobSpec], listener: "ProgressListener", shutdown: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """Yield one result for each trial, as they come; Interrupted on a signal, once all runs have ended."""


class SerialExecutor:
    """One job after another in this process, while what is complete is still being delivered."""

    def run(
        self, specs: Sequence[JobSpec], listener: "ProgressListener", shutdown: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """See `Executor`."""
        waiting: list[JobRunner] = []
        queue = specs if isinstance(specs, deque) else deque(specs)
        several = len(specs) > 1 or queue is specs
        try:
            while queue:
                spec = queue.popleft()
                job = JobRunner(spec, PrefixedListener(listener, spec) if several else listener, shutdown)
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
        self, specs: Sequence[JobSpec], listener: "ProgressListener", shutdown: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """See `Executor`. The store must exist: several processes that make one get in each other's way."""
        queue = specs if isinstance(specs, deque) else longest_first(specs)
        attempts: dict[int, int] = {}
        workers: list[_Worker] = []
        try:
            while queue or any(worker.spec for worker in workers):
                shutdown.check()
                while queue and len(workers) < self.workers:
                    workers.append(_Worker())
                for worker in workers:
                    if worker.spec is None and queue:
                        worker.submit(queue.popleft())
                ready = wait([w.connection for w in workers if w.spec], timeout=_POLL_SECONDS)
                for worker in [w for w in workers if w.connection in ready]:
                    spec = worker.spec
                    assert spec is not None
                    results = worker.results()
                    if results is not None:
                        yield from results
                        continue
                    workers.remove(worker)
                    attempts[spec.number] = attempts.get(spec.number, 0) + 1
                    yield from retry_or_fail(
                        spec, worker.describe_exit(), attempts[spec.number], queue, listener
                    )
        except Interrupted:
            yield from _terminate(workers)
            raise
        finally:
            for worker in workers:
                worker.shut_down()


def longest_first(specs: Sequence[JobSpec]) -> "deque[JobSpec]":
    """Return the jobs in the order in which the last one to end ends soonest."""
    return deque(sorted(specs, key=lambda spec: -spec.job.epochs))


def failed_results(spec: JobSpec, reason: str) -> Iterator[TrialResult]:
    """Yield a FAILED result for each trial of a job that is given up."""
    for trial in spec.job.trials:
        yield TrialResult(sha256=trial.sha256, state=FAILED, reason=reason)


def retry_or_fail(
    spec: JobSpec, cause: str, attempts: int, queue: "deque[JobSpec]", listener: "ProgressListener"
) -> Iterator[TrialResult]:
    """Queue the job of a lost worker again, or give it up after `ATTEMPTS`."""
    if attempts < ATTEMPTS:
        listener.warning(f"the worker of job {spec.number} {cause}; another worker resumes it")
        queue.append(spec)
        return
    yield from failed_results(spec, f"the worker {cause}, {attempts} times in a row")


class _Worker:
    """A process that runs one job after another."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, os.getpid()), name="sweep-worker"
        )
        self.process.start()
        theirs.close()
        self.spec: JobSpec | None = None

    def submit(self, spec: JobSpec) -> None:
        """Send the process its next job."""
        self.spec = spec
        with contextlib.suppress(OSError):  # it has died; that is seen where its results would come
            self.connection.send(spec)

    def results(self) -> list[TrialResult] | None:
        """Return the results of its job; None if the process has died instead."""
        try:
            results: list[TrialResult] = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.spec = None
        return results

    def describe_exit(self) -> str:
        """Describe how a process that has died did so."""
        self.process.join(ENDING_SECONDS)
        code = self.process.exitcode
        return (
            f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with status {code}"
        )

    def shut_down(self) -> None:
        """Let an idle process end, and terminate any other."""
        self.connection.close()
        if self.spec is not None:
            self.process.terminate()
        self.process.join(ENDING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _terminate(workers: Sequence[_Worker]) -> Iterator[TrialResult]:
    """Have all workers end their runs as KILLED, and yield what they still report."""
    busy = [worker for worker in workers if worker.spec]
    for worker in busy:
        worker.process.terminate()
    deadline = time.monotonic() + ENDING_SECONDS
    for worker in busy:
        if worker.connection.poll(max(0.0, deadline - time.monotonic())):
            yield from worker.results() or ()


def _work(connection: Connection, parent: int) -> None:
    """Run, as a worker process, jobs from the connection until there are no more."""
    from mlflow_project.common.signals import GracefulShutdown

    threading.Thread(target=_exit_when_orphaned, args=(parent,), daemon=True).start()
    with GracefulShutdown() as shutdown:
        while True:
            try:
                spec: JobSpec = connection.recv()
            except (EOFError, OSError, KeyboardInterrupt):
                bound_exit(0)
                return
            job = JobRunner(spec, WorkerListener(spec), shutdown)
            try:
                job.train()
            except Interrupted as interrupted:
                _send(connection, job.close(0.0))
                raise SystemExit(interrupted.exit_status) from None
            _send(connection, job.close())


def _send(connection: Connection, results: list[TrialResult]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more; the runs have all of it
        connection.send(results)


def _exit_when_orphaned(parent: int) -> None:
    """End a worker whose sweep was killed, orderly: another sweep may want its trials."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
