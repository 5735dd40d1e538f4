"""What a program has logged is in the store as if the program had logged there itself."""

import shutil
from pathlib import Path

import mlflow
import pytest

from tests.mlflow_project.tracking.plugin.programs import log_everything, runs_in
from tests.support.durable import deliver_all, end_program, sync_to


@pytest.fixture
def plain(store: str, tmp_path: Path) -> dict[str, dict[str, object]]:
    """What the program logs into a store without us."""
    own = tmp_path / "plain"
    own.mkdir()
    shutil.copyfile(tmp_path / "mlflow.db", own / "mlflow.db")
    uri = f"sqlite:///{own}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(own)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        log_everything(own / "made")
        mlflow.tracking.fluent._active_experiment_id = None
        patch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
        return runs_in(uri)


def test_with_a_store(plain: dict[str, dict[str, object]], durable: str, store: str, tmp_path: Path) -> None:
    log_everything(tmp_path / "made")
    deliver_all()
    assert runs_in(store) == plain
    assert mlflow.MlflowClient(store, store).get_model_version("doubling", "1").status == "READY"


def test_without_a_server(plain: dict[str, dict[str, object]], away: str, store: str, tmp_path: Path) -> None:
    log_everything(tmp_path / "made")
    end_program()
    sync_to(store)
    assert runs_in(store) == plain
    client = mlflow.MlflowClient(store, store)
    (version,) = client.search_model_versions("name = 'doubling'")
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert (version.version, version.run_id) == (1, model.source_run_id)
    assert model.tags["mlflow.modelVersions"] == '[{"name": "doubling", "version": "1"}]'
