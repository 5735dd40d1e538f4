"""`scripts/benchmark all`, with stubs as suites."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks.all_suites import run_all

STUB = """
import os, sys
suite, _, path = sys.argv[1:]
with open("started", "a") as started:
    started.write(suite + "\\n")
if suite == "failing":
    sys.exit("no such data")
if suite == "killed":
    os.abort()
if suite != "silent":
    open(path, "w").write('{"title": "%s"}' % suite)
"""


def run_stubs(*suites: str) -> tuple[int, dict[str, dict[str, object]], list[str]]:
    """The exit status, what was written, and which suites were started."""
    Path("stub.py").write_text(STUB, encoding="utf-8")
    path = Path("results/all.json")
    status = run_all(suites, lambda suite: [sys.executable, "stub.py", suite], path)
    return (
        status,
        json.loads(path.read_text(encoding="utf-8")),
        Path("started").read_text(encoding="utf-8").split(),
    )


def test_every_suite_runs_in_order_into_one_file() -> None:
    status, written, started = run_stubs("second", "first")
    assert (status, started) == (0, ["second", "first"])
    assert written == {
        "parts": {"second": {"title": "second"}, "first": {"title": "first"}},
        "failed": {},
    }


@pytest.mark.parametrize("bad", ["failing", "killed", "silent"])
def test_a_suite_that_fails_is_reported_and_the_others_go_on(
    bad: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status, written, started = run_stubs("before", bad, "after")
    assert (status, started) == (1, ["before", bad, "after"])
    assert list(written["parts"]) == ["before", "after"]
    assert list(written["failed"]) == [bad]
    assert f"scripts/benchmark: {bad} ended" in capfd.readouterr().err


def test_all_starts_every_suite_with_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def note(suites: list[str], command: object, path: Path) -> int:
        assert callable(command)
        commands.extend(command(suite) for suite in suites)
        assert path == Path("all.json")
        return 1

    monkeypatch.setattr(command_line, "run_all", note)
    monkeypatch.setattr(sys, "argv", ["benchmark", "all", "--data-dir", "data", "--json", "all.json"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    assert [command[3] for command in commands] == list(command_line.SUITES)
    assert all(command[4:] == ["--data-dir", "data"] for command in commands)
