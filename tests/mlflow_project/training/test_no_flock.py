"""On a file system whose `flock` fails, whole trainings run: the library that answers it is preloaded."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlflow_project.tracking.journal import local_runs
from tests.support.tiny import only_run, train_command

SOURCE = """
#include <errno.h>
int flock(int descriptor, int operation) {
    errno = NUMBER;
    return -1;
}
"""


@pytest.fixture(params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def preloaded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A shared library in which `flock` fails with that error."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (Debian: apt-get install gcc libc6-dev)")
    source, library = tmp_path / "flock.c", tmp_path / "flock.so"
    source.write_text(SOURCE.replace("NUMBER", request.param), encoding="utf-8")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.mark.process
def test_a_whole_training_where_flock_fails(preloaded: Path, tiny: Path, store: str) -> None:
    variables = {**os.environ, "LD_PRELOAD": str(preloaded)}
    run = subprocess.run(
        train_command(tiny), env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("has no flock") == 1
    assert only_run(store).info.status == "FINISHED"
    (folder,) = local_runs.folders()
    assert local_runs.local_run(folder).pending == 0
    assert not list(folder.glob("*.owner*"))
