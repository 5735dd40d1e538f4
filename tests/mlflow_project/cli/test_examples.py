"""What a person who knows MLflow does with our runs, without us."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from tests.support.swept import NAME, Swept

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "tracked_runs.py"


def python(*arguments: str, **environment: str) -> str:
    """What a Python of its own, in which our packages can't be imported, prints."""
    hidden = Path("sitecustomize.py")
    hidden.write_text(
        "import sys\nsys.modules['hw2'] = sys.modules['mlflow_project'] = None\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(hidden.parent.absolute()), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.process
def test_the_example_runs_without_our_packages(swept: Swept) -> None:
    assert run(["models", "promote", "--best", "--name", NAME]) == 0
    out = python(
        str(EXAMPLE), NAME, MLFLOW_TRACKING_URI=swept.uri, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"
    )
    first = out.splitlines()[0]  # whole, though nobody has said how wide a pipe is
    assert all(
        f"metrics.{name}" in first for name in ("test_accuracy", "test_accuracy_low", "test_accuracy_high")
    )
    assert "epoch 1: " in out
    assert "downloaded outliers.parquet test.parquet" in out
    assert "of 200" in out
    assert "logits (2, 10)" in out
    assert "not_a_digit" in out


@pytest.mark.process
def test_mlflow_gc_removes_a_deleted_run_and_leaves_the_others(swept: Swept) -> None:
    client = MlflowClient(swept.uri, registry_uri=swept.uri)
    gone, remaining = (client.get_model_version(NAME, number).run_id for number in ("1", "2"))
    places = {
        run_id: Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
        for run_id in (gone, remaining)
    }
    client.delete_run(gone)
    python("-m", "mlflow", "gc", "--backend-store-uri", swept.uri, MLFLOW_TRACKING_URI=swept.uri)
    assert not (places[gone] / "predictions").exists()
    assert (places[remaining] / "predictions" / "test.parquet").is_file()
    runs = client.search_runs(["1"], run_view_type=3)
    assert gone not in [r.info.run_id for r in runs]
    assert remaining in [r.info.run_id for r in runs]
