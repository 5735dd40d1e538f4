"""The examples of other programs, run as they are, and then compared by our command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from mlflow_project.cli.main import run

ROOT = Path(__file__).resolve().parents[2]


def example(name: str, *arguments: str) -> None:
    """Run an example in a process of its own, as its first lines say."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_the_examples_are_compared_by_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    example("plain_loop.py", "0.3")
    example("plain_loop.py", "0.003")
    example("lightning_logger.py")
    capsys.readouterr()
    assert run(["compare", "--experiment", "digits", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    compared = json.loads(out)
    assert err == ""
    assert compared["pictures"] == 500
    accuracy = {row["model"]: row["accuracy"] for row in compared["accuracy"]}
    assert list(accuracy) == ["plain loop, lr=0.3", "plain loop, lr=0.003", "Lightning"]
    assert accuracy["plain loop, lr=0.3"] > 0.85 > accuracy["plain loop, lr=0.003"]
    assert compared["pairs"][0]["better"] == "plain loop, lr=0.3"
    assert {
        each.info.status for each in mlflow.search_runs(search_all_experiments=True, output_format="list")
    } == {"FINISHED"}
    assert run(["report", "--experiment", "digits"]) == 0
