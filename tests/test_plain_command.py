"""The plain `mlflow run`, with and without conda, in a small project of the same make as this one."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
FRONT = ROOT / "scripts" / "conda-front"
ANY_PYTHON = (
    "import json, os, sys; json.dump([sys.argv[1:], sys.prefix, dict(os.environ)], open('said.json', 'w'))"
)

pytestmark = pytest.mark.skipif(not VENV.is_dir(), reason="no .venv: run scripts/setup")


def shell(
    script: str, folder: Path, *first_on_path: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in bash as on a machine without conda, with nothing activated."""
    hidden = ("CONDA", "MLFLOW_CONDA", "MLFLOW_EXPERIMENT", "VIRTUAL_ENV")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    places = [str(place) for place in first_on_path]
    for place in environment["PATH"].split(os.pathsep):
        if not (Path(place) / "conda").exists() and Path(place) != VENV / "bin":
            places.append(place)
    environment |= {"PATH": os.pathsep.join(places), **variables}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment,
        text=True,
        capture_output=True,
        timeout=300,
        encoding="utf-8",
    )


def activated(what: str) -> str:
    return f". '{ROOT}/scripts/activate' && {what}"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with this one's MLproject and requirements, whose program notes how it was started."""
    folder = tmp_path / "a project"
    (folder / "mlflow_project").mkdir(parents=True)
    for name in ("MLproject", "conda.yaml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    (folder / "mlflow_project" / "__main__.py").write_text(ANY_PYTHON, encoding="utf-8")
    return folder


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """A conda that notes what it is asked for, with one environment, whose Python tells that it was used."""
    home = tmp_path / "conda"
    note = f'#!/bin/sh\necho "$*" >>{home}/asked\n'
    programs = {
        "bin/conda": f'{note}[ "$1 $2" != "env list" ] || echo \'{{"envs": []}}\'\n',
        "environment/bin/python": note,
        "etc/profile.d/conda.sh": f'conda() {{ {home}/bin/conda "$@"; PATH={home}/environment/bin; }}\n',
    }
    for name, text in programs.items():
        path = home / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return home


def environment_name(folder: Path) -> str:
    return "mlflow-" + hashlib.sha1((folder / "conda.yaml").read_bytes()).hexdigest()


def activate_in_front(folder: Path) -> subprocess.CompletedProcess[str]:
    return shell(f"'{FRONT}/bin/conda' activate {environment_name(folder)}", folder)


def runs(folder: Path) -> list[str]:
    connection = sqlite3.connect(folder / "mlflow.db")
    statuses = [row[0] for row in connection.execute("SELECT status FROM runs")]
    connection.close()
    return statuses


def parameters(folder: Path) -> dict[str, str]:
    connection = sqlite3.connect(folder / "mlflow.db")
    result = dict(connection.execute("SELECT key, value FROM params").fetchall())
    connection.close()
    return result


@pytest.fixture
def project_store(project: Path, migrated_store: Path) -> dict[str, str]:
    shutil.copy(migrated_store, project / "mlflow.db")
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db"}


@pytest.mark.process
def test_without_conda_the_plain_command_runs_in_the_projects_own_environment(
    project: Path, project_store: dict[str, str]
) -> None:
    done = shell(activated("mlflow run . -P lr=0.1 -P batch_size=8"), project, **project_store)
    assert done.returncode == 0, done.stderr
    assert f"conda front: no conda here; using {VENV}" in done.stderr
    arguments, prefix, environment = json.loads((project / "said.json").read_text(encoding="utf-8"))
    assert arguments == ["train", "--lr", "0.1", "--batch_size", "8"]
    assert prefix == str(VENV)
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert runs(project) == ["FINISHED"]
    assert parameters(project) == {"lr": "0.1", "batch_size": "8"}, "what nobody gave is not logged"


@pytest.mark.process
def test_the_plain_command_trains_and_registers_a_model(store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    from mlflow_project.common.names import EXPERIMENT

    client = MlflowClient(store)
    # Made ahead: `mlflow run .` would keep the artifacts of a new experiment in the checkout.
    experiment = client.create_experiment(EXPERIMENT, (tmp_path / "artifacts").as_uri())
    done = shell(activated("mlflow run . -P lr=0.1 -P epochs=1"), ROOT)
    assert done.returncode == 0, done.stderr
    (run,) = client.search_runs([experiment])
    assert (run.info.status, run.data.params["lr"], run.data.params["epochs"]) == ("FINISHED", "0.1", "1")
    assert run.data.metrics["test_accuracy"] > 0.8  # of the 1,000 test images of the embedded sample
    (version,) = client.search_model_versions("name = 'mnist-base-cnn'")
    assert version.run_id == run.info.run_id


@pytest.mark.process
def test_the_plain_command_goes_on_with_a_run_that_was_killed_and_both_say_so(
    store: str, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    from mlflow_project.common.names import EXPERIMENT

    client = MlflowClient(store)
    experiment = client.create_experiment(EXPERIMENT, (tmp_path / "artifacts").as_uri())
    command = [VENV / "bin" / "python", "-m", "mlflow_project", "train", "--lr", "0.1", "--epochs", "10"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, encoding="utf-8") as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("epoch"):
            assert process.poll() is None
        process.kill()
    (killed,) = client.search_runs([experiment])
    assert killed.info.status == "RUNNING"
    done = shell(activated(f"mlflow run . -P resume={killed.info.run_id}"), ROOT)
    assert done.returncode == 0, done.stderr
    runs = {run.info.run_id: run for run in client.search_runs([experiment])}
    resumed = runs.pop(killed.info.run_id)
    (other,) = runs.values()
    for run in (resumed, other):
        assert (run.info.status, run.data.tags["status"]) == ("FINISHED", "completed")
        assert "heartbeat" not in run.data.tags
    assert resumed.data.tags["resumed_by"] == other.info.run_id
    assert other.data.tags["resumes"] == resumed.info.run_id
    steps = [point.step for point in client.get_metric_history(resumed.info.run_id, "train_loss")]
    assert steps == list(range(1, 11))


@pytest.mark.process
def test_a_sweep_and_an_outlier_test_by_the_plain_command(store: str, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    from mlflow_project.common.names import EXPERIMENT

    client = MlflowClient(store)
    experiment = client.create_experiment(EXPERIMENT, (tmp_path / "artifacts").as_uri())
    done = shell(activated("mlflow run . -e sweep -P lr=0.1,0.05 -P epochs=1"), ROOT)
    assert done.returncode == 0, done.stderr
    by_name = {run.info.run_name: run for run in client.search_runs([experiment])}
    parent = by_name.pop("sweep lr=0.1,0.05 epochs=1")
    assert set(by_name) == {"lr=0.1 epochs=1", "lr=0.05 epochs=1"}
    for run in by_name.values():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    done = shell(activated("mlflow run . -e outliers -P models=1,2"), ROOT)
    assert done.returncode == 0, done.stderr
    test = client.search_runs([experiment], order_by=["attributes.start_time DESC"])[0]
    assert {run.info.status for run in (parent, test, *by_name.values())} == {"FINISHED"}
    assert test.data.params["models"] == "1,2"
    inputs = client.get_run(test.info.run_id).inputs.model_inputs
    assert {one.model_id for one in inputs} == {
        model.model_id for model in client.search_logged_models([experiment])
    }


@pytest.mark.process
def test_a_project_that_the_environment_does_not_fit_ends_as_failed_with_the_next_step(
    project: Path, project_store: dict[str, str]
) -> None:
    with (project / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("no-such-package==1.0\n")
    done = shell(activated("mlflow run ."), project, **project_store)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("conda front: ")]
    assert "no-such-package is missing, asked for ==1.0" in line
    assert "pip install -r requirements.txt" in line
    assert not (project / "said.json").exists()
    assert runs(project) == ["FAILED"]


@pytest.mark.process
def test_a_conda_that_exists_is_the_one_that_is_used(
    project: Path, project_store: dict[str, str], conda: Path
) -> None:
    done = shell(activated("mlflow run . -P lr=0.1"), project, conda / "bin", **project_store)
    assert done.returncode == 0, done.stderr
    calls = (conda / "asked").read_text(encoding="utf-8").splitlines()
    name = environment_name(project)
    assert f"env create -n {name} --file {project}/conda.yaml" in calls
    assert calls[-2:] == [f"activate {name}", "-m mlflow_project train --lr 0.1"]


@pytest.mark.parametrize("variable", ["MLFLOW_CONDA_HOME", "CONDA_EXE"])
def test_a_conda_that_a_person_has_named_stays_named(variable: str, tmp_path: Path) -> None:
    script = activated('echo "${MLFLOW_CONDA_HOME-} ${CONDA_EXE-}"')
    assert shell(script, tmp_path, **{variable: "/named"}).stdout.strip() == "/named"


@pytest.mark.parametrize("name", ["bash", "zsh", "sh"])
def test_activation_works_in_each_shell_and_twice(name: str, tmp_path: Path) -> None:
    if shutil.which(name) is None:
        name = "bash"
    twice = f". '{ROOT}/scripts/activate' && . '{ROOT}/scripts/activate'"
    script = f"cd '{ROOT}' && {name} -euc \"{twice} && command -v python && echo \\$MLFLOW_CONDA_HOME\""
    done = shell(script, tmp_path)
    assert done.stdout.split() == [f"{VENV}/bin/python", str(FRONT)], done.stderr


def test_the_front_accepts_what_fits(project: Path) -> None:
    done = activate_in_front(project)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr


@pytest.mark.parametrize(("requires", "status"), [(">=3.11,<3.99", 0), (">=3.98,<3.99", 1)])
def test_the_front_takes_each_python_of_the_project(project: Path, requires: str, status: int) -> None:
    conda = project / "conda.yaml"
    conda.write_text(
        conda.read_text(encoding="utf-8").replace("python=3.11", "python=3.99"), encoding="utf-8"
    )
    (project / "pyproject.toml").write_text(f'[project]\nrequires-python = "{requires}"\n', encoding="utf-8")
    assert activate_in_front(project).returncode == status


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("requirements.txt", "click==", "click==0.", "click is "),
        ("requirements.txt", "click==", "-r more.txt\nclick==", "more.txt"),
        ("conda.yaml", "python=3.11", "python=3.9", "conda.yaml asks for ==3.9.*"),
        ("conda.yaml", "python=3.11", "python>=3.99", "conda.yaml asks for >=3.99"),
        (
            "conda.yaml",
            "- pip\n",
            "- pip\n  - cudatoolkit=11\n",
            "'cudatoolkit=11', which only conda provides",
        ),
        ("conda.yaml", "dependencies:", "dependencies: [", "conda.yaml"),
    ],
)
def test_the_front_refuses_in_one_line(project: Path, file: str, old: str, new: str, complaint: str) -> None:
    path = project / file
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    done = activate_in_front(project)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert complaint in line


def test_the_front_refuses_an_environment_that_is_not_the_projects(project: Path) -> None:
    done = shell(f"'{FRONT}/bin/conda' activate mlflow-0123", project)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def test_the_front_refuses_everything_else_that_conda_does(tmp_path: Path) -> None:
    done = shell(f"'{FRONT}/bin/conda' install --name x numpy", tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_a_changed_list_of_requirements_is_another_conda_environment() -> None:
    digest = hashlib.sha256((ROOT / "requirements.txt").read_bytes()).hexdigest()
    assert f"# requirements.txt sha256: {digest}\n" in (ROOT / "conda.yaml").read_text(encoding="utf-8"), (
        "run scripts/lint"
    )
