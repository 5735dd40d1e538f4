"""`sweep --dry-run` says what the sweep would do, changes nothing, and doesn't wait for PyTorch to say it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.cli.shared.console import Console
from mlflow_project.sweeps import request as sweep_request
from mlflow_project.sweeps.plan import Grid, rows
from mlflow_project.sweeps.request import COMPLETION_SECONDS, SweepSpec, plan_line
from tests.support.ports import free_port
from tests.support.tiny import TRAIN, VALIDATION, options


def request_for(tiny: Path, lr: tuple[float, ...], epochs: tuple[int, ...]) -> SweepSpec:
    base = TrainingConfig(dataset=str(tiny), validation_size=VALIDATION, threads=1)
    return SweepSpec(
        name="some", configs=Grid(base=base, lr=lr, epochs=epochs, batch_size=(64,), seed=(0,)).configs()
    )


def test_what_is_shown_is_what_would_be_done(tiny: Path, store: str) -> None:
    # A completed trial, one that can begin at that one's end, and a new one.
    assert run(["train", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 0
    request = request_for(tiny, (0.02, 0.03), (1, 2))
    with Console() as console:
        shown, prepared = sweep_request.preview(request, console), sweep_request.prepare(request, console)
    assert rows(shown.plan) == rows(prepared.plan)
    assert [row["epochs_trained"] for row in rows(shown.plan)] == [1, 1, 0, 1]
    assert shown.seconds() == prepared.seconds() is not None
    assert (shown.dataset, shown.plan.sha256) == (prepared.dataset, prepared.plan.sha256)


@pytest.mark.parametrize("where", ["a store", "no server"])
def test_the_time_is_measured_where_no_run_on_this_host_tells_it(
    where: str, tiny: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "no server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with Console() as console:
        shown = sweep_request.preview(request_for(tiny, (0.02,), (1, 60)), console)
    seconds = shown.seconds()
    assert seconds is not None
    assert shown.measured_speed is not None
    assert seconds == pytest.approx(60 * (TRAIN - VALIDATION) / shown.measured_speed + 2 * COMPLETION_SECONDS)
    assert shown.measured_speed > 0
    assert re.search(r", about [\d.]+ (s|min|h)$", plan_line(shown))
    assert not (tmp_path / "state" / "runs").exists()


def test_a_grid_that_begins_at_no_earlier_state_is_shown_without_pytorch(
    tiny: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["train", "--lr", "0.03", "--epochs", "1", *options(tiny)]) == 0
    monkeypatch.setenv("MLFLOW_PROJECT_STATE", str(tmp_path / "other"))
    arguments = ["sweep", "--lr", "0.02", "--epochs", "1,2", "--dry-run", "--format", "csv", *options(tiny)]
    code = (
        "import sys; from mlflow_project.cli import main; "
        f"print(main.run({arguments}), 'torch' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    *table, end = shown.stdout.splitlines()
    assert (len(table), end) == (3, "0 False")
    assert "2 trials, 0 done or running; to do: 2 epochs in 1 job (3 without sharing), about" in shown.stderr
    assert not (tmp_path / "other" / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "minst"], "unknown data set 'minst'"),
        (["--validation-size", "600"], "validation_size is 600"),
        (["--batch-size", "501"], "batch_size is 501"),
        (["--device", "cuda"], "device is cuda but PyTorch sees no GPU here"),
    ],
)
def test_what_a_sweep_would_refuse_is_refused(
    arguments: list[str],
    message: str,
    tiny: Path,
    store: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for more in (["--dry-run"], []):
        assert run(["sweep", *options(tiny), *arguments, *more]) in (1, 2)
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"Error: {message}")
