"""`reproduce` does the whole study, under the study's names, and only what is missing of it."""

import dataclasses
import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from mlflow_project.common.errors import UsageError
from mlflow_project.reports import reference_study
from mlflow_project.sweeps.reproduce import reproduce
from mlflow_project.tracking.identity.alias_log import history
from tests.support.tiny import sweep_runs

NAME = "mnist-base-cnn"


@pytest.fixture
def short_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """The five models with fewer epochs, 2 or 1, in the same three trainings."""
    few = [dataclasses.replace(model, epochs=2 - (model.epochs == 5)) for model in reference_study.STUDY]
    monkeypatch.setattr(reference_study, "STUDY", tuple(few))


def test_the_five_models_are_those_of_the_study() -> None:
    assert [(model.alias, model.epochs, model.lr) for model in reference_study.STUDY] == [
        ("m1", 10, 0.001),
        ("m2", 5, 0.1),
        ("m3", 8, 0.1),
        ("m4", 5, 0.01),
        ("m5", 8, 0.01),
    ]


def assert_shows_outliers(page: str, sets: list[str], models: list[str]) -> None:
    """The page has each set's figures and measures, of all these models."""
    for name in sets:
        assert f"<caption>Every score against {name}</caption>" in page
        assert f"<figcaption>The probabilities of each image of {name}." in page
        for model in models:
            assert f"<figcaption>Images of {name} shown to {model}, and " in page
            assert f"<figcaption>All of {name} shown to {model}: " in page
            assert f"<figcaption>Outlier scores of {model}: digits against {name}." in page


def test_a_report_that_cannot_be_written_is_told_before_anything_is_trained(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(["reproduce", "--output", str(tmp_path / "file" / "page.html")]) == 2
    assert run(["reproduce", "--output", str(tmp_path)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "name another file by --output" in first
    assert "is a directory" in second
    assert MlflowClient(store).search_runs(["0"]) == []
    assert not (tmp_path / "file").read_bytes()


def test_a_seed_that_is_named_twice_is_one_line(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "--seeds", "0,1,0"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'0,1,0' has 0 twice; give each once" in line
    with pytest.raises(UsageError, match="seeds 1, 1: one is there twice"):
        reproduce(seeds=(1, 1))
    assert MlflowClient(store).search_runs(["0"]) == []


@pytest.mark.campaign
@pytest.mark.usefixtures("short_study")
def test_over_seeds_the_configurations_are_compared_and_the_observations_answered(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["reproduce", "--threads", "1", "--seeds", "1,0"]) == 0
    out, err = capsys.readouterr()
    assert "10 trials, 0 done or running; to do: 12 epochs in 6 jobs (16 without sharing)" in err
    assert "5 configurations over their seeds and the same" in out
    assert "5 models, all evaluated on the same" in out
    client = MlflowClient(store, registry_uri=store)
    for alias in ("m1", "m2", "m3", "m4", "m5"):
        assert client.get_model_version_by_alias(NAME, alias).tags["seed"] == "1"
    (parent,), _ = sweep_runs(store)
    assert parent.status == "FINISHED"
    assert "seed_accuracies.png" in [file.path for file in client.list_artifacts(parent.run_id)]
    tables = {Path(file.path).stem for file in client.list_artifacts(parent.run_id, "tables")}
    assert tables >= {"configurations", "configuration_pairs", "seed_accuracies", "study_answers"}
    report = Path("report.html").read_text(encoding="utf-8")
    assert "On configurations, over seeds and test images" in report
    assert "5 models on mnist-sample" in report


@pytest.mark.campaign
@pytest.mark.usefixtures("short_study")
def test_the_study_is_done_under_its_names_and_again_only_where_something_is_missing(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "--threads", "1", "--format", "json"]
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert "to do: 6 epochs in 3 jobs (8 without sharing)" in err
    assert "warmup 100: each rate rises over the first 100 batches, since" in err
    assert "Note: the study's figures (study_...) are of the full data" in err
    rows = json.loads(out)
    assert [row["model"] for row in rows] == ["m1", "m2", "m3", "m4", "m5"]
    assert [row["study_test_accuracy"] for row in rows] == [0.935, 0.983, 0.986, 0.979, 0.982]
    client = MlflowClient(store, registry_uri=store)
    versions = {}
    for row in rows:
        version = client.get_model_version_by_alias(NAME, row["model"])
        versions[row["model"]] = version.version
        assert version.run_id == row["run_id"]
        assert (float(version.tags["lr"]), int(version.tags["epochs"])) == (row["lr"], row["epochs"])
        assert client.get_run(row["run_id"]).data.params["validation_size"] == "0"
        assert row["train_accuracy"] is not None
    (parent,), _ = sweep_runs(store)
    assert parent.status == "FINISHED"
    named = [r for r in client.search_runs(["1"]) if r.info.run_name.startswith("outliers: m1, m2, m3")]
    assert len(named) == 1
    assert "report.html" in [file.path for file in client.list_artifacts(parent.run_id)]
    report = Path("report.html").read_text(encoding="utf-8")
    assert "Cochran" in report
    assert_shows_outliers(report, ["fashion-mnist-sample"], ["m1", "m2", "m3"])
    tables = {file.path for file in client.list_artifacts(parent.run_id, "tables")}
    assert tables == {"tables/accuracy.csv", "tables/pairs.csv", "tables/sweep.csv"}

    assert run(["outliers", "--models", "m1,m2", "--outliers", "fashion-mnist,inverted"]) == 0
    assert run(["report", "--models", "m1,m2", "--output", "two.html"]) == 0
    assert_shows_outliers(
        Path("two.html").read_text(encoding="utf-8"), ["fashion-mnist-sample", "inverted"], ["m1", "m2"]
    )
    capsys.readouterr()

    client.set_registered_model_alias(NAME, "m2", versions["m1"])
    assert run(command) == 0
    out, err = capsys.readouterr()
    assert {row["state"] for row in json.loads(out)} == {"reused"}
    assert f"run {named[0].info.run_id} has tested these models on outliers; it is reused" in err
    runs = client.search_runs(["1"])
    assert sum(r.info.run_name.startswith("outliers: m1, m2, m3") for r in runs) == 1
    again = {alias: client.get_model_version_by_alias(NAME, alias).version for alias in versions}
    assert again == versions
    *first, _, last = history(client, NAME)
    assert {(change.alias, change.from_version) for change in first} == {(alias, None) for alias in versions}
    assert (last.alias, last.from_version, last.to_version) == (
        "m2",
        int(versions["m1"]),
        int(versions["m2"]),
    )
    assert last.why == "named by sweep the study"
    assert last.who
