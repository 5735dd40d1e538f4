"""The scripts as people and CI call them, on a copy whose .venv holds stand-ins that note each call."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
_SPEC = importlib.util.spec_from_file_location("check_pins", ROOT / "scripts" / "check_pins.py")
assert _SPEC is not None
assert _SPEC.loader is not None
check_pins = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(check_pins)
SCRIPTS = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run", ROOT / "scripts/conda-front/bin/conda"]
    if path.is_file()
    and path.read_text(encoding="utf-8").startswith("#!")
    and "sh" in path.read_text(encoding="utf-8").splitlines()[0]
)
WORKERS = "-n logical --maxprocesses 8 --dist worksteal"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


class Checkout:
    """A copy of what the scripts read, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noted = folder.parent / "noted"
        for name in ("scripts", ".ci"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        programs = folder / ".venv" / "bin"
        note = f'echo "$(basename "$0") $*" >>\'{self.noted}\''
        program(
            programs / "python",
            f'case "$*" in -I*) exec "{sys.executable}" "$@" ;; esac\n{note}\nexit ${{PIP-0}}',
        )
        program(programs / "mlflow", note)
        (programs / "activate").write_text(
            f'VIRTUAL_ENV="{folder}/.venv"\nPATH="$VIRTUAL_ENV/bin:$PATH"\n', encoding="utf-8"
        )

    def call(self, command: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if key != "CI"} | variables
        return subprocess.run(
            [self.folder / command, *arguments],
            cwd="/",
            env=environment,
            text=True,
            capture_output=True,
            encoding="utf-8",
        )

    def calls(self) -> list[str]:
        """What was called since the last time."""
        lines = self.noted.read_text(encoding="utf-8").splitlines() if self.noted.exists() else []
        self.noted.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_each_script_can_be_started_and_is_short(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_setup_installs_once(checkout: Checkout) -> None:
    assert checkout.call("scripts/setup").returncode == 0
    (line,) = checkout.calls()
    assert line.endswith("--editable .")
    done = checkout.call("scripts/setup")
    assert (done.returncode, done.stderr, checkout.calls()) == (0, "", [])


def test_setup_installs_again_when_what_it_reads_has_changed(checkout: Checkout) -> None:
    checkout.call("scripts/setup")
    with (checkout.folder / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("another==1\n")
    checkout.calls()
    checkout.call("scripts/setup")
    assert len(checkout.calls()) == 1


@pytest.mark.parametrize("pip", ["0", "1"])
def test_setup_installs_again_when_requirements_go_back_to_what_they_were(
    checkout: Checkout, pip: str
) -> None:
    checkout.call("scripts/setup")
    requirements = checkout.folder / "requirements.txt"
    before = requirements.read_text(encoding="utf-8")
    requirements.write_text(before + "another==1\n", encoding="utf-8")
    checkout.call("scripts/setup", PIP=pip)
    requirements.write_text(before, encoding="utf-8")
    checkout.calls()
    checkout.call("scripts/setup")
    assert len(checkout.calls()) == 1


def test_setup_installs_an_extra_when_it_is_first_asked_for(checkout: Checkout) -> None:
    checkout.call("scripts/setup")
    checkout.calls()
    checkout.call("scripts/setup", "ray", "auth")
    (line,) = checkout.calls()
    assert line.endswith("--editable .[ray,auth]")
    checkout.call("scripts/setup", "auth")
    assert checkout.calls() == []


def test_setup_that_failed_is_tried_again(checkout: Checkout) -> None:
    assert checkout.call("scripts/setup", PIP="1").returncode == 1
    checkout.calls()
    checkout.call("scripts/setup")
    assert len(checkout.calls()) == 1


def test_setup_refuses_an_environment_that_was_moved(checkout: Checkout) -> None:
    (checkout.folder / ".venv/bin/activate").write_text("VIRTUAL_ENV=/elsewhere/.venv\n", encoding="utf-8")
    done = checkout.call("scripts/setup")
    assert (done.returncode, len(done.stderr.splitlines()), checkout.calls()) == (1, 1, [])


@pytest.mark.parametrize(
    ("command", "called"),
    [
        ("scripts/run", "mlflow run . --env-manager local -P lr=0.1 a b"),
        ("scripts/test --all", f"python -m pytest {WORKERS} -P lr=0.1 a b"),
        ("scripts/serve", "python -m mlflow_project serve -P lr=0.1 a b"),
    ],
)
def test_what_follows_goes_on(checkout: Checkout, command: str, called: str) -> None:
    assert checkout.call(*command.split(), "-P", "lr=0.1", "a b").returncode == 0
    assert checkout.calls()[-1] == called


@pytest.mark.parametrize(("check", "test", "status"), [(0, 0, 0), (1, 0, 1), (0, 5, 1), (1, 1, 1)])
def test_ci_does_both_and_fails_when_one_does(checkout: Checkout, check: int, test: int, status: int) -> None:
    for name, result in (("check", check), ("test", test), ("check-pins", 0)):
        script = f"echo {name} $* $CI >>'{checkout.noted}'; exit {result}"
        program(checkout.folder / "scripts" / name, script)
    assert checkout.call(".ci/run").returncode == status
    assert checkout.calls() == ["check true", "test --all -ra true", "check-pins true"]


def test_what_is_left_out_is_every_mark_and_is_named(checkout: Checkout) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]
    marks = [line.partition(":")[0] for line in settings["markers"]]
    done = checkout.call("scripts/test", "-x")
    assert checkout.calls()[-1] == f"python -m pytest {WORKERS} -m not ({' or '.join(marks)}) -x"
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("test: ")]
    assert f"marked {', '.join(marks)} " in line
    assert "scripts/test --all" in line
    assert "left out" not in checkout.call("scripts/test", "--all").stderr


def test_the_status_of_the_tests_is_that_of_the_script(checkout: Checkout) -> None:
    checkout.call("scripts/setup", "test")
    assert checkout.call("scripts/test", PIP="3").returncode == 3


@pytest.mark.parametrize(("pins", "status"), [(1, 1), (75, 0)])
def test_ci_fails_for_a_missing_pin_and_not_for_an_index_that_is_away(
    checkout: Checkout, pins: int, status: int
) -> None:
    for name, result in (("check", 0), ("test", 0), ("check-pins", pins)):
        program(checkout.folder / "scripts" / name, f"exit {result}")
    assert checkout.call(".ci/run").returncode == status


class TestPythons:
    """Each that pyproject.toml allows is taken, and no other."""

    def call(self, checkout: Checkout, minor: int) -> subprocess.CompletedProcess[str]:
        """Setup on a machine with Python 3.`minor` alone."""
        place = checkout.folder.parent / "programs"
        for name in ("bash", "env", "dirname", "grep", "basename"):
            place.mkdir(exist_ok=True)
            (place / name).symlink_to(shutil.which(name) or "/bin/false")
        programs = checkout.folder / ".venv" / "bin"
        saved = programs.rename(checkout.folder.parent / "programs of .venv")
        version = f"import sys; sys.version_info = (3, {minor}, 0); exec(sys.argv[1])"
        program(
            place / "python3",
            f"""case "$1" in
                -c) exec '{sys.executable}' -c '{version}' "$2" ;;
                -V) echo 'Python 3.{minor}.0' ;;
                *) '{shutil.which("cp")}' -r '{saved}' '{programs}' ;;
            esac""",
        )
        return checkout.call("scripts/setup", PATH=str(place))

    @pytest.mark.parametrize("minor", range(11, 15))
    def test_setup_takes_it_and_says_which(self, checkout: Checkout, minor: int) -> None:
        done = self.call(checkout, minor)
        assert (done.returncode, f"making .venv with Python 3.{minor}.0" in done.stderr) == (0, True), done

    @pytest.mark.parametrize("minor", [10, 15])
    def test_setup_refuses_another(self, checkout: Checkout, minor: int) -> None:
        done = self.call(checkout, minor)
        assert (done.returncode, checkout.calls()) == (1, [])
        assert "found no Python 3.11 to 3.14" in done.stderr

    def test_those_of_setup_are_those_of_pyproject(self) -> None:
        pythons = check_pins.read_pythons((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        assert pythons == ["3.11", "3.12", "3.13", "3.14"]


class TestPins:
    """Whether each has a wheel for each Python is asked of the index, without downloading."""

    @pytest.mark.parametrize(("has", "status", "words"), [("1.0, 0.9", 0, ""), ("0.9", 1, "no wheel for")])
    def test_a_pin_without_a_wheel_is_said(
        self, has: str, status: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(check_pins, "read_pins", lambda *texts: [("one", "1.0")])
        monkeypatch.setattr(check_pins, "query_index", lambda name, python: (has.split(", "), ""))
        checked = tmp_path / "pins.sha256"
        monkeypatch.setattr(check_pins, "CHECKED", checked)
        assert check_pins.main([]) == status
        assert capsys.readouterr().err.count("one==1.0 has no wheel for") == (4 if words else 0)
        assert checked.exists() == (status == 0)

    def test_what_was_checked_is_not_asked_for_again_until_a_pin_changes(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        requests: list[str] = []
        monkeypatch.setattr(check_pins, "CHECKED", tmp_path / "pins.sha256")
        monkeypatch.setattr(
            check_pins, "query_index", lambda name, python: (requests.append(name) or ["1.0", "2.0"], "")
        )
        monkeypatch.setattr(check_pins, "read_pins", lambda *texts: [("one", "1.0")])
        assert check_pins.main([]) == 0
        first = len(requests)
        assert check_pins.main([]) == 0
        assert len(requests) == first
        monkeypatch.setattr(check_pins, "read_pins", lambda *texts: [("one", "2.0")])
        assert check_pins.main([]) == 0
        assert len(requests) == 2 * first

    def test_an_index_that_is_away_is_said(self, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        for key in [key for key in os.environ if key.startswith("PIP_")]:
            monkeypatch.delenv(key)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
        assert check_pins.main(["3.12"]) == check_pins.UNREACHABLE
        (line,) = capsys.readouterr().err.splitlines()
        assert "can't be reached" in line
        assert "nothing was checked" in line

    def test_all_pins_are_asked_for(self) -> None:
        pins = check_pins.read_pins(
            "torch==2.0  # why\n", (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        )
        assert {"torch", "ray", "psycopg", "setuptools", "ruff", "moto"} <= {name for name, _ in pins}


class TestDebianPackages:
    """They are installed only in CI, by root, and where there is apt-get."""

    def call(self, checkout: Checkout, user: int, ci: str, apt: str | None) -> tuple[int, str, list[str]]:
        place = checkout.folder.parent / "programs"
        place.mkdir()
        for name in ("bash", "env", "dirname"):
            (place / name).symlink_to(shutil.which(name) or "/bin/false")
        program(place / "id", f"echo {user}")
        if apt is not None:
            program(place / "apt-get", f"echo \"$*\" >>'{checkout.noted}'; {apt}")
        done = checkout.call("scripts/setup-debian", PATH=str(place), CI=ci)
        assert len(done.stderr.splitlines()) <= 2
        return done.returncode, done.stderr, checkout.calls()

    def test_root_in_ci_installs_them(self, checkout: Checkout) -> None:
        status, _, calls = self.call(checkout, 0, "true", "exit 0")
        assert status == 0
        update, install = calls
        assert update.endswith("update")
        assert install.endswith("gcc libc6-dev")

    @pytest.mark.parametrize(
        ("user", "ci", "apt"), [(0, "", "exit 0"), (1000, "true", "exit 0"), (0, "true", None)]
    )
    def test_otherwise_the_command_is_said(
        self, checkout: Checkout, user: int, ci: str, apt: str | None
    ) -> None:
        status, output, calls = self.call(checkout, user, ci, apt)
        assert (status, calls) == (0, [])
        assert "apt-get install chromium chromium-driver" in output

    def test_an_apt_get_that_fails_is_said_and_stops_nothing(self, checkout: Checkout) -> None:
        status, output, _ = self.call(checkout, 0, "true", "exit 100")
        assert status == 0
        assert "could not install chromium" in output
