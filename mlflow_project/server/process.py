"""The tracking server, artifact store and registry as one process that is watched over.

The server itself is MLflow's; what is ours is that it starts only on a store that fits, is closed to strangers,
says when it is ready and where, never shows a password, and ends gracefully.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mlflow_project.common.errors import StoreError
from mlflow_project.common.store_uri import STORE_VARIABLE, scrub, secrets
from mlflow_project.server import auth
from mlflow_project.server import store as server_store
from mlflow_project.server.settings import ServerSettings, format_host

READY_SECONDS = 300
"""MLflow needs 5 to 25 s; a busy machine several times that."""
GRACE_SECONDS = 20
"""How long requests that are at work may take once the server is terminated."""
# What MLflow prints at every start, and what our own lines tell better.
_NOISE = re.compile(
    r"Security middleware enabled|Registry store URI not provided|store URI not provided"
    r"|This feature is still experimental|Created admin user"
)
# A worker answers 40 requests at a time, and some need two connections. With fewer (MLflow's default is 15) they wait
# for each other until a time-out, and values are refused with status 400. Runs, models and users have a
# pool each: what 40 requests take and what the pools keep is 110 at most. PostgreSQL takes 97 connections as shipped.
_POOL = {"MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "10", "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "75"}
_PR_SET_PDEATHSIG = 1


class Server:
    """A running server. As a context it ends the server and all that it has started."""

    def __init__(self, settings: ServerSettings, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.generated_password: str | None = None
        self._say = say
        self._last: deque[str] = deque(maxlen=40)
        self._secrets: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._cleanup = ExitStack()
        self._stopping = False

    def __enter__(self) -> Self:
        try:
            self._start(
                Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mlflow-project-")))
            )
        except BaseException as error:
            self._cleanup.close()
            if isinstance(error, OSError):
                what = error.filename or "its private folder"
                raise StoreError(
                    f"the server can't be started: {what}: {error.strerror or error}; free disk space there, or name "
                    "another folder for temporary files in TMPDIR"
                ) from error
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._cleanup.close()

    def _start(self, private: Path) -> None:
        settings = self.settings
        settings.check()
        # Everything that may be rejected comes before anything is created.
        store = server_store.validate_uri(settings.store)
        server_store.is_initialized(store)
        environment = _environment(settings, store)
        self._secrets = secrets(store)
        if settings.auth:
            authentication = auth.prepare(store, settings.password_file, private)
            environment |= authentication.environment
            self.generated_password = authentication.generated
            self._secrets += authentication.secrets
            if authentication.mismatched_source is not None:
                self._say(
                    f"Warning: {auth.ADMINISTRATOR} has another password than {authentication.mismatched_source} says, "
                    "which is read at the first start alone; change it with MLflow's update_user_password"
                )
        place = settings.artifact_place
        if "://" not in place:
            try:
                Path(place).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"the artifact folder {place} can't be created: {error.strerror}") from error
        server_store.prepare(settings.store)
        self._process = subprocess.Popen(
            _command(settings, place),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process alone, which then asks the server to end.
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._pass_on, args=(self._process.stdout,), daemon=True)
        self._reader.start()

    def is_ready(self) -> bool:
        """Return whether the server answers.

        Raises:
            StoreError: It has ended instead.
        """
        self.check_alive()
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)
        try:
            url = f"http://{format_host(host)}:{self.settings.port}/health"
            # No proxy: it would look for the address on its own machine.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def check_alive(self) -> None:
        """Check that the server runs.

        Raises:
            StoreError: It has ended by itself; with its last line.
        """
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            if self._reader is not None:
                self._reader.join(5)
            last = next((line for line in reversed(self._last) if line.strip()), "it printed nothing")
            raise StoreError(f"the server ended by itself with status {status}: {last.strip()}")

    def wait_until_ready(self, check: Callable[[], None]) -> None:
        """Wait until the server answers; `check` is called all the while and may raise."""
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            check()
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the server didn't answer within {READY_SECONDS} s; look at what it printed above"
                )
            time.sleep(0.2)

    def wait(self, check: Callable[[], None]) -> None:
        """Wait until `check` raises or the server has ended by itself."""
        while True:
            check()
            self.check_alive()
            time.sleep(0.2)

    def stop(self) -> None:
        """Give open requests a bounded time to finish, then end all processes of the server."""
        process = self._process
        if process is None:
            return
        self._stopping = True
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS + 5)
        _kill_session(process.pid)
        process.wait()
        if self._reader is not None:
            self._reader.join(5)

    def _pass_on(self, output: IO[bytes]) -> None:
        for raw in output:
            line = scrub(raw.decode(errors="replace").rstrip(), also=self._secrets)
            self._last.append(line)
            if line and not self._stopping and not _NOISE.search(line):
                self._say(line)
        output.close()


def _environment(settings: ServerSettings, store: str) -> dict[str, str]:
    """Return the environment of the server's process, with addresses and passwords, since `ps` shows arguments."""
    # Of a client's settings none may turn the server into its own client, or a run's process.
    unwanted = re.compile(
        r"MLFLOW_(TRACKING_|RUN_ID|EXPERIMENT_|AUTH_|REGISTRY_|DEFAULT_ARTIFACT_ROOT|SERVER_|WORKERS|HOST|PORT)"
    )
    environment = {key: value for key, value in os.environ.items() if not unwanted.match(key)}
    environment |= {
        STORE_VARIABLE: store,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
    }
    for name, value in {**_POOL, "PGCONNECT_TIMEOUT": str(2 * server_store.CONNECT_SECONDS)}.items():
        environment.setdefault(name, value)
    hosts = settings.hosts()
    if hosts is not None:
        environment["MLFLOW_SERVER_ALLOWED_HOSTS"] = hosts
        # Our own name is no foreign origin, also behind a proxy with TLS.
        names = [name for name in hosts.split(",") if not name.endswith(":*")]
        environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = ",".join(
            f"{scheme}://{name}" for scheme in ("http", "https") for name in names
        )
    return environment


def _command(settings: ServerSettings, artifacts: str) -> list[str]:
    level = "info" if settings.access_log else "warning"
    command = [sys.executable, "-m", "mlflow", "server"]
    command += ["--host", settings.host, "--port", str(settings.port)]
    command += ["--workers", str(settings.workers), "--artifacts-destination", artifacts]
    command += ["--uvicorn-opts", f"--log-level {level} --timeout-graceful-shutdown {GRACE_SECONDS}"]
    if settings.auth:
        command += ["--app-name", "basic-auth"]
    return command


def _end_with_parent() -> None:
    """Have the kernel send the server SIGTERM when this process dies, also by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _kill_session(group: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
