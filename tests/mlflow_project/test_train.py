"""`train`: every name that people compare by is in the run, and what can't be trained is said in one line."""

import dataclasses
import errno
import gzip
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from hw2 import catalogue
from mlflow_project import cli, journal_file, pictures, state
from mlflow_project.journal import Journal
from mlflow_project.kept_files import KeptFiles
from mlflow_project.runs import CHECKPOINT
from mlflow_project.values import RunEnd
from tests.mlflow_project.synced import watch_syncs
from tests.mlflow_project.tiny import TEST, TRAIN, VALIDATION, make_tiny, options

PARAMETERS = {
    "lr",
    "epochs",
    "batch_size",
    "optimizer",
    "momentum",
    "seed",
    "dataset",
    "validation_size",
    "precision",
    "device",
    "threads",
}
EPOCH_METRICS = {
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "epoch_seconds",
    "images_per_second",
}
FINAL_METRICS = {
    "train_seconds",
    "test_seconds",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_loss",
    "test_calibration_error",
    "model_size_bytes",
    "outlier_auroc",
    "outlier_rejected",
    "test_rejected",
}
FIGURES = {
    "loss_curve",
    "confusion_matrix",
    "outlier_predictions",
    "dataset_examples",
    "reliability",
    "outlier_scores",
}
TAGS = {
    "status",
    "configuration_sha256",
    "fingerprint",
    "dataset_sha256",
    "code_sha256",
    "weights_sha256",
    "precision_used",
    "device_used",
    "host",
    "resumed",
}
VERSION_TAGS = ["lr", "epochs", "seed", "test_accuracy", "weights_sha256", "dataset_sha256", "fingerprint"]
PREDICTION_COLUMNS = [
    "index",
    "label",
    "predicted",
    *(f"logit_{d}" for d in range(10)),
    "outlier_score",
    "rejected",
]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny(tmp_path / "tiny")


def only_run(store: str) -> Run:
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("mnist-base-cnn")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


