"""`scripts/benchmark all`, with stubs as parts."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command_line
from benchmarks.every_part import run_all

STUB = """
import os, sys
part, _, path = sys.argv[1:]
with open("started", "a") as started:
    started.write(part + "\\n")
if part == "failing":
    sys.exit("no such data")
if part == "killed":
    os.abort()
if part != "silent":
    open(path, "w").write('{"title": "%s"}' % part)
"""


def run_stubs(*parts: str) -> tuple[int, dict[str, dict[str, object]], list[str]]:
    """The exit status, what was written, and which parts were started."""
    Path("stub.py").write_text(STUB, encoding="utf-8")
    path = Path("results/all.json")
    status = run_all(parts, lambda part: [sys.executable, "stub.py", part], path)
    return (
        status,
        json.loads(path.read_text(encoding="utf-8")),
        Path("started").read_text(encoding="utf-8").split(),
    )


def test_every_part_runs_in_order_into_one_file() -> None:
    status, written, started = run_stubs("second", "first")
    assert (status, started) == (0, ["second", "first"])
    assert written == {
        "parts": {"second": {"title": "second"}, "first": {"title": "first"}},
        "failed": {},
    }


@pytest.mark.parametrize("bad", ["failing", "killed", "silent"])
def test_a_part_that_fails_is_reported_and_the_others_go_on(
    bad: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status, written, started = run_stubs("before", bad, "after")
    assert (status, started) == (1, ["before", bad, "after"])
    assert list(written["parts"]) == ["before", "after"]
    assert list(written["failed"]) == [bad]
    assert f"scripts/benchmark: {bad} ended" in capfd.readouterr().err


def test_all_asks_for_every_part_with_the_data_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def note(parts: list[str], command: object, path: Path) -> int:
        assert callable(command)
        asked.extend(command(part) for part in parts)
        assert path == Path("all.json")
        return 1

    monkeypatch.setattr(command_line, "run_all", note)
    monkeypatch.setattr(sys, "argv", ["benchmark", "all", "--data-dir", "data", "--json", "all.json"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    assert [command[3] for command in asked] == list(command_line.PARTS)
    assert all(command[4:] == ["--data-dir", "data"] for command in asked)
