"""What the commands do, from Python: functions that return values and print nothing."""

from pathlib import Path

import pytest

from hw2.training.config import TrainingConfig
from mlflow_project.analysis.compare_runs import compare_runs
from mlflow_project.analysis.run_selection import Selection
from mlflow_project.common.errors import RunError, UsageError
from mlflow_project.registry.promotion import promote
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.sweeps.sweep import sweep
from mlflow_project.tracking.sync import sync
from mlflow_project.training.progress import ProgressListener
from mlflow_project.training.train import resume, train
from tests.support.tiny import VALIDATION


class Listener(ProgressListener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.epochs: list[int] = []

    def info(self, text: str) -> None:
        self.lines.append(text)

    def epoch(self, result: object, epochs: int) -> None:
        self.epochs.append(epochs)


def test_train_sweep_compare_promote_and_sync_return_values_and_print_nothing(
    tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
) -> None:
    base = TrainingConfig(dataset=str(tiny), validation_size=VALIDATION, threads=1)
    listener = Listener()
    trained = train(base, lr=0.03, epochs=1, listener=listener)
    assert (trained.status, trained.plan.config.lr) == ("FINISHED", 0.03)
    assert 0 <= trained.metrics["test_accuracy"] <= 1
    assert listener.epochs == [1]
    assert listener.lines[0].startswith("lr=0.03 epochs=1")

    swept = sweep(base, lr=(0.03, 0.05), epochs=(1,))
    swept.raise_failure()
    assert [row["state"] for row in swept.rows()] == ["reused", "trained"]

    ids = tuple(row["run_id"] for row in swept.rows())
    comparison, selected = compare_runs(Selection(runs=ids))
    assert [run.run_id for run in selected.runs] == list(ids)
    assert len(comparison.pairs) == 1

    change = promote(
        RegisteredModel(name=f"{tiny.name}-base-cnn"), "lr=0.05 epochs=1", "mine", reason="a test"
    )
    assert change is not None
    assert change.alias == "mine"

    assert sync() == []
    with pytest.raises(RunError, match="is finished"):
        resume(trained.run_id or "")
    assert capfd.readouterr() == ("", "")


def test_a_request_that_makes_no_sense_is_refused_before_anything_is_done(store: str) -> None:
    with pytest.raises(UsageError, match="--workers is 0"):
        sweep(lr=(0.1,), workers=0)
    with pytest.raises(UsageError, match="--address"):
        sweep(lr=(0.1,), address="127.0.0.1:6379")
