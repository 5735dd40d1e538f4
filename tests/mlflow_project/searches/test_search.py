"""A search chooses by validation alone, wastes nothing, and ends the same however often it was killed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.searches.request import SearchSpec
from mlflow_project.searches.search import prepare, search
from mlflow_project.sweeps import request
from mlflow_project.training.progress import ProgressListener
from tests.support.sweeps import kill_three_times
from tests.support.tiny import VALIDATION, move, options, weights

SEARCH = ["search", "--lr", "0.01..0.3", "--epochs", "1..3", "--trials", "4", "--budget", "7epochs"]
"""Four trials: one of the first three goes on to 3 epochs, and the budget is spent."""
FIGURES = {"learning_curves", "validation_by_parameter", "importance", "spending"}


def stored(uri: str) -> tuple[list[Any], list[Any]]:
    """The parents and the trials in a store, by the number of the trial."""
    client = MlflowClient(uri, registry_uri=uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    parents = [run_ for run_ in runs if "search_sha256" in run_.data.tags]
    trials = [run_ for run_ in runs if "trial" in run_.data.tags]
    return parents, sorted(trials, key=lambda run_: int(run_.data.tags["trial"]))


def results(uri: str) -> dict[str, tuple[str, ...]]:
    """What has become of each trial: parameters, how far and why no further, weights, accuracies."""
    _, trials = stored(uri)
    shown = ("status", "rung", "reason", "weights_sha256")
    return {
        run_.data.tags["trial"]: (
            run_.data.params["lr"],
            run_.data.params["batch_size"],
            run_.info.status,
            *(run_.data.tags.get(tag, "") for tag in shown),
            str(run_.data.metrics["validation_accuracy"]),
            str(run_.data.metrics.get("test_accuracy")),
        )
        for run_ in trials
    }


def test_the_best_on_validation_is_tested_and_the_others_are_stopped_in_runs_of_their_own(
    tiny: Path,
    store: str,
    tmp_path: Path,
    migrated_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*SEARCH, *options(tiny), "--format", "csv"]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["state"] for row in rows] == ["tested", *["stopped"] * (len(rows) - 1)]
    assert "wins on validation" in err

    (parent,), trials = stored(store)
    client = MlflowClient(store, registry_uri=store)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["epochs_trained"] <= 7
    assert {run_.info.status for run_ in trials} == {"FINISHED"}
    assert {run_.data.tags["mlflow.parentRunId"] for run_ in trials} == {parent.info.run_id}
    tested = [run_ for run_ in trials if "test_accuracy" in run_.data.metrics]
    assert [run_.info.run_id for run_ in tested] == [rows[0]["run_id"]]
    for run_ in trials:
        history = client.get_metric_history(run_.info.run_id, "validation_accuracy")
        assert [point.step for point in history] == list(range(1, int(run_.data.tags["rung"]) + 1))
        if run_ in tested:
            assert (run_.data.tags["status"], run_.data.tags["rung"]) == ("completed", "3")
            assert "reason" not in run_.data.tags
        else:
            assert run_.data.tags["status"] == "stopped"
            assert f"after {run_.data.tags['rung']} epoch" in run_.data.tags["reason"]
            assert not client.list_artifacts(run_.info.run_id)
    (version,) = client.search_model_versions()
    assert version.run_id == tested[0].info.run_id
    assert parent.data.tags["winner"] == tested[0].info.run_name

    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {f"{stem}.png" for stem in FIGURES} | {"report.html"} <= files
    tables = {file.path for file in client.list_artifacts(parent.info.run_id, "tables")}
    assert {f"tables/{stem}.csv" for stem in (*FIGURES, "search", "verdict")} == tables

    assert run(["report", "--sweep", parent.info.run_id]) == 0
    assert f"left out: {len(rows) - 1} trials that the search has stopped" in capsys.readouterr().err
    page = Path("report.html").read_text(encoding="utf-8")
    assert "<h2>The search</h2>" in page
    assert "All trials, the best first" in page

    straight = move(tmp_path / "straight", migrated_store, monkeypatch)
    configuration = ["--lr", rows[0]["lr"], "--batch-size", rows[0]["batch_size"], "--epochs", "3"]
    assert run(["train", *configuration, *options(tiny)]) == 0
    assert list(weights(straight).values()) == [tested[0].data.tags["weights_sha256"]]


@pytest.mark.campaign
def test_the_same_search_again_trains_nothing_and_stays_in_its_run(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*SEARCH, *options(tiny)]) == 0
    before = results(store)
    (parent,), _ = stored(store)
    capsys.readouterr()
    assert run([*SEARCH, *options(tiny)]) == 0
    assert "epoch 1/3" not in capsys.readouterr().err
    assert results(store) == before
    (again,), _ = stored(store)
    assert (again.info.run_id, again.info.status) == (parent.info.run_id, "FINISHED")

    # Another search has trials of its own; what this one has stopped stays so, and its checkpoints serve.
    assert run([*SEARCH, "--budget", "20epochs", *options(tiny)]) == 0
    parents, trials = stored(store)
    assert len(parents) == 2
    stopped = [t for t in trials if t.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert len(stopped) == len(before)
    assert "epoch 1/3" not in capsys.readouterr().err.split("trial 4")[0]


def test_finished_configurations_are_used_and_what_diverges_is_reported(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--lr", "0.2", "--epochs", "3", "--no-register", *options(tiny)]) == 0
    capsys.readouterr()
    command = ["search", "--lr", "0.2,0.01,1e30", "--batch-size", "64", "--epochs", "1..3", *options(tiny)]
    assert run([*command, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    rows = {row["lr"]: row for row in json.loads(out)}
    assert rows[0.2]["state"] == "tested, reused"
    assert rows[1e30]["state"] == "failed"
    assert "not a number" in rows[1e30]["reason"] or "nan" in rows[1e30]["reason"]
    assert "lr=0.2 epochs=3" not in [line for line in err.splitlines() if "epoch 1/3" in line]
    client = MlflowClient(store)
    (reused,) = client.search_runs(["1"], "params.lr = '0.2'")
    # It was trained without being registered; among the best, it is now.
    assert reused.info.run_id in {version.run_id for version in client.search_model_versions()}
    (parent,), trials = stored(store)
    assert (parent.data.metrics["trials_reused"], parent.data.metrics["trials_failed"]) == (1, 1)
    assert {t.data.params["lr"]: t.info.status for t in trials} == {"0.01": "FINISHED", "1e+30": "FAILED"}


def test_a_study_of_another_search_space_is_one_line(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ["--study", "study.journal"]
    assert run([*SEARCH, *study, *options(tiny)]) == 0
    capsys.readouterr()
    assert run([*SEARCH, *study, "--lr", "0.1..0.3", *options(tiny)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith("Error: --study study.journal has the search lr=0.01..0.3")
    assert not [line for line in err if "Traceback" in line]


@pytest.mark.campaign
def test_a_stopped_trial_is_completed_by_resuming_it(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*SEARCH, *options(tiny)]) == 0
    stopped = next(t for t in stored(store)[1] if t.data.tags["status"] == "stopped")
    assert run(["train", "--resume", stopped.info.run_id]) == 0
    completed = MlflowClient(store).get_run(stopped.info.run_id)
    assert (completed.data.tags["status"], completed.info.status) == ("completed", "FINISHED")
    assert "test_accuracy" in completed.data.metrics
    straight = move(tmp_path / "straight", migrated_store, monkeypatch)
    configuration = [
        text
        for key in ("lr", "batch_size")
        for text in (f"--{key.replace('_', '-')}", stopped.data.params[key])
    ]
    assert run(["train", *configuration, "--epochs", "3", *options(tiny)]) == 0
    assert list(weights(straight).values()) == [completed.data.tags["weights_sha256"]]


@pytest.mark.process
def test_two_workers_decide_the_same_each_time(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = TrainingConfig(dataset=str(tiny), validation_size=VALIDATION, threads=1)
    for place in (store, "again"):
        uri = store if place == store else move(tmp_path / place, migrated_store, monkeypatch)
        result = search(base, lr="0.01..0.3", epochs="1..3", trials=4, budget="7epochs", workers=2)
        assert result.winner_run_id in {run_.info.run_id for run_ in stored(uri)[1]}
    assert results(store) == results(uri)


@pytest.mark.process
def test_a_search_that_is_killed_three_times_ends_like_one_that_was_not(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*SEARCH, "--epochs", "1..9", "--trials", "9", "--budget", "30epochs", *options(tiny)]
    store = kill_three_times(command, store, lambda name: move(tmp_path / name, migrated_store, monkeypatch))
    assert run(command) == 0
    assert run(["sync"]) == 0
    (parent,), _ = stored(store)
    survived = results(store)

    undisturbed = move(tmp_path / "undisturbed", migrated_store, monkeypatch)
    assert run(command) == 0
    (whole,), _ = stored(undisturbed)
    assert results(undisturbed) == survived
    for tag in ("winner", "verdict"):
        assert parent.data.tags[tag] == whole.data.tags[tag]


@pytest.mark.cluster
def test_a_ray_cluster_searches_as_one_process_does(
    tiny: Path, store: str, tmp_path: Path, migrated_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run([*SEARCH, *options(tiny)]) == 0
    there = move(tmp_path / "ray", migrated_store, monkeypatch)
    assert run([*SEARCH, "--engine", "ray", *options(tiny)]) == 0
    assert results(there) == results(store)


def test_threads_are_divided_for_the_images_at_hand(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_ = np.random.default_rng(0)
    parts = {"train": 120, "test": 30}
    arrays = {
        f"{part}_images": random_.integers(0, 256, (n, 12, 16), dtype=np.uint8) for part, n in parts.items()
    }
    arrays |= {f"{part}_labels": np.arange(n, dtype=np.uint8)[:, None] % 3 for part, n in parts.items()}
    np.savez(tmp_path / "set.npz", **arrays)
    shapes = []
    monkeypatch.setattr(request.inputs, "by_autograd", lambda _, spec: shapes.append(spec.shape))
    base = TrainingConfig(dataset=str(tmp_path / "set.npz"), validation_size=30)
    prepare(SearchSpec.of(base, lr="0.01..0.3", workers=2), ProgressListener())
    assert set(shapes) == {(12, 16)}
