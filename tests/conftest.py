"""What every test has: a folder, a tracking store and a state of its own, and no way to the network."""

import errno
import ipaddress
import os
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
LACKING = ("no GPU", "this processor doesn't compute in bfloat16")
IN_CI = os.environ.get("CI") == "true"

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported

# Where this was started with interrupts ignored, as in the background of a script, so would be all that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would make a property fail where the machine is busy.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")


def _stay_on_this_machine(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse, as an unreachable network would, what is neither loopback nor a private address."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
        if host in (None, "", b"", "localhost", socket.gethostname()):
            return
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    try:
        outside = ipaddress.ip_address(host.partition("%")[0]).is_global
    except ValueError:
        outside = host not in ("", "localhost")
    if outside:
        raise OSError(errno.ENETUNREACH, f"tests stay on this machine, but one tried to reach {host}")


sys.addaudithook(_stay_on_this_machine)


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, since a conftest.py further down is read too late for an option of a bare `pytest`.
    parser.addoption("--screenshots", type=Path, help="folder for what the browser tests have seen")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than this machine has cores, since a test that waits for a delivery or a process needs none."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


@pytest.fixture(scope="session")
def migrated_store(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store with MLflow's tables and no run, kept between sessions: making one takes seconds."""
    from tests.support.shared import locked

    cache = pytestconfig.cache
    folder = cache.mkdir("mlflow-store") if cache is not None else tmp_path_factory.mktemp("store")
    saved = folder / f"{version('mlflow')}-{version('sqlalchemy')}.db"
    with locked(folder / "lock"):
        if not saved.exists():
            from mlflow.tracking import MlflowClient

            fresh = tmp_path_factory.mktemp("fresh-store") / "mlflow.db"
            client = MlflowClient(f"sqlite:///{fresh}", registry_uri=f"sqlite:///{fresh}")
            client.search_experiments()
            client.search_registered_models()
            part = folder / f"{os.getpid()}.part"
            shutil.copyfile(fresh, part)
            part.replace(saved)
    return saved


@pytest.fixture
def store(migrated_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set MLflow's tracking URI to a store of this test's own, and end afterwards what is still active."""
    database = tmp_path / "mlflow.db"
    shutil.copyfile(migrated_store, database)
    connection = sqlite3.connect(database)
    with connection:  # the default experiment remembers the folder in which the store was made
        connection.execute("UPDATE experiments SET artifact_location = ?", (f"{tmp_path}/mlruns/0",))
    connection.close()
    uri = f"sqlite:///{database}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    yield uri
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None:
        while mlflow.active_run():
            mlflow.end_run()
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
        mlflow.tracking.fluent._active_experiment_id = None


@pytest.fixture(autouse=True)
def own_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in an empty folder. Those of hw2 get no store: they need no MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    if not request.path.is_relative_to(ROOT / "tests" / "hw2"):
        request.getfixturevalue("store")


@pytest.fixture(scope="session")
def full_data() -> Path:
    """The folder of the full data sets, or a skip where it isn't there."""
    folder = Path(os.environ.get("HW2_DATA_DIR") or ROOT.parent / "shared" / "data").resolve()
    if not (folder / "MNIST" / "raw").is_dir():
        pytest.skip(f"no full data: {folder}/MNIST/raw is not there; name its folder in HW2_DATA_DIR")
    return folder


def _told(report: Any) -> Any:
    """In CI a skip is a failure, but for what no installation brings: a test that never runs guards nothing."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(LACKING):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return _told((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return _told((yield))
