"""The jobs of a sweep on a Ray cluster, each in a process that Ray schedules.

Machines of a cluster must share the data, the state folder (`MLFLOW_PROJECT_STATE`) and the tracking store: a
job whose worker or machine is lost goes on elsewhere from the checkpoint in that folder.
"""

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import Interrupted, ServiceError, SweepError, UsageError
from mlflow_project.common.store_uri import absolute_uri, tracking_uri
from mlflow_project.common.text import first_line
from mlflow_project.sweeps.executors import ENDING_SECONDS, failed_results, longest_first, retry_or_fail
from mlflow_project.sweeps.job_runner import JobRunner, WorkerListener
from mlflow_project.sweeps.job_spec import JobSpec, TrialResult
from mlflow_project.tracking.journal.state_dir import state_dir

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.progress import ProgressListener

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 5.0
# What each gRPC server, as Ray's is, answers with settings of its own: the preface of HTTP/2 and empty settings.
_HTTP2_SETTINGS = b"\x04"
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + b"\0\0\0\0\0"
_OURS = ("MLFLOW_", "AWS_", "OMP_", "TORCH_", "XDG_", "HW2_")


class RayExecutor:
    """An existing cluster by its address, else one on this machine, with so many jobs at a time."""

    def __init__(self, workers: int, address: str | None) -> None:
        self.workers = workers
        self.address = address

    def run(
        self, specs: Sequence[JobSpec], listener: "ProgressListener", shutdown: "GracefulShutdown"
    ) -> Iterator[TrialResult]:
        """See `Executor`."""
        ray = _import()
        queue = specs if isinstance(specs, deque) else longest_first(specs)
        attempts: dict[int, int] = {}
        running: dict[Any, JobSpec] = {}
        begun = not ray.is_initialized()
        if begun:
            try:
                self._connect(ray)
            except SystemExit as error:  # what Ray's own handler of SIGTERM makes of it
                raise Interrupted(signal.SIGTERM) from error
            finally:
                shutdown.reinstall()
        try:
            while queue or running:
                shutdown.check()
                while queue and len(running) < self.workers:
                    spec = queue.popleft()
                    running[self._remote(ray, spec).remote(spec)] = spec
                ready, _ = ray.wait(list(running), timeout=_POLL_SECONDS)
                for reference in ready:
                    spec = running.pop(reference)
                    try:
                        results: list[TrialResult] = ray.get(reference)
                    except ray.exceptions.RayTaskError as error:
                        # Raised by our own code there: it would be raised again.
                        yield from failed_results(
                            spec, f"{type(error.cause).__name__}: {first_line(error.cause)}"
                        )
                    except ray.exceptions.RayError as error:
                        attempts[spec.number] = attempts.get(spec.number, 0) + 1
                        cause = f"was lost ({type(error).__name__}: {first_line(error)})"
                        yield from retry_or_fail(spec, cause, attempts[spec.number], queue, listener)
                    else:
                        yield from results
        except Interrupted:
            for reference in running:
                ray.cancel(reference)
            ready = (
                ray.wait(list(running), num_returns=len(running), timeout=ENDING_SECONDS)[0]
                if running
                else []
            )
            for reference in ready:
                with contextlib.suppress(ray.exceptions.RayError):
                    yield from ray.get(reference)
            raise
        finally:
            if begun:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        environment = {key: value for key, value in os.environ.items() if key.startswith(_OURS)}
        environment.pop("MLFLOW_RUN_ID", None)
        environment |= {
            "MLFLOW_TRACKING_URI": absolute_uri(tracking_uri()),
            "MLFLOW_PROJECT_STATE": str(state_dir()),
        }
        # The code that runs here, not another that may be installed: its SHA-256 is part of every configuration.
        code = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (code, os.environ.get("PYTHONPATH"))))
        options: dict[str, Any] = {
            "address": self.address or "local",
            "runtime_env": {"env_vars": environment},
            "log_to_driver": True,
            "logging_level": "error",
        }
        if self.address is None:
            options |= {"include_dashboard": False, "num_cpus": max(self.workers, os.cpu_count() or 1)}
        try:
            ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _unreachable(self.address or "this machine", first_line(error)) from error

    def _remote(self, ray: Any, spec: JobSpec) -> Any:
        config = spec.job.trials[-1].config
        gpus = ray.cluster_resources().get("GPU", 0) if config.device != "cpu" else 0
        return ray.remote(_work).options(
            num_cpus=min(config.threads or 1, ray.cluster_resources().get("CPU", 1)),
            num_gpus=_gpus(gpus, self.workers),
            max_retries=0,  # our own attempts are counted, and reported
        )


def require_cluster(address: str | None) -> None:
    """Raise, within seconds and in one line, where Ray is missing or no cluster answers at `address`.

    Ray itself tries an unreachable cluster for ten minutes and more.
    """
    _require_ray()
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _read_current_cluster()
    if address is None or address in ("auto", "local"):
        return
    place = address.removeprefix("ray://")
    host, _, port = place.rpartition(":") if ":" in place else (place, "", "10001")
    if not port.isdecimal():
        raise UsageError(f"--address is {address!r}; it must be HOST:PORT, ray://HOST:PORT or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS) as connection:
            if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
                connection.settimeout(_ANSWER_SECONDS)
                connection.sendall(_HTTP2_GREETING)
                answer = connection.recv(9)
                if answer[3:4] != _HTTP2_SETTINGS:
                    raise _unreachable(address, "something else answers there")
    except (OSError, OverflowError) as error:
        raise _unreachable(address, getattr(error, "strerror", None) or str(error)) from error


def _unreachable(where: str, reason: str) -> SweepError:
    return SweepError(
        f"no Ray cluster answers at {where} ({reason}); "
        "start one with `ray start --head`, or leave --address out"
    )


def _read_current_cluster() -> str | None:
    """Return the address that `ray start` has left for `auto`."""
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray", "ray_current_cluster")
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None  # Ray looks among the processes then


def _gpus(gpus: float, workers: int) -> float:
    """Each worker's share; Ray takes a part of one GPU, or whole ones."""
    share = gpus / workers
    return share if share < 1 else int(share)


def _work(spec: JobSpec) -> list[TrialResult]:
    """What a Ray worker does."""
    from mlflow_project.common.signals import GracefulShutdown

    with GracefulShutdown() as shutdown:
        job = JobRunner(spec, WorkerListener(spec), shutdown)
        try:
            job.train()
        except Interrupted:
            return job.close(0.0)
        return job.close()


def _import() -> Any:
    # Read when Ray is imported; a person's trainings are nobody else's business.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Each worker's epochs look alike to Ray, which would show one of them and count the others.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    _require_ray()
    import ray

    return ray


def _require_ray() -> None:
    if find_spec("ray") is None:
        raise ServiceError("Ray isn't installed; add it, in the project's folder, with: pip install '.[ray]'")
