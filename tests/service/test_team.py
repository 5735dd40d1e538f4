"""A team serves on PostgreSQL with users: who may do what, what is never shown, and all commands on it."""

import base64
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import COMMANDS, run
from tests.service.conftest import ADMIN_PASSWORD
from tests.service.postgres import PASSWORD, Postgres
from tests.service.serving import Serving, family, start
from tests.service.test_serving import assert_fifty_clients_lose_nothing, status
from tests.support.tiny import make_tiny, options, sweep_runs, weights

pytestmark = pytest.mark.database

READER, READER_PASSWORD = "reader", "reads and no more"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def post(serving: Serving, path: str, body: dict[str, Any], user: str = "admin", password: str = "") -> int:
    """The status of the answer to a request of this user."""
    headers = {"Authorization": basic(user, password or ADMIN_PASSWORD), "Content_Type": "application/json"}
    return status(f"{serving.url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), **headers)


@pytest.fixture
def admin(team: Serving, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """The administrator's client; commands of this test are the administrator's, too."""
    return become("admin", ADMIN_PASSWORD, team, monkeypatch)


@pytest.fixture(scope="session")
def reader(team: Serving) -> str:
    """The name of a user who was given nothing."""
    assert post(team, "users/create", {"username": READER, "password": READER_PASSWORD}) == 200
    return READER


def become(user: str, password: str, team: Serving, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    import mlflow

    mlflow.set_tracking_uri(team.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", team.url)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    return MlflowClient(team.url, registry_uri=team.url)


def test_without_a_user_there_is_only_the_health(team: Serving) -> None:
    assert status(f"{team.url}/health") == 200
    for path in ("/", "/api/2.0/mlflow/experiments/search?max_results=1", "/signup"):
        assert status(f"{team.url}{path}") == 401
    assert status(f"{team.url}/", Authorization=basic("admin", "a wrong password")) == 401


def test_sign_up_is_closed(team: Serving, reader: str) -> None:
    body = {"username": "stranger", "password": "a password of one's own"}
    assert (
        status(
            f"{team.url}/api/2.0/mlflow/users/create",
            json.dumps(body).encode(),
            Content_Type="application/json",
        )
        == 401
    )
    assert post(team, "users/create", body, reader, READER_PASSWORD) == 403
    assert status(f"{team.url}/", Authorization=basic(body["username"], body["password"])) == 401


def test_a_reader_reads_and_changes_nothing(
    team: Serving, admin: MlflowClient, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ = admin.create_run(admin.create_experiment("of the administrator"))
    run_id = run_.info.run_id
    (tmp_path / "weights").write_text("trained", encoding="utf-8")
    admin.log_artifact(run_id, str(tmp_path / "weights"), "model")
    admin.create_registered_model("of-the-administrator")
    become(reader, READER_PASSWORD, team, monkeypatch)
    own = MlflowClient(team.url, registry_uri=team.url)
    assert own.get_run(run_id).info.run_id == run_id
    assert [each.path for each in own.list_artifacts(run_id, "model")] == ["model/weights"]
    path = run_.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    address = f"{team.url}/api/2.0/mlflow-artifacts/artifacts/{path}/model/weights"
    allowed = {"Authorization": basic(reader, READER_PASSWORD)}
    assert status(address, **allowed) == 200
    assert status(address, b"changed", "PUT", **allowed) == 403
    assert status(address, None, "DELETE", **allowed) == 403
    version = {"name": "of-the-administrator", "source": run_.info.artifact_uri, "run_id": run_id}
    assert post(team, "model-versions/create", version, reader, READER_PASSWORD) == 403
    metric = {"run_id": run_id, "key": "m", "value": 1, "timestamp": 0, "step": 0}
    assert post(team, "runs/log-metric", metric, reader, READER_PASSWORD) == 403
    (stored,) = (team.folder / "mlartifacts").rglob("weights")
    assert stored.read_text(encoding="utf-8") == "trained"
    assert own.search_model_versions("name = 'of-the-administrator'") == []
    assert own.get_run(run_id).data.metrics == {}


def test_fifty_clients_with_a_user_at_once_lose_nothing(
    team: Serving, admin: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_fifty_clients_lose_nothing(team, monkeypatch)


def test_a_reader_s_own_models_are_refused_in_a_line_and_the_training_is_kept_here(
    team: Serving,
    admin: MlflowClient,
    reader: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import mlflow
    import torch
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "to be read")
    data = make_tiny(tmp_path / "readable")
    assert run(["train", "--lr", "0.3", "--epochs", "1", *options(data)]) == 0
    model = f"{data.name}-base-cnn"
    (version,) = admin.search_model_versions(f"name = '{model}'")
    before = seen(admin, version.run_id, model)
    own = become(reader, READER_PASSWORD, team, monkeypatch)
    capsys.readouterr()
    assert run(["models", "promote", "1", "--name", model]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{reader} lacks the permission EDIT on the registered model" in line
    # A training doesn't die of it: what it logs stays on this machine. But it has failed to track it.
    assert run(["train", "--lr", "0.02", "--epochs", "1", *options(data)]) == 1
    *lines, error = capsys.readouterr().err.splitlines()
    assert error.startswith("Error: nothing of it is in MLflow: ")
    warnings = [line for line in lines if line.startswith("Warning: ")]
    assert len(warnings) == 2
    assert all(f"{reader} lacks the permission EDIT on the experiment" in line for line in warnings)
    assert "log entries not uploaded" in warnings[1]
    example = torch.zeros(2, 2)
    with pytest.raises(MlflowException, match="403"):
        mlflow.pytorch.log_model(
            torch.nn.Linear(2, 1), name="mine", pip_requirements=[], input_example=example.numpy()
        )
    assert own.get_run(version.run_id).info.status == "FINISHED"
    become("admin", ADMIN_PASSWORD, team, monkeypatch)
    assert seen(admin, version.run_id, model) == before


def seen(client: MlflowClient, run_id: str, model: str) -> Any:
    """What a reader might have changed."""
    experiment = client.get_run(run_id).info.experiment_id
    registered = client.get_registered_model(model)
    return (
        [(each.info.run_id, each.info.status) for each in client.search_runs([experiment])],
        [each.model_id for each in client.search_logged_models([experiment])],
        registered.aliases,
        registered.tags,
        [each.version for each in client.search_model_versions(f"name = '{model}'")],
    )


def test_no_password_is_seen_in_what_is_printed_or_by_ps(team: Serving) -> None:
    commands = family(team.process)
    assert any("mlflow server" in command for command in commands.values())
    text = team.out + team.err + "".join(commands.values())
    for secret in (PASSWORD, ADMIN_PASSWORD, Postgres(Path(), 1).url("x").split(":")[2].split("@")[0]):
        assert secret not in text


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_wrong_password_is_one_line_that_does_not_show_it(
    postgres: Postgres, tmp_path: Path, scheme: str
) -> None:
    store = postgres.url("postgres", "n0t/the one", scheme)
    refused = start(tmp_path / "refused", MLFLOW_BACKEND_STORE_URI=store)
    assert refused.process.wait(60) == 1
    (line,) = refused.err.splitlines()
    assert "rejects this user or password" in line
    assert "n0t" not in line
    assert not (refused.folder / "mlartifacts").exists()


def test_a_database_of_another_program_is_left_alone(postgres: Postgres, tmp_path: Path) -> None:
    import sqlalchemy

    store = postgres.create("another")
    engine = sqlalchemy.create_engine(store)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE accounts (id int)"))
    refused = start(tmp_path / "refused", MLFLOW_BACKEND_STORE_URI=store)
    assert refused.process.wait(60) == 1
    assert "aren't MLflow's" in refused.err
    assert sqlalchemy.inspect(engine).get_table_names() == ["accounts"]
    engine.dispose()


class TestOurCommands:
    """What a person does with the service, over HTTP, on PostgreSQL."""

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return make_tiny(tmp_path / "tiny")

    @pytest.fixture
    def experiment(self, admin: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of our commands")
        return "of our commands"

    def test_train_sweep_and_look_up(
        self,
        team: Serving,
        experiment: str,
        data: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        assert run(["train", "--lr", "0.1", "--epochs", "1", *options(data)]) == 0
        grid = ["--lr", "0.05,0.02", "--epochs", "1", "--seeds", "0,1", "--workers", "4"]
        assert run(["sweep", *grid, *options(data)]) == 0  # none is trained yet: four at once
        trained = {f"lr={lr} epochs=1 seed={seed}" for lr in ("0.05", "0.02") for seed in (0, 1)}
        assert {*trained, "lr=0.1 epochs=1 seed=0"} <= set(weights(team.url))
        (parent,), _ = sweep_runs(team.url)
        assert parent.status == "FINISHED"
        capsys.readouterr()
        model = f"{data.name}-base-cnn"
        assert (
            run(["models", "find", "--lr", "0.05", "--epochs", "1", "--name", model, "--format", "json"]) == 0
        )
        rows_ = json.loads(capsys.readouterr().out)
        assert sorted(row["seed"] for row in rows_) == ["0", "1"]
        assert run(["models", "verify", "--all", "--format", "json"]) == 0
        assert {row["result"] for row in json.loads(capsys.readouterr().out)} == {"verified"}
        if "compare" in COMMANDS:
            names = [str(row["version"]) for row in rows_]
            assert run(["compare", "--models", ",".join(names), "--name", model]) == 0
        capsys.readouterr()
        because = "причина " * 125  # as long as a reason may be, in letters that JSON may write as six each
        assert run(["models", "promote", "--best", "--name", model]) == 0
        assert run(["models", "promote", "1", "--alias", "staging", "--name", model]) == 0
        second = ["models", "promote", "2", "--alias", "staging", "--reason", because, "--name", model]
        assert run(second) == 0
        capsys.readouterr()
        assert run(["models", "history", "--alias", "staging", "--name", model, "--format", "json"]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [(row["from"], row["to"]) for row in rows] == [(None, 1), (1, 2)]
        assert [row["who"].partition("@")[0] for row in rows] == ["admin", "admin"]
        assert because.strip() in rows[1]["why"]


def test_the_main_job_runs_straight_on_postgresql(
    postgres: Postgres,
    team: Serving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import mlflow

    store = postgres.url("team")
    mlflow.set_tracking_uri(store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "straight")
    assert (
        run(
            ["train", "--lr", "0.1", "--epochs", "1", "--no-register", *options(make_tiny(tmp_path / "tiny"))]
        )
        == 0
    )
    output = "".join(capsys.readouterr())
    assert PASSWORD not in output
    assert store.split(":")[2].split("@")[0] not in output
    with urllib.request.urlopen(f"{team.url}/health") as answer:
        assert answer.status == 200
