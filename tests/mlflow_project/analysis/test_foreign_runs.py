"""`compare` and `report` over runs that other programs have logged, alone and beside our trainings."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from mlflow_project.cli.main import run
from mlflow_project.tracking import log_predictions
from tests.support.stored import SHA, StoredRuns, frame

Capture = pytest.CaptureFixture[str]
N = 120
LABELS = np.arange(N) % 3


def foreign(
    wrong: int, *, experiment: str = "leaves", name: str | None = None, params: Any = None, **options: Any
) -> str:
    """A run of a program that isn't ours, with so many mistakes; its ID."""
    found = mlflow.get_experiment_by_name(experiment)
    experiment_id = found.experiment_id if found else mlflow.create_experiment(experiment)
    predicted = np.where(np.arange(N) < wrong, (LABELS + 1) % 3, LABELS)
    with mlflow.start_run(run_name=name, experiment_id=experiment_id) as started:
        if params:
            mlflow.log_params(params)
        if options.pop("logits", False):
            options["logits"] = 3.0 * np.eye(3)[predicted]
        log_predictions(LABELS, predicted=predicted, **options)
    return str(started.info.run_id)


def compared(capsys: Capture, *options: str) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert run(["compare", *options, "--format", "json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def refused(capsys: Capture, *options: str) -> str:
    capsys.readouterr()
    assert run(["compare", *options]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def names(comparison: dict[str, Any]) -> list[str]:
    return [row["model"] for row in comparison["accuracy"]]


def test_named_runs_of_any_experiment_are_compared(capsys: Capture) -> None:
    good = foreign(0, name="good", params={"depth": 3})
    bad = foreign(30, experiment="others", name="bad", logits=True, classes=["oak", "ash", "elm"])
    comparison, _ = compared(capsys, "--runs", f"{good},{bad}")
    assert [(row["model"], row["right"]) for row in comparison["accuracy"]] == [("good", 120), ("bad", 90)]
    assert comparison["pairs"][0]["better"] == "good"


@pytest.mark.parametrize("by", ["name", "id", "variable", "id in a variable"])
def test_an_experiment_is_named_by_name_or_id(
    by: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for depth, wrong in ((1, 20), (2, 10), (2, 5)):
        foreign(wrong, params={"depth": depth}, name=f"depth {depth}, {wrong} wrong")
    foreign(0, experiment="others", name="elsewhere")
    experiment = mlflow.get_experiment_by_name("leaves")
    assert experiment is not None
    options: list[str] = []
    if by in ("name", "id"):
        options = ["--experiment", experiment.name if by == "name" else experiment.experiment_id]
    elif by == "variable":
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "leaves")
    else:
        monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment.experiment_id)
    # The newest of each configuration, oldest first.
    assert names(compared(capsys, *options)[0]) == ["depth 1, 20 wrong", "depth 2, 5 wrong"]


def test_runs_without_parameters_are_each_a_configuration(capsys: Capture) -> None:
    for wrong in (1, 2):
        foreign(wrong, name=f"{wrong} wrong")
    assert names(compared(capsys, "--experiment", "leaves")[0]) == ["1 wrong", "2 wrong"]


def test_an_experiment_that_is_not_there_is_named(capsys: Capture) -> None:
    assert "there is not an experiment of the name or ID leaves in this store" in refused(
        capsys, "--experiment", "leaves"
    )
    assert run(["compare", "--experiment", "a", "--runs", "b"]) == 2


def test_runs_on_other_images_are_left_out_unless_they_are_named(capsys: Capture) -> None:
    images = np.zeros((N, 8, 8), np.uint8)
    other = foreign(1, images=images, params={"a": 1}, name="other")
    same = [foreign(wrong, images=images + 1, params={"a": wrong}, name=f"{wrong}") for wrong in (2, 3)]
    comparison, err = compared(capsys, "--experiment", "leaves")
    assert names(comparison) == ["2", "3"]
    assert "left out: 1 run on other images (not " in err
    assert "only models tested on the same images can be compared" in refused(
        capsys, "--runs", f"{other},{same[0]}"
    )


def test_the_newest_run_says_which_images_are_meant_whoever_made_it(store: str, capsys: Capture) -> None:
    StoredRuns(store).training([1])
    for wrong in (2, 3):
        foreign(wrong, experiment="mnist-base-cnn", name=f"{wrong} wrong")
    comparison, err = compared(capsys)
    assert names(comparison) == ["2 wrong", "3 wrong"]
    assert "left out: 1 run on other images (not " in err


def test_images_against_labels_alone_say_what_is_missing(capsys: Capture) -> None:
    runs = [foreign(1, name="with"), foreign(2, name="without", images=np.zeros((N, 8, 8), np.uint8))]
    assert "(of with the labels alone are hashed; log its predictions with their images)" in refused(
        capsys, "--runs", ",".join(runs)
    )


def digits(wrong: Sequence[int], sha256: str = SHA) -> str:
    """A foreign run on the images of our trainings, logged by hand as docs/predictions.md has it."""
    with mlflow.start_run(run_name="by hand") as started:
        answers = frame(wrong, sha256)[["label", "predicted"]]
        answers.to_parquet("test.parquet")
        mlflow.log_artifact("test.parquet", "predictions")
    return str(started.info.run_id)


def test_a_training_of_ours_is_compared_with_any_program_on_the_same_images(
    store: str, capsys: Capture
) -> None:
    ours = StoredRuns(store).training(range(30))
    theirs = digits([])
    comparison, _ = compared(capsys, "--runs", f"{ours},{theirs}")
    assert comparison["pairs"][0]["better"] == "by hand"


def test_a_run_still_needs_predictions_and_they_must_be_readable(capsys: Capture) -> None:
    with mlflow.start_run(run_name="bare") as bare:
        pass
    with mlflow.start_run(run_name="odd") as odd:
        pd.DataFrame({"label": ["a"], "predicted": ["a"]}).to_parquet("test.parquet")
        mlflow.log_artifact("test.parquet", "predictions")
    assert "(bare) has no predictions/test.parquet" in refused(capsys, "--runs", bare.info.run_id)
    assert "(the column label is " in refused(capsys, "--runs", odd.info.run_id)


def test_the_report_knows_what_other_programs_do_not_say(capsys: Capture) -> None:
    classes = ["oak", "ash", "elm"]
    first = foreign(3, name="net <one>", params={"depth": 2}, logits=True, classes=classes)
    second = foreign(9, name="two")
    assert run(["report", "--runs", f"{first},{second}", "--output", "page.html"]) == 0
    assert "Note: two has no logits: its loss and calibration error are left out" in capsys.readouterr().err
    page = Path("page.html").read_text(encoding="utf-8")
    assert "BaseCNN" not in page
    assert "28 × 28" not in page
    assert "net &lt;one&gt; and two: logged by another program" in page
    assert page.count(">calibration error<") == 1
    for name in classes:
        assert f">{name}<" in page


def test_the_report_of_both_tells_them_apart(store: str) -> None:
    ours = StoredRuns(store).training([1], files=True)
    assert run(["report", "--runs", f"{ours},{digits([2])}", "--output", "page.html"]) == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "lr=0.1 epochs=5: a BaseCNN" in page
    assert "by hand: logged by another program" in page
