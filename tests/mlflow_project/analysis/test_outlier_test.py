"""The outlier test: what it finds, what it keeps in MLflow, and what it refuses."""

import csv
import io
import json
import re
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch

from hw2.data.idx import write_idx
from hw2.data.image_set import load_dataset, load_split
from mlflow_project.cli.main import run
from mlflow_project.common.errors import Interrupted
from tests.support.registered import Registered


def test_two_models_and_two_sets_are_one_run(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["outliers", "--models", "m1,m2", "--outliers", "fashion-mnist,inverted", "--format", "json"]
    status = run(arguments)
    captured = capsys.readouterr()
    assert status == 0, captured.err
    rows = {(row["outliers"], row["model"], row["score"]): row for row in json.loads(captured.out)}
    sets = ("fashion-mnist-sample", "inverted")
    assert {key[:2] for key in rows} == {(s, m) for s in sets for m in ("m1", "m2", "together")}
    assert rows["inverted", "m1", "outlier_score"]["auroc"] > 0.99
    assert rows["inverted", "together", "mutual_information"]["pictures"] == 1000
    for measure in ("digits_kept", "accuracy_on_kept", "outliers_rejected"):
        shipped = rows["inverted", "m1", "outlier_score"]
        assert 0 <= shipped[f"{measure}_low"] <= shipped[measure] <= shipped[f"{measure}_high"] <= 1
        assert rows["inverted", "m1", "entropy"][measure] is None

    from mlflow import MlflowClient

    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    experiment = client.get_experiment_by_name("mnist-base-cnn")
    assert experiment is not None
    (run_info,) = client.search_runs([experiment.experiment_id])
    run_data = client.get_run(run_info.info.run_id)  # a search leaves the models out
    assert run_data.info.status == "FINISHED"
    assert run_data.info.run_name == "outliers: m1, m2 on fashion-mnist-sample, inverted"
    expected = rows["inverted", "m2", "outlier_score"]["auroc"]
    assert run_data.data.metrics["outlier_auroc/inverted/m2"] == expected
    versions = [client.get_model_version_by_alias("mnist-base-cnn", alias) for alias in ("m1", "m2")]
    sources = {f"models:/{entry.model_id}" for entry in run_data.inputs.model_inputs}
    assert sources == {version.source for version in versions}
    assert {entry.dataset.name for entry in run_data.inputs.dataset_inputs} == {"mnist-sample", *sets}

    names = {entry.path for entry in client.list_artifacts(run_data.info.run_id)}
    tables = {entry.path for entry in client.list_artifacts(run_data.info.run_id, "tables")}
    figures = {name for name in names if name.endswith(".png")}
    assert {f"tables/{name.removesuffix('.png')}.csv" for name in figures} == tables - {
        "tables/outlier_measures.csv",
        "tables/thresholds.csv",
    }
    for stem in ("outlier_predictions", "outlier_matrix", "outlier_scores", "roc_curves"):
        assert {f"{stem}_{s}_{m}.png" for s in sets for m in ("m1", "m2")} <= figures
    assert {
        "reliability_m1.png",
        "accuracy_against_coverage.png",
        "probability_vectors_inverted.png",
    } <= figures
    path = client.download_artifacts(run_data.info.run_id, "predictions/inverted_m2.parquet")
    assert len(pd.read_parquet(path)) == 1000


@pytest.mark.usefixtures("registered", "unrendered")
def test_the_table_gives_each_share_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["outliers", "--outliers", "inverted"]) == 0
    heading, _, row = capsys.readouterr().out.splitlines()
    assert heading.split()[-4:] == ["inliers_kept", "accuracy_on_kept", "outliers_rejected", "matched"]
    assert len(re.findall(r"[\d.]+ % \([\d.]+ to [\d.]+\)", row)) == 3


@pytest.mark.usefixtures("registered", "unrendered")
def test_without_a_terminal_each_part_of_the_work_is_a_line_as_it_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["outliers", "--models", "m1,m2", "--outliers", "inverted"]) == 0
    parts = ("mnist-sample train", "mnist-sample test", "inverted test")
    lines = re.findall(r"^ *(\d+)%  (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert [what for _, what in lines] == [
        *(f"{model}: {part}" for model in ("m1", "m2") for part in parts),
        "measuring", "drawing",
    ]  # fmt: skip
    shares = [int(share) for share, _ in lines]
    assert shares == sorted(shares)
    assert shares[-2:] == [60, 85]


