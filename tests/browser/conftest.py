"""Five runs over the embedded sample, a real tracking server on them, and a browser: once for all tests here."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.browser.page import Page, missing, opened
from tests.faults.server import tracking_server

SWEEP = ["sweep", "--lr", "0.1,0.01", "--epochs", "1,2", "--dataset", "mnist", "--threads", "1"]
ONE_MORE = ["train", "--lr", "0.05", "--epochs", "2", "--dataset", "mnist", "--threads", "1"]
SWEPT = ("lr=0.1 epochs=1", "lr=0.1 epochs=2", "lr=0.01 epochs=1", "lr=0.01 epochs=2")
NAMES = (*SWEPT, "lr=0.05 epochs=2")
MODEL = "mnist-base-cnn"


@dataclass(frozen=True)
class Site:
    """A server that has the sweep's runs and models."""

    address: str
    experiment_id: str
    run_ids: tuple[str, ...]  # in the order of NAMES


@pytest.fixture(scope="session")
def site(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    from mlflow import MlflowClient

    from mlflow_project.cli.main import run

    folder = tmp_path_factory.mktemp("site")
    with tracking_server(folder / "server", migrated_store) as port, pytest.MonkeyPatch.context() as patch:
        address = f"http://127.0.0.1:{port}"
        patch.chdir(folder)
        patch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # no full data there: the sample
        patch.setenv("MLFLOW_TRACKING_URI", address)
        assert run(ONE_MORE) == 0
        assert run(SWEEP) == 0
        assert run(["models", "promote", "--best"]) == 0
        client = MlflowClient(address, registry_uri=address)
        experiment = client.get_experiment_by_name("mnist-base-cnn")
        assert experiment is not None
        ids = {r.info.run_name: r.info.run_id for r in client.search_runs([experiment.experiment_id])}
        yield Site(address, experiment.experiment_id, tuple(ids[name] for name in NAMES))
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(
    site: Site, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """One browser: each start costs seconds, and every page is opened anew."""
    shots = pytestconfig.getoption("--screenshots", None) or tmp_path_factory.mktemp("screenshots")
    with opened(site.address, Path(shots).absolute()) as page:
        yield page
