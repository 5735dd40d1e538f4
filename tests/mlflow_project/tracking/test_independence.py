"""Writing and delivering runs needs neither `hw2` nor PyTorch, so that any program can be tracked by it."""

import subprocess
import sys
from pathlib import Path

import mlflow_project

ROOT = Path(mlflow_project.__path__[0])
MODULES = sorted(
    "mlflow_project." + ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("common", "tracking")
    for path in (ROOT / folder).rglob("*.py")
    # What MLflow itself loads, but for where it begins.
    if path.parent.name not in ("hub", "plugin") or path.name == "entry_points.py"
)


def test_they_are_imported_without_hw2_torch_or_mlflow() -> None:
    assert "mlflow_project.tracking.delivery.uploader" in MODULES
    program = f"import sys, {', '.join(MODULES)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert not {"hw2", "torch", "mlflow", "numpy", "click"} & set(done.stdout.split())
