"""Writing and delivering runs needs neither `hw2` nor PyTorch, so that any program can be tracked by it."""

import ast
import subprocess
import sys
from pathlib import Path

import mlflow_project

BELOW = (
    "connection",
    "error_policy",
    "errors",
    "fsio",
    "locks",
    "names",
    "run_state",
    "state_dir",
    "store_uri",
    "text",
)
TRACKING = (
    "alias_history",
    "delivery",
    "delivery_session",
    "delivery_status",
    "heartbeat",
    "journal",
    "journal_file",
    "kept_files",
    "model_delivery",
    "open_run",
    "remote",
    "repair",
    "sender",
    "state",
    "values",
)


def imported_by(name: str) -> set[str]:
    """All modules that a module imports, also inside of functions."""
    tree = ast.parse((Path(mlflow_project.__path__[0]) / f"{name}.py").read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "mlflow_project":
            found |= {f"mlflow_project.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def test_they_import_each_other_alone_and_never_what_trains() -> None:
    allowed = {f"mlflow_project.{name}" for name in BELOW + TRACKING}
    for name in BELOW + TRACKING:
        used = imported_by(name)
        assert {module for module in used if module.startswith("mlflow_project")} <= allowed, name
        assert not {module for module in used if module.partition(".")[0] in ("hw2", "torch")}, name


def test_they_are_imported_without_hw2_torch_or_mlflow() -> None:
    modules = ", ".join(f"mlflow_project.{name}" for name in BELOW + TRACKING)
    program = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"hw2", "torch", "mlflow", "numpy", "click"} & set(done.stdout.split())
