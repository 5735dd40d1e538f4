"""`pip install .` alone, beside the oldest and the newest MLflow: durable programs, the server, and no training."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from packaging.requirements import Requirement
from packaging.version import Version

from mlflow_project.cli.main import COMMANDS
from tests.service.core_install import core_install
from tests.service.serving import start
from tests.support.ports import free_port

pytestmark = pytest.mark.server

PROGRAM = """
import sys
import mlflow, mlflow.sklearn
import numpy as np
from sklearn.linear_model import LogisticRegression

from mlflow_project.tracking import log_predictions

mlflow.set_experiment("outage")
inputs, labels = np.arange(8.0).reshape(8, 1), np.arange(8) // 4
for strength in (1e-9, 1.0):
    with mlflow.start_run(run_name=f"C={strength}") as run:
        mlflow.log_params({"C": strength})
        for step in range(3):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.set_tag("who", "a stranger")
        mlflow.log_text("hello", "notes/note.txt")
        model = LogisticRegression(C=strength).fit(inputs, labels)
        log_predictions(labels, predicted=model.predict(inputs) if strength == 1.0 else 1 - labels)
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("m", strength)
    print(run.info.run_id)
name = "name" if mlflow.__version__ >= "3" else "artifact_path"
with mlflow.start_run(run_id=run.info.run_id):
    mlflow.sklearn.log_model(
        model, **{name: "model"}, pip_requirements=["scikit-learn"], registered_model_name="stranger"
    )
"""
SETTINGS = ("MLFLOW_", "PYTHON")
"""Beginnings of the variables that this process has for itself."""


@dataclass(frozen=True)
class Core:
    """One end of the range, and a folder to work in."""

    end: str
    python: Path
    folder: Path

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run this Python where none of our sources lie."""
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(SETTINGS)}
        state = {"MLFLOW_PROJECT_STATE": str(self.folder / "state")}
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=inherited | state | variables,
            capture_output=True,
            text=True,
            timeout=300,
            encoding="utf-8",
        )

    def command(self, *arguments: str, uri: str) -> subprocess.CompletedProcess[str]:
        """Run a command of ours."""
        return self.run("-m", "mlflow_project", *arguments, MLFLOW_TRACKING_URI=uri)


@pytest.fixture(params=["oldest", "newest"])
def core(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Core:
    return Core(request.param, core_install(tmp_path_factory, request.param), tmp_path)


def test_it_has_mlflow_at_an_end_of_the_range_and_no_torch(core: Core) -> None:
    program = (
        "import importlib.metadata as m, importlib.util as u, json, mlflow_project\n"
        "print(json.dumps([m.version('mlflow'), m.requires('mlflow-project'), mlflow_project.__file__,"
        " u.find_spec('torch') is None]))"
    )
    version, requires, file, without_torch = json.loads(core.run("-c", program).stdout)
    assert without_torch
    assert Path(file).is_relative_to(core.python.parents[1])
    requirements = [Requirement(line) for line in requires if "extra ==" not in line]
    assert not any("==" in str(requirement.specifier) for requirement in requirements)
    (mlflow,) = [requirement.specifier for requirement in requirements if requirement.name == "mlflow"]
    lowest, bound = (next(s.version for s in mlflow if s.operator == sign) for sign in (">=", "<"))
    found = Version(version)
    assert version in mlflow
    if core.end == "oldest":
        assert found.release[:2] == Version(lowest).release[:2]
    else:
        assert found.minor == Version(bound).minor - 1
    assert core.run("-m", "pip", "check").returncode == 0


@pytest.mark.parametrize("command", ["train", "reproduce", "sweep --lr 0.1", "predict image.png"])
def test_a_command_that_needs_the_training_names_the_extra(core: Core, command: str) -> None:
    done = core.command(*command.split(), uri="sqlite:///none.db")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == "Error: this needs the extra train (torch is not installed): pip install '.[train]'"


def test_each_command_has_its_help(core: Core) -> None:
    program = (
        "import sys; from mlflow_project.cli.main import run\n"
        f"sys.exit(max(run([name, '--help']) for name in {list(COMMANDS)}))"
    )
    done = core.run("-c", program)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_program_that_begins_without_its_server_loses_nothing(core: Core) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (core.folder / "program.py").write_text(PROGRAM, encoding="utf-8")
    done = core.run("program.py", MLFLOW_TRACKING_URI=f"durable+{url}")
    assert done.returncode == 0, done.stderr
    assert "upload the rest with: mlflow-project sync" in done.stderr
    provisional = done.stdout.split()[:2]

    serving = start(core.folder / "served", port=port, python=core.python, PYTHONPATH="")
    try:
        serving.wait_until_ready()
        synced = core.command("sync", uri=url)
        assert synced.returncode == 0, synced.stderr
        check_delivered(url, provisional)
        compared = core.command("compare", "--experiment", "outage", "--format", "json", uri=url)
        assert compared.returncode == 0, compared.stderr
        (pair,) = json.loads(compared.stdout)["pairs"]
        assert (pair["better"], pair["only_second_right"]) == ("C=1.0", 8)
        assert "no run needs attention" in core.command("status", uri=url).stderr
    finally:
        assert serving.end() == 0, serving.err
    check_backup(core, serving.folder)


def check_delivered(url: str, provisional: list[str]) -> None:
    """Whether the server has all that the program has logged."""
    client = MlflowClient(url, registry_uri=url)
    experiment = client.get_experiment_by_name("outage")
    assert experiment is not None
    runs = {
        run.info.run_name: run for run in client.search_runs([experiment.experiment_id], "tags.who != ''")
    }
    assert runs.keys() == {"C=1.0", "C=1e-09"}
    assert {run.data.tags["durable.provisional_run_id"] for run in runs.values()} == set(provisional)
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert run.data.params.keys() == {"C"}
        points = client.get_metric_history(run.info.run_id, "loss")
        assert [(point.step, point.value) for point in points] == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
        (child,) = client.search_runs(
            [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        )
        assert child.info.run_name == "child"
    (version,) = client.search_model_versions("name = 'stranger'")
    assert (version.run_id, version.status) == (runs["C=1.0"].info.run_id, "READY")


def check_backup(core: Core, served: Path) -> None:
    """Whether the store that was served can be backed up and restored."""
    store = f"sqlite:///{served / 'mlflow.db'}"
    files: list[Any] = [str(core.folder / name) for name in ("backup", "restored")]
    made = core.command("backup", files[0], "--store", store, uri=store)
    assert made.returncode == 0, made.stderr
    target = ["--store", f"sqlite:///{core.folder / 'restored.db'}", "--artifacts", files[1]]
    restored = core.command("restore", files[0], *target, uri=store)
    assert restored.returncode == 0, restored.stderr
    assert list(Path(files[1]).rglob("note.txt"))


@pytest.mark.parametrize("core", ["oldest"], indirect=True)
def test_a_store_of_a_newer_mlflow_is_refused_in_one_line(
    core: Core, migrated_store: Path, tmp_path: Path
) -> None:
    shutil.copyfile(migrated_store, tmp_path / "newer.db")
    done = core.command("compare", uri=f"sqlite:///{tmp_path / 'newer.db'}")
    assert done.returncode == 1
    assert "was written by a newer MLflow than MLflow 2.22" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