@pytest.mark.usefixtures("registered", "unrendered")
def test_what_matches_is_said_with_what_blind_guessing_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["outliers", "--examples", "3", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert len(list(csv.DictReader(io.StringIO(captured.out)))) == 7
    assert (
        "0 of 3 answers are the number of the image's class; "
        "a blind guess matches none of 3 with a probability of 73 %" in captured.err
    )


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr of a command that could not be done."""
    assert run(["outliers", *arguments]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--models", "champoin"], "did you mean champion?"),
        (["--models", "m1,lr=0.5 epochs=8"], "lr=0.5 epochs=8"),
        (["--models", "models:/mnist-base-cnn@m9"], "alias 'm9'"),
        (["--models", "models:/mnist-base/1"], "mnist-base-cnn"),
        (["--models", "99"], "version 99"),
        (["--models", ","], "no model is named"),
        (["--outliers", "garments"], "unknown outlier set 'garments'"),
        (["--outliers", ","], "no outlier set is named"),
        (["--outliers", "mnist"], "are the images that the models were tested on"),
        (["--examples", "0"], "--examples is 0"),
        (["--examples", "101"], "--examples is 101; it must be a whole number from 1 to 100"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(
    arguments: list[str], messages: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert messages in refused(arguments, capsys)


def folder_of(path: Path, images: torch.Tensor, labels: torch.Tensor) -> str:
    path.mkdir(parents=True)
    write_idx(path / "t10k-images-idx3-ubyte", images)
    write_idx(path / "t10k-labels-idx1-ubyte", labels.to(torch.uint8))
    return str(path)


@pytest.mark.usefixtures("registered", "unrendered")
def test_folders_of_one_name_are_two_sets_and_the_same_images_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    garments = load_split("fashion-mnist-sample", "test")
    halves = [garments.images[:500], garments.images[500:]]
    first, second = (
        folder_of(tmp_path / f"{n}" / "own", part, garments.labels[:500]) for n, part in enumerate(halves)
    )
    assert run(["outliers", "--outliers", f"{first},{second},{first}", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert {row["outliers"] for row in json.loads(captured.out)} == {"own", "own-2"}
    assert f"{first}: the same images are evaluated once" in captured.err


@pytest.mark.usefixtures("registered")
def test_the_digits_themselves_are_no_outliers_under_any_name_or_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_dataset("mnist-sample").test
    folder = folder_of(tmp_path / "strange", digits.images, torch.zeros(len(digits)))
    assert "are the images that the models were tested on" in refused(["--outliers", folder], capsys)


@pytest.mark.usefixtures("unrendered")
def test_a_model_is_found_under_another_name_too(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow_project.tracking.delivery.client import connect

    store = connect(registered.uri)
    version = store.get_model_version_by_alias("mnist-base-cnn", "m2")
    store.create_registered_model("garden-base-cnn")
    run_id = store.create_run("0").info.run_id
    tags = dict(version.tags)
    store.create_model_version("garden-base-cnn", version.source, run_id, tags, model_id=version.model_id)
    store.set_registered_model_alias("garden-base-cnn", "own", "1")
    for arguments in (
        ["--models", "own", "--name", "garden-base-cnn"],
        ["--models", f"runs:/{run_id}/model"],
    ):
        assert run(["outliers", "--outliers", "inverted", *arguments]) == 0
        assert "own: garden-base-cnn version 1" in capsys.readouterr().err
    image = load_dataset("mnist-sample").test.images[0]
    write_idx(Path("digit"), image)
    for arguments in (["--model", "own", "--name", "garden-base-cnn"], ["--model", f"runs:/{run_id}"]):
        assert run(["predict", "digit", *arguments]) == 0
    capsys.readouterr()
    assert "mnist-base-cnn has no runs:/none" in refused(["--models", "runs:/none"], capsys)


@pytest.mark.usefixtures("registered")
def test_an_outlier_set_without_a_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "nothing"
    folder.mkdir()
    (folder / "t10k-images-idx3-ubyte").write_bytes(bytes.fromhex("00000803 00000000 0000001c 0000001c"))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(bytes.fromhex("00000801 00000000"))
    assert "holds no image, expected one at least" in refused(["--outliers", str(folder)], capsys)


@pytest.mark.parametrize("name", ["extra_files/weights.pt", "extra_files/detector.pt", "data/model.pt2"])
def test_a_version_of_which_one_byte_is_changed_is_refused(
    name: str, registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    file = registered.files(2) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    line = refused(["--models", "m1,m2"], capsys)
    assert "mnist-base-cnn version 2 is not what was registered" in line
    assert name in line


@pytest.mark.usefixtures("registered")
def test_a_model_is_not_tested_on_other_digits_than_its_own(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    client.set_model_version_tag("mnist-base-cnn", "2", "dataset_sha256", "f" * 64)
    assert "different images (m1 on mnist-sample, m2 on mnist-sample)" in refused(
        ["--models", "m1,m2"], capsys
    )
    assert "has SHA-256" in refused(["--models", "m2"], capsys)


@pytest.mark.usefixtures("unrendered")
def test_a_test_is_found_again_by_its_versions_images_and_examples(registered: Registered) -> None:
    from mlflow_project.analysis.outlier_test import find_outlier_test, run_outlier_test
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    registry = RegisteredModel(connect(registered.uri))
    assert find_outlier_test(registry, ["m1"], ["inverted"]) is None
    done = run_outlier_test(registry, ["m1"], ["inverted"], 3)
    result = find_outlier_test(registry, ["m1"], ["inverted"], 3)
    assert result is not None
    assert result.run_id == done.run_id
    assert done.matches is not None
    assert result.metrics["matched"] == done.matches.matched
    assert find_outlier_test(registry, ["m1"], ["inverted"]) is None
    assert find_outlier_test(registry, ["m1"], ["noise"], 3) is None
    assert find_outlier_test(registry, ["m1", "m2"], ["inverted"], 3) is None
    registry.client.set_registered_model_alias(registered.name, "m1", "2")
    assert find_outlier_test(registry, ["m1"], ["inverted"], 3) is None


def test_a_signal_ends_the_run_as_killed(registered: Registered) -> None:
    from mlflow_project.analysis.outlier_test import run_outlier_test
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect
    from mlflow_project.training.progress import ProgressListener

    class Listener(ProgressListener):
        def task(self, description: str, share: float) -> None:
            raise Interrupted(signal.SIGTERM)

    store = connect(registered.uri)
    with pytest.raises(Interrupted):
        run_outlier_test(RegisteredModel(store), ["m1"], ["inverted"], listener=Listener())
    experiment = store.get_experiment_by_name("mnist-base-cnn")
    assert experiment is not None
    (runs,) = store.search_runs([experiment.experiment_id])
    assert runs.info.status == "KILLED"
    assert runs.data.tags["status"] == "interrupted"
    assert runs.data.tags["reason"] == "stopped by SIGTERM"


def test_what_mlflow_run_has_written_of_the_request_is_not_written_again(
    registered: Registered, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow_project.analysis import outlier_test
    from mlflow_project.cli import mlflow_run
    from mlflow_project.tracking.delivery.client import connect

    store = connect(registered.uri)
    made = store.create_run("0")
    for key, text in {"models": "lr=0.02,epochs=2", "outliers": "inverted"}.items():
        store.log_param(made.info.run_id, key, text)
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)

    def ask(*arguments: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(outlier_test, "_evaluate_models", ask)
    left = []
    monkeypatch.setattr(mlflow_run, "restore_status", left.append)  # a process that would outlive the test
    assert run(["outliers", "--models", "lr=0.02,epochs=2", "--outliers", "inverted"]) == 143
    run_data = store.get_run(made.info.run_id)
    assert run_data.data.params == {"models": "lr=0.02,epochs=2", "outliers": "inverted", "examples": "10"}
    assert run_data.info.run_name == "outliers: m3 on inverted"
    assert left == [made.info.run_id]
    (journal,) = (Path("state") / "runs").glob("*/cursor.json")
    assert json.loads(journal.read_text(encoding="utf-8"))["refused"] == []


def test_a_version_is_asked_once_and_named_as_it_was_said(registered: Registered) -> None:
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    registry = RegisteredModel(connect(registered.uri))
    assert list(registry.resolve_all(["m1", "champion", "1"])) == ["m1"]
    assert list(registry.resolve_all(["champion", "seed=3", "models:/mnist-base-cnn/2"])) == [
        "champion",
        "m3",
        "m2",
    ]
    registry.client.delete_registered_model_alias("mnist-base-cnn", "m2")
    assert list(registry.resolve_all(["2"])) == ["v2"]
