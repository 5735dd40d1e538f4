"""A locale that isn't UTF-8 changes nothing: what a training reads and writes is UTF-8 everywhere."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.tiny import only_run, train_command


@pytest.mark.process
def test_a_whole_training_in_a_locale_that_is_not_utf_8(tiny: Path, store: str) -> None:
    variables = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        train_command(tiny), env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 0, run.stderr
    assert only_run(store).info.status == "FINISHED"
