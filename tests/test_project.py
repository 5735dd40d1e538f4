"""What holds for the whole project: its cut in two packages, its entry points, and its rules for tests."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = sorted((ROOT / "hw2").rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", EXPERIMENT, ids=lambda path: path.name)
def test_the_experiment_knows_no_mlflow_and_no_terminal(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert imported(tree) & {"mlflow", "mlflow_project", "click", "rich"} == set()
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_every_requirement_is_pinned_and_named_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        line
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    ]
    for extra in project["optional-dependencies"].values():
        lines += [line for line in extra if not line.startswith(project["name"])]
    requirements = [Requirement(line) for line in lines]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    names = [requirement.name.lower() for requirement in requirements]
    assert len(names) == len(set(names))


def entry_points() -> dict[str, str]:
    """Each entry point's name with the command of ours that it starts."""
    points = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    return {name: point["command"].split()[-1] for name, point in points.items()}


@pytest.mark.parametrize(("name", "command"), entry_points().items())
def test_each_entry_point_starts_a_command(name: str, command: str) -> None:
    from mlflow_project.cli.main import COMMANDS

    assert command == {"main": "train"}.get(name, name)
    assert command in COMMANDS


def own_tests(folder: Path, text: str, **variables: str) -> tuple[int, str]:
    """Run pytest on one file of tests beside a copy of this project's conftest.py."""
    tests = folder / "tests" / "hw2"
    tests.mkdir(parents=True)
    (tests.parent / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tests / "test_it.py").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", folder, tests],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "CI"} | variables,
        text=True,
        capture_output=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


SKIPS = {
    "in a test": "import pytest\ndef test_it():\n    pytest.skip('{}')\n",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='{}')\ndef test_it():\n    pass\n",
    "of a module": "import pytest\npytest.skip('{}', allow_module_level=True)\n",
}


@pytest.mark.parametrize("text", SKIPS.values(), ids=SKIPS)
def test_in_ci_a_skip_is_a_failure_that_says_why(tmp_path: Path, text: str) -> None:
    status, output = own_tests(tmp_path, text.format("no browser"), CI="true")
    assert status != 0
    assert "skipped in CI: " in output
    assert "no browser" in output


@pytest.mark.parametrize("variables", [{}, {"CI": "true"}], ids=["at home", "in CI"])
def test_a_gpu_may_be_missing_anywhere(tmp_path: Path, variables: dict[str, str]) -> None:
    status, output = own_tests(tmp_path, SKIPS["in a test"].format("no GPU here"), **variables)
    assert status == 0, output


def test_at_home_a_skip_is_a_skip(tmp_path: Path) -> None:
    status, output = own_tests(tmp_path, SKIPS["by a mark"].format("no browser"))
    assert status == 0, output


@pytest.mark.parametrize("address", ["('1.1.1.1', 80)", "('example.org', 80)"])
def test_a_test_that_asks_for_the_network_fails(tmp_path: Path, address: str) -> None:
    status, output = own_tests(
        tmp_path, f"import socket\ndef test_it():\n    socket.create_connection({address})\n"
    )
    assert status == 1
    assert "tests stay on this machine" in output
