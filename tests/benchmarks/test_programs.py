"""`scripts/benchmark run` and `sweep`: real programs on the embedded sample, and what a table says is wrong."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.programs import Logged
from benchmarks.training import run, sweep
from benchmarks.training.run import OURS, Done
from benchmarks.training.stages import EXIT, STAGES, START, TESTING, TRAINING

ROOT = Path(__file__).resolve().parents[2]
RUN = Logged(
    lr=0.1,
    epochs=8,
    accuracy=0.986,
    seconds={"train_seconds": 20.0, "test_seconds": 1.0},
    points=700,
    files=40,
    figures=6,
    versions=1,
    weights_sha256="a",
)


def done(seconds: float = 25.0, **changes: Any) -> Done:
    return Done(seconds, 900.0, dataclasses.replace(RUN, **changes))


def measured(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What the benchmark wrote, whether or not it found something wrong."""
    path = tmp_path / "result.json"
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert path.exists(), ended.stderr
    written: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert ended.returncode == (1 if written["wrong"] else 0), ended.stderr
    return written


@pytest.mark.campaign
def test_every_candidate_logs_a_whole_run_and_ours_is_told_stage_by_stage(tmp_path: Path) -> None:
    written = measured(tmp_path, "run", "--rounds", "1", "--epochs", "1")
    # One epoch on so few images leaves accuracies far apart; nothing else may be wrong.
    assert all("accuracies" in reason for reason in written["wrong"])
    programs = {row["program"]: row for row in written["rows"]}
    assert len(programs) == 4
    for name, (one,) in written["raw"]["done"].items():
        assert one["logged"]["versions"] == 1, name
        assert one["logged"]["figures"] >= 1, name
        assert one["logged"]["points"] >= 57 // 50 + 2, name
    stages = written["raw"]["stages"]
    assert set(stages) >= {START, EXIT, *STAGES}
    assert all(seconds >= 0 for spent in stages.values() for seconds in spent)
    assert stages["training"][0] > 0
    assert {"torch", "numba", "mlflow", "lightning"} <= set(written["machine"]["versions"])


@pytest.mark.campaign
def test_the_shared_trainings_leave_the_weights_of_those_alone(tmp_path: Path) -> None:
    written = measured(tmp_path, "sweep", "--rounds", "1", "--divide-epochs", "4", "--without-baseline")
    assert written["wrong"] == []
    shared, alone = (row["test accuracies"].split(", ") for row in written["rows"])
    assert shared == alone
    assert len(shared) == 5


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"accuracy": 0.97}, "test accuracies differ by 0.0160"),
        ({"figures": 7}, "logged 6 figures"),
        ({"versions": 2}, "logged 1 versions"),
    ],
)
def test_a_comparison_of_unlike_programs_says_so(other: dict[str, Any], reason: str) -> None:
    result = run.report({OURS: [done()], "another": [done(50.0, **other)]}, {}, "")
    assert any(reason in wrong for wrong in result.wrong)
    assert run.report({OURS: [done()], "another": [done(50.0)]}, {}, "").wrong == []


def test_few_test_images_leave_accuracies_further_apart() -> None:
    result = {OURS: [done(accuracy=0.90)], "another": [done(50.0, accuracy=0.87)]}
    assert run.report(result, {}, "", test_images=1_000).wrong == []
    assert "allowed are 0.0143" in run.report(result, {}, "", test_images=10_000).wrong[0]


def test_limits_are_told_as_met_or_missed() -> None:
    parts = {START: [2.0, 2.0], TRAINING: [20.0, 20.0], TESTING: [3.0, 3.0], EXIT: [1.0, 3.0]}
    *_, rest, memory = run.report({OURS: [done(25.0)]}, parts, "").notes
    assert "4.0 s beside training and testing, within 6" in rest
    assert "900.0 MB, within 1,500" in memory
    parts[EXIT] = [5.0, 5.0]
    *_, rest, _ = run.report({OURS: [done(28.0)]}, parts, "").notes
    assert "7.0 s beside training and testing, MORE THAN 6" in rest


def test_other_weights_than_alone_are_told() -> None:
    seconds = {sweep.OURS: [10.0], sweep.ALONE: [14.0]}
    same = {sweep.OURS: [[RUN]], sweep.ALONE: [[RUN]]}
    assert sweep.report(seconds, same, "").wrong == []
    assert sweep.report(seconds, same, "").rows[1]["times the shared trainings"] == "1.40 (1.40 to 1.40)"
    other = {**same, sweep.ALONE: [[dataclasses.replace(RUN, weights_sha256="b")]]}
    assert any("other weights" in reason for reason in sweep.report(seconds, other, "").wrong)
    fewer: dict[str, list[list[Logged]]] = {**same, sweep.ALONE: [[]]}
    assert any("other models" in reason for reason in sweep.report(seconds, fewer, "").wrong)
