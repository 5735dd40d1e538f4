"""Threads that share a batch, and memory that stays with the process."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


class WorkerPool:
    """The calling thread and helpers for jobs that are each done by one worker, on its share of the cores.

    threads: cores to use; jobs: how many there will usually be. More jobs than workers are taken in turn, by
    whichever worker is free, so that a busy core holds up no other.
    """

    def __init__(self, threads: int, jobs: int) -> None:
        self.num_workers = max(1, min(threads, jobs))
        self._threads = threads
        self._share = threads // self.num_workers
        helpers = self.num_workers - 1
        self._pool = ThreadPoolExecutor(max(1, helpers), thread_name_prefix="step")
        ready = threading.Barrier(self.num_workers)

        def start() -> None:
            torch.get_num_threads()  # PyTorch sets a thread's default at its first use, here, not below
            torch.set_num_threads(self._share)
            ready.wait()

        started = [self._pool.submit(start) for _ in range(helpers)]
        ready.wait()
        for helper in started:
            helper.result()
        torch.set_num_threads(threads)  # the helpers' call also set the default for threads to come

    def map(self, function: Callable[[int], _Result], count: int) -> list[_Result]:
        """Return [function(0), function(1), ...]; what it raises is raised here."""
        turn = itertools.count()
        results: list[_Result | None] = [None] * count

        def work() -> None:
            while (i := next(turn)) < count:
                results[i] = function(i)

        helpers = [self._pool.submit(work) for _ in range(min(self.num_workers, count) - 1)]
        torch.set_num_threads(self._share)
        try:
            work()
        finally:
            torch.set_num_threads(self._threads)
            wait(helpers)
        for helper in helpers:
            helper.result()
        return results  # type: ignore[return-value]


def raise_malloc_threshold() -> None:
    """Let glibc keep what a batch frees for the next one, where page faults would cost a third of a step.

    It raises its thresholds for returning memory to the largest block that it has seen freed, up to 32 MiB.
    """
    torch.empty(31 << 20, dtype=torch.uint8)
