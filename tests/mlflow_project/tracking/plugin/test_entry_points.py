"""MLflow loads the entry points whenever it is imported: they cost it next to nothing."""

import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
GROUPS = ("mlflow.tracking_store", "mlflow.model_registry_store", "mlflow.artifact_repository")


def test_each_kind_of_store_has_all_three() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    names = [set(declared[group]) for group in GROUPS]
    assert names[0] == names[1] == names[2]
    assert {"durable+http", "durable+https", "durable+sqlite", "durable+postgresql"} <= names[0]


@pytest.mark.parametrize("group", GROUPS)
def test_the_installed_ones_lead_somewhere(group: str) -> None:
    found = [entry for entry in entry_points(group=group) if entry.name.startswith("durable+")]
    assert found
    assert all(callable(entry.load()) for entry in found)


def test_loading_them_imports_nothing_else() -> None:
    program = """
import atexit, sys, typing
before = set(sys.modules)
import mlflow_project.tracking.plugin.entry_points
print(*sorted(name for name in set(sys.modules) - before if not name.startswith("__editable__")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert all(name.startswith("mlflow_project") or name == "importlib" for name in done.stdout.split()), (
        done.stdout
    )
