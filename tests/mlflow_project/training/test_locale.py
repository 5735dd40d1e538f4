"""A locale that isn't UTF-8 changes nothing: what a training reads and writes is UTF-8 everywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tiny import only_run, options


@pytest.mark.process
def test_a_whole_training_in_a_locale_that_is_not_utf_8(tiny: Path, store: str) -> None:
    variables = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [
        sys.executable,
        "-m",
        "mlflow_project",
        "train",
        "--lr",
        "0.03",
        "--epochs",
        "1",
        *options(tiny),
    ]
    run = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", check=False)
    assert run.returncode == 0, run.stderr
    assert only_run(store).info.status == "FINISHED"
