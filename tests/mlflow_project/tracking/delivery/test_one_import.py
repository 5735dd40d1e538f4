"""MLflow is imported in one place, under one lock: two threads that import it at once find half a module."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_project.tracking.journal import local_runs
from tests.support.tiny import options

ROOT = Path(__file__).resolve().parents[4]
PLACE = ROOT / "mlflow_project" / "tracking" / "delivery" / "client.py"
LOADED_BY_MLFLOW = ROOT / "mlflow_project" / "packaging" / "pyfunc_model.py"
"""It is a part of each model, and may import nothing of `tracking`."""
PLUGIN = [ROOT / "mlflow_project" / "tracking" / folder for folder in ("hub", "plugin")]
"""MLflow loads them when it is imported itself."""


def runtime_imports(tree: ast.AST) -> list[int]:
    """The lines on which a module imports MLflow when it runs, and not for type checkers alone."""
    lines = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        if any(name.partition(".")[0] == "mlflow" for name in names):
            lines.append(node.lineno)  # type: ignore[attr-defined]
        lines += runtime_imports(node)
    return lines


def test_one_module_imports_mlflow() -> None:
    paths = [*(ROOT / "mlflow_project").rglob("*.py"), *(ROOT / "hw2").rglob("*.py")]
    paths = [path for path in paths if path.parent not in PLUGIN]
    found = {
        path: lines
        for path in paths
        if (lines := runtime_imports(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert found.keys() == {PLACE, LOADED_BY_MLFLOW}, found


LEFT = """
import os, sys
from mlflow_project.tracking.journal.entities import Metric
from mlflow_project.tracking.journal.writer import Journal
journal = Journal.create(sys.argv[1], "mnist-base-cnn", "left")
journal.append(*(Metric("m", float(n), n) for n in range(50)))
journal.sync()
os._exit(9)
"""


@pytest.mark.process
def test_what_a_killed_run_has_left_does_not_get_in_the_way_of_the_next_training(
    tiny: Path, store: str
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for n in range(3):
        subprocess.run([sys.executable, "-c", LEFT, store], env=environment, check=False)
        train = [
            sys.executable,
            "-m",
            "mlflow_project",
            "train",
            "--epochs",
            "1",
            "--seed",
            str(n),
            *options(tiny),
        ]
        done = subprocess.run(
            train, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "AttributeError" not in done.stderr
    assert [run.state for run in local_runs.local_runs()].count("finished") == 3
