"""The core without its training, installed in environments of its own by scripts/setup-core."""

import subprocess
from pathlib import Path

import pytest

from tests.support.shared import locked, make_once

ROOT = Path(__file__).resolve().parents[2]


def core_install(factory: pytest.TempPathFactory, end: str) -> Path:
    """Return the Python of the environment at one end of MLflow's range, "oldest" or "newest".

    It is installed once a session, since another worker may be using it.
    """

    def install(_: Path) -> None:
        with locked(ROOT / f".venv-core-{end}.lock"):
            subprocess.run([ROOT / "scripts" / "setup-core", end], check=True)

    make_once(factory, f"core-{end}", install)
    return ROOT / f".venv-core-{end}" / "bin" / "python"
