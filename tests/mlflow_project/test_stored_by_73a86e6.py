"""What commit 73a86e6 stored is listed, verified, loaded, compared, delivered and gone on with."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import list_artifacts
from mlflow.entities import Run

from mlflow_project.cli.main import run
from tests.support.unpacked import golden, unpack

EXPECTED = golden("expected.json")


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the store and the two state folders."""
    unpack(tmp_path / "stored", monkeypatch)
    return tmp_path / "stored"


@pytest.fixture
def client(stored: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{stored}/store/mlflow.db")


def answer(capsys: pytest.CaptureFixture[str], *command: str) -> Any:
    """What a command prints as JSON."""
    assert run([*command, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("stored")
def test_the_registered_models_are_listed_shown_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    versions = [{k: v for k, v in row.items() if k != "model"} for row in answer(capsys, "models", "list")]
    assert versions == EXPECTED["versions"]  # the column with the name is newer
    (shown,), (champion,) = answer(capsys, "models", "show", "champion"), EXPECTED["champion"]
    assert {
        key: shown[key] for key in champion
    } == champion  # newer: what its run says of optimizer and precision
    (change,) = answer(capsys, "models", "history")
    (expected,) = EXPECTED["history"]
    for key in ("when", "who", "alias", "from", "to"):
        assert change[key] == expected[key]
    assert "weights verified" in change["why"]
    assert "made for a fixture" in change["why"]
    verified = answer(capsys, "models", "verify", "--all")
    assert [row["result"] for row in verified] == ["verified"] * 3
    assert {row["model"] for row in verified} == {"mnist-base-cnn", "mnist-small-net"}


def test_a_changed_file_of_a_registered_model_is_noticed(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for weights in stored.glob("store/mlruns/*/models/*/artifacts/extra_files/weights.pt"):
        weights.write_bytes(weights.read_bytes()[:-1])
    assert run(["models", "verify", "champion"]) == 1
    assert "is not what was registered" in capsys.readouterr().out


def test_the_champion_answers_as_it_did(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [str(stored / "store" / f"{name}.png") for name in ("digit", "garment")]
    for row, expected in zip(answer(capsys, "predict", *images), EXPECTED["images"], strict=True):
        assert (row["label"], row["not_a_digit"]) == (expected["label"], expected["not_a_digit"])
        # Another processor adds up in another order.
        for key in ("probability", "outlier_score"):
            assert row[key] == pytest.approx(expected[key], rel=1e-3)


def test_a_net_of_ones_own_answers_from_its_stored_text(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--name", "mnist-small-net", "--model", "lr=0.05 epochs=1"]
    (row,) = answer(capsys, "predict", str(stored / "store" / "digit.png"), *model)
    assert row["label"] == EXPECTED["images"][0]["label"]


def test_the_runs_are_compared_as_they_were(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    result, expected = answer(capsys, "compare"), EXPECTED["compared"]
    for table, keys in (
        ("accuracy", ("model", "right", "accuracy", "low", "high", "train_seconds", "model_size_bytes")),
        ("pairs", ("first", "second", "only_first_right", "only_second_right", "p_holm", "better")),
    ):
        for row, before in zip(result[table], expected[table], strict=True):
            for key in keys:
                assert row[key] == pytest.approx(before[key]), key
    (parent,) = client.search_runs(["1"], "tags.sweep_sha256 != ''")
    swept = answer(capsys, "compare", "--sweep", parent.info.run_id)
    assert {row["model"] for row in swept["accuracy"]} == {
        row["model"] for row in expected["accuracy"] if "model=small-net" in row["model"]
    }


@pytest.mark.usefixtures("stored")
def test_a_report_is_made_of_the_champion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.html"
    assert run(["report", "--models", "champion", "--output", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    assert EXPECTED["champion"][0]["run_id"] in text
    assert "mnist-sample" in text
    assert text.count("data:image/png") >= 5


def artifacts(uri: str, run_id: str, path: str | None = None) -> set[str]:
    """Every artifact of a run, without the time and the id in an image's name."""
    result = set()
    for file in list_artifacts(run_id=run_id, artifact_path=path, tracking_uri=uri):
        if file.is_dir:
            result |= artifacts(uri, run_id, file.path)
        else:
            result.add(re.sub(r"timestamp.*?(?=\.|\+comp)", "TIME", file.path))
    return result


def local(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What `status` lists, but for the killed run, which is a stranger to this state folder."""
    (killed,) = EXPECTED["status"]
    return [row for row in answer(capsys, "status") if row["run_id"] != killed["run_id"]]


def losses(client: MlflowClient, run: Run) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "batch_loss")]


def test_a_journal_that_no_server_had_is_delivered_completely(
    stored: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{stored}/store/mlflow.db"
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(stored / "undelivered"))
    (before,) = local(capsys)
    assert (before["state"], before["pending"]) == ("finished", 66)
    (row,) = answer(capsys, "sync")
    assert (row["delivered"], row["pending"], row["problem"]) == (66, 0, None)
    assert local(capsys) == []
    assert answer(capsys, "sync") == []
    first = client.get_run(EXPECTED["champion"][0]["run_id"])
    second = client.get_run(row["run_id"])
    assert (second.info.status, second.data.tags["status"]) == ("FINISHED", "completed")
    assert second.data.params == first.data.params
    assert second.data.tags.keys() == first.data.tags.keys()
    assert second.data.tags["weights_sha256"] == first.data.tags["weights_sha256"]
    assert second.data.metrics.keys() == first.data.metrics.keys()
    assert second.data.metrics["test_accuracy"] == first.data.metrics["test_accuracy"]
    assert losses(client, second) == losses(client, first) != []
    assert len(second.inputs.dataset_inputs) == len(first.inputs.dataset_inputs) == 3
    assert artifacts(uri, second.info.run_id) == artifacts(uri, first.info.run_id)
    version = client.get_model_version("mnist-base-cnn", "2")
    assert version.run_id == second.info.run_id
    assert answer(capsys, "models", "verify", "2")[0]["result"] == "verified"


def test_a_killed_run_is_listed_and_goes_on_or_is_refused_in_one_line(
    stored: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(stored / "killed"))
    (expected,) = EXPECTED["status"]
    run_id = expected["run_id"]
    (row,) = answer(capsys, "status")
    for key in ("run", "run_id", "state", "pending"):
        assert row[key] == expected[key]
    assert f"train --resume {run_id}" in row["action"]
    status = run(["train", "--resume", run_id])
    err = capsys.readouterr().err
    resumed = client.get_run(run_id)
    if status == 0:
        assert f"run {run_id} resumes at epoch 2, batch 1" in err
        assert (resumed.info.status, resumed.data.tags["status"]) == ("FINISHED", "completed")
        points = client.get_metric_history(run_id, "train_loss")
        assert [point.step for point in points] == [1, 2, 3]
    else:
        assert status == 1
        (line,) = err.splitlines()
        assert line.startswith(f"Error: run {run_id} has fingerprint ")
        assert resumed.info.status == "RUNNING"
        assert run(["status", "--repair"]) == 0
        assert client.get_run(run_id).info.status == "KILLED"
