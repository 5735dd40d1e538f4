"""What can't be searched is one line, before anything is done."""

from pathlib import Path

import pytest

from hw2.training.config import TrainingConfig
from mlflow_project.cli.main import run
from mlflow_project.common.errors import UsageError
from mlflow_project.searches.halving import Budget
from mlflow_project.searches.request import SearchSpec, parse_budget


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--lr", "0.3..0.001"], "write the smaller one first"),
        (["--lr", "a..b"], "'a' is not a number"),
        (["--lr", "0.001.."], "an interval without an end"),
        (["--lr", "0.1..2", "--momentum", "0.5..1"], "momentum is 1.0; it must be at least 0 and below 1"),
        (["--budget", "0epochs"], "nothing can be trained for that"),
        (["--budget", "0min"], "nothing can be trained for that"),
        (["--budget", "60"], "write epochs, such as 60epochs, or a time"),
        (["--budget", "20epochs"], "two trials of which one goes on to 27 epochs take 28"),
        (["--epochs", "1..2"], "fewer than a rung apart at --reduction 3; write at least 1..3"),
        (["--epochs", "9"], "--epochs is 9; write LOW..HIGH"),
        (["--epochs", "0..9"], "at least 1 epoch"),
        (["--trials", "1"], "a search compares at least 2"),
        (["--reduction", "1"], "--reduction is 1; it must be at least 2"),
        (["--lr", "0.1", "--batch-size", "64"], "nothing to search"),
        (["--schedule", "cosine"], "--schedule is cosine, whose rates depend on the number of epochs"),
        (["--schedule", "one-cycle"], "leave --schedule out (constant)"),
        (["--patience", "2"], "--patience is 2; a search itself ends trials that are no better"),
        (["--validation-size", "0"], "a search chooses by validation images"),
        (["--workers", "0"], "--workers is 0"),
        (["--address", "auto"], "add --engine ray"),
        (["--sampler", "grid"], "'grid' is not one of 'tpe', 'random'"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    options: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["search", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert complaint in line
    assert not (tmp_path / "state").exists()


def test_a_budget_is_epochs_or_a_time() -> None:
    assert parse_budget("60epochs") == Budget(epochs=60)
    assert parse_budget("30min") == parse_budget("0.5h") == Budget(seconds=1800)
    assert [parse_budget(text).short for text in ("60 epochs", "90s", "2h")] == [
        "60epochs",
        "1.5min",
        "120min",
    ]
    with pytest.raises(UsageError, match="whole epochs"):
        parse_budget("1.5epochs")


def test_an_axis_of_one_value_is_common_to_all_trials() -> None:
    spec = SearchSpec.of(TrainingConfig(seed=3), batch_size="128", momentum="0.9", epochs="2..20")
    assert (spec.base.batch_size, spec.base.momentum, spec.base.epochs, spec.base.seed) == (128, 0.9, 20, 3)
    assert list(spec.space.axes) == ["lr"]
    assert spec.rungs == (2, 6, 20)
    assert spec.name == "lr=0.001..0.3 epochs=2..20 trials=40 budget=60epochs"
