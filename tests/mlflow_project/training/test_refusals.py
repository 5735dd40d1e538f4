"""What can't be trained or registered is said in one line, with the right exit status."""

import gzip
import re
import struct
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.tracking.delivery import background
from mlflow_project.tracking.journal import local_runs
from tests.support.tiny import only_run, options

pytestmark = pytest.mark.usefixtures("unrendered")


def refuse_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    from mlflow_project.tracking.delivery.remote import IdempotentStore

    def refuse(*_: object) -> None:
        raise MlflowException("you may not register models here", INVALID_PARAMETER_VALUE)

    monkeypatch.setattr(IdempotentStore, "ensure_registered", refuse)


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_a_model_that_the_registry_refuses_is_no_success(
    command: str, tiny: Path, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_registration(monkeypatch)
    assert main.run([command, "--epochs", "1", *options(tiny)]) == 1
    captured = capfd.readouterr()
    assert "lr=0.001 epochs=1" in captured.out
    lines = captured.err.splitlines()
    assert [
        line for line in lines if re.match("Warning: ModelArtifact 'model' was rejected: .*may not", line)
    ]
    assert re.match("Error: .*(isn't|couldn't be) registered.*may not register models here", lines[-1])


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_what_a_server_refuses_altogether_is_said_at_once_and_is_no_success(
    command: str, tiny: Path, denying: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", denying)
    monkeypatch.setattr(background, "_denying", set())
    monkeypatch.setattr(background, "STALLED_SECONDS", 1.0)
    assert main.run([command, "--epochs", "1", *options(tiny)]) == 1
    out, err = capfd.readouterr()
    assert "lr=0.001 epochs=1" in out
    lines = err.splitlines()
    denied = f"{denying}: access denied; check MLFLOW_TRACKING_USERNAME"
    assert lines[-1].startswith(f"Error: nothing of it is in MLflow: {denied}")
    assert lines[-1].endswith("mlflow-project sync uploads it")
    (first,) = [
        n for n, line in enumerate(lines) if line.startswith(f"Warning: nothing is uploaded: {denied}")
    ]
    assert first < min(n for n, line in enumerate(lines) if "log entries not uploaded" in line)
    (folder,) = [
        run.folder for run in local_runs.undelivered() if (run.folder / local_runs.RUN_SPEC_FILE).exists()
    ]
    assert local_runs.local_run(folder).state == "finished"


class TestBadInput:
    """One clear line, the right exit status, and never a run that stays RUNNING."""

    @pytest.mark.parametrize(
        ("arguments", "named", "status"),
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
            (["--optimizer", "adam"], "'adam'", 2),
            (["--optimizer", "adamw", "--nesterov"], "nesterov is True but optimizer is adamw", 2),
            (["--optimizer", "adamw", "--momentum", "0.9"], "leave momentum out", 2),
            (["--nesterov"], "give a momentum, such as 0.9", 2),
            (["--weight-decay", "-0.1"], "weight_decay is -0.1; it must be a finite number from 0", 2),
            (["--label-smoothing", "1"], "label_smoothing is 1.0; it must be at least 0 and below 1", 2),
            (["--clip-norm", "0"], "clip_norm is 0.0; it must be a finite number above 0", 2),
            (["--schedule", "linear"], "'linear'", 2),
            (["--schedule", "one-cycle", "--warmup", "9"], "leave warmup out", 2),
            (["--augment", "flip,mirror"], "'mirror' is none of flip, shift, crop, rotate", 2),
            (["--augment", "flip,shift,flip"], "flip is there twice: name each once", 2),
            (["--augment", ""], "it is empty", 2),
            (["--patience", "0"], "patience is 0; it must be a whole number from 1", 2),
            (["--patience", "2", "--validation-size", "0"], "patience is 2 but validation_size is 0", 2),
            (["--resume", "0123"], "no run 0123", 1),
            (["--frobnicate"], "--frobnicate", 2),
        ],
        ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
    )
    def test_it_is_one_line(
        self, arguments: list[str], named: str, status: int, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main.run(["train", *arguments]) == status
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("Error: ")
        assert named in line
        assert MlflowClient(store).search_runs(["0"]) == []

    @pytest.mark.parametrize(
        ("arguments", "named"), [(["--device", "cuda"], "no GPU"), (["--precision", "bfloat16"], "bfloat16")]
    )
    def test_what_this_machine_has_not_got_is_one_line(
        self,
        arguments: list[str],
        named: str,
        store: str,
        capfd: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import torch

        from hw2.training import runtime

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(runtime, "native_bfloat16", lambda: False)
        made = MlflowClient(store).create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert main.run(["train", *arguments]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("Error: ")
        assert named in line
        run = MlflowClient(store).get_run(made.info.run_id)
        assert (run.info.status, run.data.tags["reason"]) == ("FAILED", line.removeprefix("Error: "))

    @pytest.mark.parametrize(
        "damage", ["empty", "truncated", "magic", "fewer labels", "labels that skip 10", "unreadable"]
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
        elif damage == "labels that skip 10":
            labels.write_bytes(labels.read_bytes()[:-1] + b"\x0b")
        else:
            images.unlink()
            images.mkdir()
        assert main.run(["train", "--dataset", str(tiny)]) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert str(tiny) in line
        assert MlflowClient().search_experiments(filter_string="name = 'mnist-base-cnn'") == []

    def test_a_run_that_mlflow_run_has_made_says_that_it_failed_and_why(
        self, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = MlflowClient(store)
        made = client.create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert main.run(["train", "--epochs", "0"]) == 2
        run = client.get_run(made.info.run_id)
        assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
        assert "epochs is 0" in run.data.tags["reason"]

    def test_a_loss_that_is_no_number_fails_the_run_and_keeps_what_it_said(
        self, tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main.run(["train", "--lr", "1e6", "--batch-size", "2", *options(tiny)]) == 1
        assert re.search(r"Error: the loss became (nan|inf) at batch \d+", capfd.readouterr().err)
        run = only_run(store)
        assert (run.info.status, run.data.tags["status"]) == ("FAILED", "failed")
        assert "at batch" in run.data.tags["reason"]
        assert run.data.params["lr"] == "1000000.0"