class TestARun:
    """One training on tiny pictures, looked at from every side."""

    def test_it_has_every_name_of_the_contract(self, tiny: Path, store: str, tmp_path: Path) -> None:
        import pandas as pd

        assert cli.run(["train", "--lr", "0.05", "--epochs", "3", "--batch-size", "8", *options(tiny)]) == 0
        run, client = only_run(store), MlflowClient(store)
        assert (run.info.status, run.info.run_name) == (
            "FINISHED",
            f"lr=0.05 epochs=3 batch_size=8 dataset={tiny}",
        )
        assert set(run.data.params) == PARAMETERS
        assert (run.data.params["lr"], run.data.params["epochs"]) == ("0.05", "3")
        assert set(run.data.tags) >= TAGS
        assert (run.data.tags["status"], run.data.tags["resumed"]) == ("completed", "0")
        assert set(run.data.metrics) == {*EPOCH_METRICS, "batch_loss", *FINAL_METRICS}
        for name in EPOCH_METRICS:
            assert [p.step for p in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3], name
        assert [p.step for p in client.get_metric_history(run.info.run_id, "batch_loss")] == [50, 100, 150]
        for name in FINAL_METRICS:
            assert len(client.get_metric_history(run.info.run_id, name)) == 1, name

        folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        assert {p.name for p in folder.glob("*.png")} == {f"{stem}.png" for stem in FIGURES}
        assert {p.name for p in (folder / "tables").iterdir()} == {f"{stem}.csv" for stem in FIGURES}
        # 144,266 weights of 4 bytes are 563.5 KiB, and the file's own index a little more.
        assert 563.5 < run.data.metrics["model_size_bytes"] / 1024 < 570
        assert all(p.read_bytes()[:4] == b"\x89PNG" for p in folder.glob("*.png"))
        grid = {re.split(r"[+%]", p.name)[0] for p in (folder / "images").iterdir()}
        assert grid == {"confusion_matrix", "outlier_predictions"}
        for stem, count in (("test", 200), ("outliers", 1_000)):
            frame = pd.read_parquet(folder / "predictions" / f"{stem}.parquet")
            assert list(frame.columns) == PREDICTION_COLUMNS
            assert len(frame) == count
        test = pd.read_parquet(folder / "predictions" / "test.parquet")
        assert run.data.metrics["test_accuracy"] == (test["label"] == test["predicted"]).mean()
        assert run.data.metrics["test_rejected"] == test["rejected"].mean()

        contexts = {
            tag.value for i in run.inputs.dataset_inputs for tag in i.tags if tag.key == "mlflow.data.context"
        }
        assert {"training", "validation", "test"} <= contexts
        (version,) = client.search_model_versions(f"name = '{tiny.name}-base-cnn'")
        assert set(VERSION_TAGS) <= set(version.tags)
        assert version.run_id == run.info.run_id
        assert version.tags["weights_sha256"] == run.data.tags["weights_sha256"]
        assert version.source.startswith("models:/m-")

    def test_its_name_is_the_configuration_as_a_person_says_it(
        self, tiny: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = dataclasses.replace(catalogue.DATASETS["mnist"], sizes=(TRAIN, TEST), md5={})
        monkeypatch.setitem(catalogue.DATASETS, "mnist", known)
        given = ["--validation-size", str(VALIDATION), "--threads", "1", "--data-dir", str(tiny)]
        assert cli.run(["train", "--lr", "0.1", "--epochs", "8", *given]) == 0
        assert only_run(store).info.run_name == "lr=0.1 epochs=8"
        (version,) = MlflowClient(store).search_model_versions("name = 'mnist-base-cnn'")
        assert version.tags["dataset"] == "mnist"

    def test_without_validation_pictures_it_has_no_validation_figures(self, tiny: Path, store: str) -> None:
        assert (
            cli.run(["train", "--epochs", "1", *options(tiny), "--validation-size", "0", "--no-register"])
            == 0
        )
        run = only_run(store)
        assert not [name for name in run.data.metrics if name.startswith("validation")]
        assert MlflowClient(store).search_model_versions() == []

    def test_stdout_is_the_result_and_stderr_the_course(
        self, tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["train", "--epochs", "2", "--format", "json", *options(tiny)]) == 0
        said = capfd.readouterr()
        (row,) = json.loads(said.out)
        run = only_run(store)
        assert row["run_id"] == run.info.run_id
        assert row["test_accuracy"] == run.data.metrics["test_accuracy"]
        lines = said.err.splitlines()
        assert re.search(rf"500 pictures.*cpu, \w+, 1 threads; run .* in {re.escape(store)}", lines[0])
        assert [line[:9] for line in lines[1:3]] == ["epoch 1/2", "epoch 2/2"]
        assert "mlflow ui" in lines[-1]
        assert f"/runs/{run.info.run_id}?workflowType=machine_learning" in lines[-1]

    def test_the_sample_is_said_and_cannot_be_mistaken_for_the_full_set(
        self, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert cli.run(["train", "--lr", "1000", "--threads", "1"]) == 1
        err = capfd.readouterr().err
        assert "embedded sample of 4,000 pictures" in err
        run = only_run(store)
        assert run.data.tags["dataset"] == "mnist-sample"

    def test_parameters_that_mlflow_run_has_written_are_taken_as_they_are(
        self, tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = MlflowClient(store)
        made = client.create_run(client.create_experiment("mnist-base-cnn"))
        client.log_param(made.info.run_id, "lr", "1e-1")
        client.log_param(made.info.run_id, "epochs", "01")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert cli.run(["train", "--lr", "1e-1", "--epochs", "01", *options(tiny)]) == 0
        run = only_run(store)
        assert (run.info.run_id, run.info.status) == (made.info.run_id, "FINISHED")
        assert (run.data.params["lr"], run.data.params["epochs"]) == ("1e-1", "01")
        assert run.info.run_name == f"lr=0.1 epochs=1 dataset={tiny}"


def refuse_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    from mlflow_project.remote import Remote

    def refuse(*_: object) -> None:
        raise MlflowException("you may not register models here", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(Remote, "ensure_registered", refuse)


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_model_that_the_registry_refuses_is_no_success(
    command: str, tiny: Path, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_registration(monkeypatch)
    assert cli.run([command, "--epochs", "1", *options(tiny)]) == 1
    said = capfd.readouterr()
    assert "lr=0.001 epochs=1" in said.out
    lines = said.err.splitlines()
    assert [line for line in lines if re.match("Warning: ModelFiles 'model' was refused: .*may not", line)]
    assert re.match("Error: .*(isn't|aren't) registered.*may not register models here", lines[-1])


@pytest.mark.parametrize(("folder", "name"), [("a:b c", "a-b-c"), ("mnist", "mnist-folder"), ("raw", "tiny")])
def test_a_folder_s_model_is_registered_under_a_name_of_its_own(
    folder: str, name: str, tiny: Path, store: str
) -> None:
    data = (tiny / "raw").rename(tiny / folder)
    assert cli.run(["train", "--epochs", "1", *options(data)]) == 0
    (model,) = MlflowClient(store).search_registered_models()
    assert model.name == f"{name}-base-cnn"


class TestBadInput:
    """One clear line, the right exit status, and never a run that stays RUNNING."""

    @pytest.mark.parametrize(
        ("given", "named", "status"),
        [
            (["--lr", "0"], "lr is 0.0", 2),
            (["--lr", "-0.1"], "lr is -0.1", 2),
            (["--lr", "nan"], "lr is nan", 2),
            (["--lr", "inf"], "lr is inf", 2),
            (["--lr", "abc"], "'abc'", 2),
            (["--epochs", "0"], "epochs is 0", 2),
            (["--epochs", "-1"], "epochs is -1", 2),
            (["--epochs", "1.5"], "'1.5' is not a whole number", 2),
            (["--batch-size", "0"], "batch_size is 0", 2),
            (["--batch-size", "5000"], "batch_size is 5000 but only", 2),
            (["--dataset", "cifar"], "'cifar'", 1),
            (["--data-dir", "nowhere"], "nowhere", 1),
            (["--data-dir", "~no-such-person/x"], "no such person's home folder", 1),
            (["--dataset", "~no-such-person/x"], "no such person's home folder", 1),
            (["--dataset", "x" * 300], "File name too long", 1),
            (["--threads", "3000000000"], "from 0 to 1,024", 2),
            (["--epochs", "1e30"], "from 1 to 1,000,000", 2),
            (["--precision", "float16"], "'float16'", 2),
            (["--device", "tpu"], "'tpu'", 2),
            (["--resume", "0123"], "no run 0123", 1),
            (["--frobnicate"], "--frobnicate", 2),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
    )
    def test_it_is_one_line(
        self, given: list[str], named: str, status: int, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["train", *given]) == status
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("Error: ")
        assert named in line
        assert MlflowClient(store).search_runs(["0"]) == []

    @pytest.mark.parametrize(
        ("given", "named"), [(["--device", "cuda"], "no GPU"), (["--precision", "bfloat16"], "bfloat16")]
    )
    def test_what_this_machine_has_not_got_is_one_line(
        self,
        given: list[str],
        named: str,
        store: str,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import torch

        from hw2 import configuration

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(configuration, "native_bfloat16", lambda: False)
        made = MlflowClient(store).create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert cli.run(["train", *given]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("Error: ")
        assert named in line
        run = MlflowClient(store).get_run(made.info.run_id)
        assert (run.info.status, run.data.tags["reason"]) == ("FAILED", line.removeprefix("Error: "))

    @pytest.mark.parametrize(
        "damage", ["empty", "truncated", "magic", "fewer labels", "a label 10", "unreadable"]
    )
    def test_a_folder_that_is_no_data_set_is_named(
        self, tiny: Path, damage: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        raw = tiny / "raw"
        images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
        if damage == "empty":
            for path in raw.iterdir():
                path.unlink()
        elif damage == "truncated":
            (raw / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images.read_bytes())[:-5_000])
            images.unlink()
        elif damage == "magic":
            images.write_bytes(b"\0\0\7\3" + images.read_bytes()[4:])
        elif damage == "fewer labels":
            labels.write_bytes(struct.pack(">II", 0x801, 599) + labels.read_bytes()[8:-1])
        elif damage == "a label 10":
            labels.write_bytes(labels.read_bytes()[:-1] + b"\x0a")
        else:
            images.unlink()
            images.mkdir()
        assert cli.run(["train", "--dataset", str(tiny)]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert str(tiny) in line
        assert MlflowClient().search_experiments(filter_string="name = 'mnist-base-cnn'") == []

    def test_a_run_that_mlflow_run_has_made_says_that_it_failed_and_why(
        self, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = MlflowClient(store)
        made = client.create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert cli.run(["train", "--epochs", "0"]) == 2
        run = client.get_run(made.info.run_id)
        assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
        assert "epochs is 0" in run.data.tags["reason"]

    def test_a_loss_that_is_no_number_fails_the_run_and_keeps_what_it_said(
        self, tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(["train", "--lr", "1e6", "--batch-size", "2", *options(tiny)]) == 1
        assert re.search(r"Error: the loss became (nan|inf) at batch \d+", capfd.readouterr().err)
        run = only_run(store)
        assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
        assert "at batch" in run.data.tags["reason"]
        assert run.data.params["lr"] == "1000000.0"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_run_as_killed_and_the_run_goes_on_from_there(
    number: signal.Signals, tiny: Path, store: str, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "mlflow_project",
        "train",
        "--lr",
        "0.01",
        "--epochs",
        "2000",
        *options(tiny),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stderr is not None
        said = ""
        while "epoch    3/2000" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        time.sleep(0.1)
        process.send_signal(number)
        said += process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number
    last = said.splitlines()[-1]
    run = only_run(store)
    assert f"stopped by {number.name}" in last
    assert f"train --resume {run.info.run_id}" in last
    assert Path(last.split("its checkpoint is ")[1].split(";")[0]).is_file()
    assert (run.info.status, run.data.tags["status"]) == ("KILLED", "interrupted")


@pytest.fixture
def unfinished(tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a run of two epochs whose figures and model found no room on the disk."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(KeptFiles, "_copy", full)
        assert cli.run(["train", "--epochs", "2", *options(tiny)]) == 1
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
        f"make room there, and go on with: mlflow-project train --resume {unfinished}"
        in run.data.tags["reason"]
    )
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
    checkpoint = state.find(unfinished).folder / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert cli.run(["train", "--resume", unfinished]) == 0
    err = capfd.readouterr().err
    assert re.search(r"Warning: .*checkpoint\.pt is damaged .*; the one before it can serve", err)
    assert f"run {unfinished} goes on from epoch 2, batch 1" in err
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
    assert cli.run(["train", "--resume", unfinished]) == 0
    resumed, other = client.get_run(unfinished), client.get_run(made)
    for run in (resumed, other):
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
    assert resumed.data.tags["resumed_by"] == made
    assert other.data.tags["resumes"] == unfinished


def test_a_run_that_another_process_has_or_finishes_meanwhile_is_left_to_it(
    unfinished: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = state.find(unfinished).folder
    owner = Journal.open(folder)
    assert cli.run(["train", "--resume", unfinished]) == 1
    assert "owned by another process" in said_error(capfd)
    load = pictures.load

    def finish(*given: Any) -> Any:
        owner.append(RunEnd("FINISHED"))
        owner.close()
        return load(*given)

    monkeypatch.setattr(pictures, "load", finish)
    assert cli.run(["train", "--resume", unfinished]) == 1
    assert f"run {unfinished} is finished; start a new one" in said_error(capfd)
    assert state.local_run(folder).state == "finished"


@pytest.mark.parametrize("name", ["plan.json", "resumed"])
def test_a_disk_that_is_full_when_a_run_begins_or_goes_on_is_one_line(
    name: str, unfinished: str, tiny: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = journal_file.replace

    def full(path: Path, content: bytes, **more: Any) -> None:
        if path.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(path, content, **more)

    monkeypatch.setattr(journal_file, "replace", full)
    given = ["--resume", unfinished] if name == "resumed" else options(tiny)
    assert cli.run(["train", *given]) == 1
    assert re.search(rf"{name} can't be written: No space left on device; make room", said_error(capfd))


def test_what_a_run_was_to_be_is_on_disk_before_it_begins(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = watch_syncs(monkeypatch)
    assert cli.run(["train", "--lr", "1e6", "--batch-size", "2", *options(tiny)]) == 1
    (plan,) = [at for at, (path, size) in enumerate(synced) if path.name.startswith(".plan.json.") and size]
    assert synced[plan + 1][0] == next((Path.cwd() / "state" / "runs").iterdir())
