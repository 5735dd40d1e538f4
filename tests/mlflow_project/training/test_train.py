"""`train`: every name that people compare by is in the run."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hw2.data import catalog
from mlflow_project.cli import main
from mlflow_project.training import ui_views
from tests.support.tiny import FIGURES, TEST, TRAIN, VALIDATION, only_run, options

PARAMETERS = {
    "lr",
    "epochs",
    "batch_size",
    "optimizer",
    "momentum",
    "warmup",
    "seed",
    "dataset",
    "validation_size",
    "precision",
    "device",
    "threads",
}
EPOCH_METRICS = {
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "epoch_seconds",
    "images_per_second",
}
FINAL_METRICS = {
    "train_seconds",
    "test_seconds",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_loss",
    "test_calibration_error",
    "model_size_bytes",
    "outlier_auroc",
    "outlier_rejected",
    "test_rejected",
}
TAGS = {
    "status",
    "configuration_sha256",
    "fingerprint",
    "dataset_sha256",
    "code_sha256",
    "weights_sha256",
    "precision_used",
    "device_used",
    "host",
    "resumed",
}
VERSION_TAGS = ["lr", "epochs", "seed", "test_accuracy", "weights_sha256", "dataset_sha256", "fingerprint"]
PREDICTION_COLUMNS = [
    "index",
    "label",
    "predicted",
    *(f"logit_{d}" for d in range(10)),
    "outlier_score",
    "rejected",
]


class TestARun:
    """One training on tiny images, looked at from every side."""

    def test_it_has_every_name_of_the_contract(self, tiny: Path, store: str, tmp_path: Path) -> None:
        import pandas as pd

        assert main.run(["train", "--lr", "0.05", "--epochs", "3", "--batch-size", "8", *options(tiny)]) == 0
        run, client = only_run(store), MlflowClient(store)
        assert (run.info.status, run.info.run_name) == (
            "FINISHED",
            f"lr=0.05 epochs=3 batch_size=8 dataset={tiny}",
        )
        assert set(run.data.params) == PARAMETERS
        assert run.data.params["warmup"] == "100"
        assert (run.data.params["lr"], run.data.params["epochs"]) == ("0.05", "3")
        assert set(run.data.tags) >= TAGS
        assert (run.data.tags["status"], run.data.tags["resumed"]) == ("completed", "0")
        assert set(run.data.metrics) == {*EPOCH_METRICS, "batch_loss", *FINAL_METRICS}
        for name in EPOCH_METRICS:
            assert [p.step for p in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3], name
        assert [p.step for p in client.get_metric_history(run.info.run_id, "batch_loss")] == [50, 100, 150]
        for name in FINAL_METRICS:
            assert len(client.get_metric_history(run.info.run_id, name)) == 1, name

        folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
        assert {p.name for p in folder.glob("*.png")} == {f"{stem}.png" for stem in FIGURES}
        assert {p.name for p in (folder / "tables").iterdir()} == {f"{stem}.csv" for stem in FIGURES}
        # 144,266 weights of 4 bytes are 563.5 KiB, and the file's own index a little more.
        assert 563.5 < run.data.metrics["model_size_bytes"] / 1024 < 570
        assert all(p.read_bytes()[:4] == b"\x89PNG" for p in folder.glob("*.png"))
        grid = {re.split(r"[+%]", p.name)[0] for p in (folder / "images").iterdir()}
        assert grid == {"confusion_matrix", "outlier_predictions"}
        for stem, count in (("test", 200), ("outliers", 1_000)):
            frame = pd.read_parquet(folder / "predictions" / f"{stem}.parquet")
            assert list(frame.columns) == PREDICTION_COLUMNS
            assert len(frame) == count
        test = pd.read_parquet(folder / "predictions" / "test.parquet")
        assert run.data.metrics["test_accuracy"] == (test["label"] == test["predicted"]).mean()
        assert run.data.metrics["test_rejected"] == test["rejected"].mean()

        contexts = {
            tag.value for i in run.inputs.dataset_inputs for tag in i.tags if tag.key == "mlflow.data.context"
        }
        assert {"training", "validation", "test"} <= contexts
        (version,) = client.search_model_versions(f"name = '{tiny.name}-base-cnn'")
        assert set(VERSION_TAGS) <= set(version.tags)
        assert version.run_id == run.info.run_id
        assert version.tags["weights_sha256"] == run.data.tags["weights_sha256"]
        assert version.source.startswith("models:/m-")

    @pytest.mark.usefixtures("unrendered")
    def test_its_name_is_the_configuration_as_a_person_says_it(
        self, tiny: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = dataclasses.replace(catalog.DATASETS["mnist"], sizes=(TRAIN, TEST), md5={})
        monkeypatch.setitem(catalog.DATASETS, "mnist", known)
        arguments = ["--validation-size", str(VALIDATION), "--threads", "1", "--data-dir", str(tiny)]
        assert main.run(["train", "--lr", "0.1", "--epochs", "8", *arguments]) == 0
        assert only_run(store).info.run_name == "lr=0.1 epochs=8"
        (version,) = MlflowClient(store).search_model_versions("name = 'mnist-base-cnn'")
        assert version.tags["dataset"] == "mnist"

    @pytest.mark.usefixtures("unrendered")
    def test_without_validation_images_it_has_no_validation_figures(self, tiny: Path, store: str) -> None:
        assert (
            main.run(["train", "--epochs", "1", *options(tiny), "--validation-size", "0", "--no-register"])
            == 0
        )
        run = only_run(store)
        assert not [name for name in run.data.metrics if name.startswith("validation")]
        assert MlflowClient(store).search_model_versions() == []

    @pytest.mark.usefixtures("unrendered")
    def test_stdout_is_the_result_and_stderr_the_course(
        self, tiny: Path, store: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert main.run(["train", "--epochs", "2", "--format", "json", *options(tiny)]) == 0
        captured = capfd.readouterr()
        (row,) = json.loads(captured.out)
        run = only_run(store)
        assert row["run_id"] == run.info.run_id
        assert row["test_accuracy"] == run.data.metrics["test_accuracy"]
        lines = captured.err.splitlines()
        assert re.search(r"500 images.*cpu, \w+, 1 thread$", lines[0])
        assert lines.count(f"run {run.info.run_id} in {store}") == 1
        assert [line[:9] for line in lines if line.startswith("epoch")] == ["epoch 1/2", "epoch 2/2"]
        assert "mlflow ui" in lines[-2]
        page = f"/#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning&"
        for view, line in zip((ui_views.table(["dataset"]), ui_views.charts()), lines[-2:], strict=True):
            assert line.endswith(page + view.query)

    def test_the_sample_is_said_and_cannot_be_mistaken_for_the_full_set(
        self, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert main.run(["train", "--lr", "1000", "--threads", "1"]) == 1
        err = capfd.readouterr().err
        assert "bundled 4,000-image sample, which is for trying out, not for choosing" in err
        run = only_run(store)
        assert run.data.tags["dataset"] == "mnist-sample"

    @pytest.mark.usefixtures("unrendered")
    def test_parameters_that_mlflow_run_has_written_are_taken_as_they_are(
        self, tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = MlflowClient(store)
        made = client.create_run(client.create_experiment("mnist-base-cnn"))
        client.log_param(made.info.run_id, "lr", "1e-1")
        client.log_param(made.info.run_id, "epochs", "01")
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        assert main.run(["train", "--lr", "1e-1", "--epochs", "01", *options(tiny)]) == 0
        run = only_run(store)
        assert (run.info.run_id, run.info.status) == (made.info.run_id, "FINISHED")
        assert (run.data.params["lr"], run.data.params["epochs"]) == ("1e-1", "01")
        assert run.info.run_name == f"lr=0.1 epochs=1 dataset={tiny}"


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize(("folder", "name"), [("a:b c", "a-b-c"), ("mnist", "mnist-folder"), ("raw", "tiny")])
def test_a_folder_s_model_is_registered_under_a_name_of_its_own(
    folder: str, name: str, tiny: Path, store: str
) -> None:
    data = (tiny / "raw").rename(tiny / folder)
    assert main.run(["train", "--epochs", "1", *options(data)]) == 0
    (model,) = MlflowClient(store).search_registered_models()
    assert model.name == f"{name}-base-cnn"
