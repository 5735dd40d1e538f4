"""A run that was stopped, or found no room, is marked as that and goes on when it is told to."""

import errno
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.common.names import CHECKPOINT
from mlflow_project.tracking.journal import fsio, local_runs
from mlflow_project.tracking.journal.entities import RunEnded
from mlflow_project.tracking.journal.spool import FileSpool
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.training import inputs
from tests.support.synced import watch_syncs
from tests.support.tiny import FIGURES, full, only_run, options, train_command

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_run_as_killed_and_the_run_goes_on_from_there(
    number: signal.Signals, tiny: Path, store: str, tmp_path: Path
) -> None:
    command = train_command(tiny, lr=0.01, epochs=2000)
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=dict(os.environ), encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        output = ""
        while "epoch    3/2000" not in output:
            line = process.stderr.readline()
            assert line, output
            output += line
        time.sleep(0.1)
        process.send_signal(number)
        output += process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    last = output.splitlines()[-1]
    run = only_run(store)
    assert f"stopped by {number.name}" in last
    assert f"train --resume {run.info.run_id}" in last
    assert Path(last.split("its checkpoint is ")[1].split(";")[0]).is_file()
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "interrupted")


@pytest.fixture
def unfinished(tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run of two epochs whose figures and model found no room on the disk."""
    with monkeypatch.context() as patch:
        patch.setattr(FileSpool, "_copy", full)
        assert main.run(["train", "--epochs", "2", *options(tiny)]) == 1
    return str(only_run(store).info.run_id)


def said_error(capfd: pytest.CaptureFixture[str]) -> str:
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("Error")]
    return error


def test_a_run_whose_model_finds_no_room_has_failed_and_goes_on_when_there_is_some(
    unfinished: str, tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    run = only_run(store)
    assert "No space left on device" in run.data.tags["reason"]
    assert (
        f"free disk space there, and resume with: mlflow-project train --resume {unfinished}"
        in run.data.tags["reason"]
    )
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
    checkpoint = local_runs.find(unfinished).folder / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert main.run(["train", "--resume", unfinished]) == 0
    err = capfd.readouterr().err
    assert re.search(r"Warning: .*checkpoint\.pt is damaged .*; the one before it can serve", err)
    assert f"run {unfinished} resumes at epoch 2, batch 1" in err
    run, client = only_run(store), MlflowClient(store)
    assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
    (version,) = client.search_model_versions(f"name = '{tiny.name}-base-cnn'")
    assert version.run_id == unfinished
    assert {file.path for file in client.list_artifacts(unfinished)} >= {f"{stem}.png" for stem in FIGURES}


def test_the_run_that_mlflow_run_made_for_a_resumption_says_which_one_went_on_and_ends_as_that_one(
    unfinished: str, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store)
    made = client.create_run(client.get_run(unfinished).info.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", made)
    assert main.run(["train", "--resume", unfinished]) == 0
    resumed, other = client.get_run(unfinished), client.get_run(made)
    for run in (resumed, other):
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
    assert resumed.data.tags["resumed_by"] == made
    assert other.data.tags["resumes"] == unfinished


def test_a_run_that_another_process_has_or_finishes_meanwhile_is_left_to_it(
    unfinished: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = local_runs.find(unfinished).folder
    owner = Journal.open(folder)
    assert main.run(["train", "--resume", unfinished]) == 1
    assert "owned by another process" in said_error(capfd)
    load = inputs.load

    def finish(*arguments: Any, **more: Any) -> Any:
        owner.append(RunEnded("FINISHED"))
        owner.close()
        return load(*arguments, **more)

    monkeypatch.setattr(inputs, "load", finish)
    assert main.run(["train", "--resume", unfinished]) == 1
    assert f"run {unfinished} is finished; start a new one" in said_error(capfd)
    assert local_runs.local_run(folder).state == "finished"


@pytest.mark.parametrize("name", ["plan.json", "resumed"])
def test_a_disk_that_is_full_when_a_run_begins_or_goes_on_is_one_line(
    name: str, unfinished: str, tiny: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = fsio.replace

    def full(path: Path, content: bytes, **more: Any) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(path, content, **more)

    monkeypatch.setattr(fsio, "replace", full)
    arguments = ["--resume", unfinished] if name == "resumed" else options(tiny)
    assert main.run(["train", *arguments]) == 1
    assert re.search(rf"{name} can't be written: No space left on device; free disk space", said_error(capfd))


def test_what_a_run_was_to_be_is_on_disk_before_it_begins(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = watch_syncs(monkeypatch)
    assert main.run(["train", "--lr", "1e6", "--batch-size", "2", *options(tiny)]) == 1
    (plan,) = [at for at, (path, size) in enumerate(synced) if path.name.startswith(".plan.json.") and size]
    assert synced[plan + 1][0] == next((Path.cwd() / "state" / "runs").iterdir())
