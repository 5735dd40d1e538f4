"""What holds for the whole project: its cut in two packages, its entry points, and its rules for tests."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

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


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins() -> dict[str, Requirement]:
    """requirements.txt by name."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if not line.startswith("#")]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    assert len({requirement.name for requirement in requirements}) == len(requirements)
    return {requirement.name: requirement for requirement in requirements}


def test_every_extra_but_the_training_is_pinned_and_named_once() -> None:
    extras = project()["optional-dependencies"]
    lines = [line for name, extra in extras.items() if name != "train" for line in extra]
    requirements = [Requirement(line) for line in lines if not line.startswith(project()["name"])]
    assert all(str(requirement.specifier).startswith("==") for requirement in requirements)
    names = [*pins(), *(requirement.name.lower() for requirement in requirements)]
    assert len(names) == len(set(names))


def test_core_and_training_are_ranges_that_hold_what_was_tested() -> None:
    lines = [*project()["dependencies"], *project()["optional-dependencies"]["train"]]
    ranges = {requirement.name: requirement for requirement in map(Requirement, lines)}
    assert len(ranges) == len(lines)
    assert ranges.keys() == pins().keys()
    for name, pin in pins().items():
        assert not str(ranges[name].specifier).startswith("==")
        assert str(pin.specifier).removeprefix("==") in ranges[name].specifier, name


def test_the_command_line_knows_what_the_training_brings() -> None:
    from mlflow_project.cli.main import TRAINING_MODULES

    names = {Requirement(line).name for line in project()["optional-dependencies"]["train"]}
    assert {name.replace("scikit-learn", "sklearn") for name in names} == set(TRAINING_MODULES)


def entry_points() -> dict[str, str]:
    """Each entry point's name with the command of ours that it starts."""
    points = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))["entry_points"]
    return {name: point["command"].split()[-1] for name, point in points.items()}


@pytest.mark.parametrize(("name", "command"), entry_points().items())
def test_each_entry_point_starts_a_command(name: str, command: str) -> None:
    from mlflow_project.cli.main import COMMANDS

    assert command == {"main": "train"}.get(name, name)
    assert command in COMMANDS


def own_tests(folder: Path, *texts: str, **variables: str) -> tuple[int, str]:
    """Run pytest on files of tests, test_0.py and so on, beside a copy of this project's conftest.py."""
    tests = folder / "tests" / "hw2"
    tests.mkdir(parents=True)
    (tests.parent / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    for number, text in enumerate(texts):
        (tests / f"test_{number}.py").write_text(text, encoding="utf-8")
    options = ["-p", "no:cacheprovider", "--continue-on-collection-errors", "--rootdir", folder]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "CI"} | variables,
        text=True,
        capture_output=True,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


SKIPS = [
    "import pytest\ndef test_it():\n    pytest.skip('{}')\n",
    "import pytest\n@pytest.mark.skip(reason='{}')\ndef test_it():\n    pass\n",
    "import pytest\npytest.skip('{}', allow_module_level=True)\n",
]


def test_in_ci_a_skip_is_a_failure_that_says_why(tmp_path: Path) -> None:
    status, output = own_tests(tmp_path, *(text.format("no browser") for text in SKIPS), CI="true")
    assert status == 1
    reasons = re.findall(r"^(?:FAILED|ERROR) tests/hw2/test_(\d).py.* - skipped in CI: (.*)", output, re.M)
    assert sorted(number for number, _ in reasons) == ["0", "1", "2"]
    assert all("no browser" in reason for _, reason in reasons)


def test_in_ci_a_gpu_may_be_missing(tmp_path: Path) -> None:
    status, output = own_tests(tmp_path, SKIPS[0].format("no GPU here"), CI="true")
    assert status == 0, output


def test_at_home_a_skip_is_a_skip(tmp_path: Path) -> None:
    texts = [*(text.format("no browser") for text in SKIPS), SKIPS[0].format("no GPU here")]
    status, output = own_tests(tmp_path, *texts)
    assert "4 skipped" in output, output
    assert status == 0


def test_a_test_that_asks_for_the_network_fails(tmp_path: Path) -> None:
    text = "import socket\ndef test_it():\n    socket.create_connection(('{}', 80))\n"
    status, output = own_tests(tmp_path, text.format("1.1.1.1"), text.format("example.org"))
    assert status == 1
    for address in ("1.1.1.1", "example.org"):
        assert f"tests stay on this machine, but one tried to reach {address}" in output
