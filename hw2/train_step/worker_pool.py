"""Threads that share a batch, and memory that stays with the process."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


class WorkerPool:
    """The caller and helpers for jobs that are each done by one, on its share of the cores.

    threads: cores to use; jobs: how many there will usually be. More jobs than members are taken in turn, by
    whoever is free, so that a core that somebody else uses holds up nobody.
    """

    def __init__(self, threads: int, jobs: int) -> None:
        self.members = max(1, min(threads, jobs))
        self._threads = threads
        self._share = threads // self.members
        helpers = self.members - 1
        self._pool = ThreadPoolExecutor(max(1, helpers), thread_name_prefix="step")
        ready = threading.Barrier(self.members)

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
        """[function(0), function(1), ...]; what it raises is raised here."""
        turn = itertools.count()
        results: list[_Result | None] = [None] * count

        def work() -> None:
            while (i := next(turn)) < count:
                results[i] = function(i)

        helpers = [self._pool.submit(work) for _ in range(min(self.members, count) - 1)]
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
    """Lets glibc keep what a batch frees for the next one, where page faults would cost a third of a step.

    It raises its thresholds for returning memory to the largest block that it has seen freed, up to 32 MiB.
    """
    torch.empty(31 << 20, dtype=torch.uint8)
