"""What a training was told is in its run, its model and its plan, and nowhere where nothing was told."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from hw2.data.image_set import load_dataset
from hw2.models.factory import weights_sha256
from hw2.training.config import TrainingConfig
from hw2.training.runtime import ResolvedRuntime, resolve_runtime
from hw2.training.split import split_validation
from hw2.training.trainer import Trainer
from mlflow_project.cli.main import run
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.spool import FileSpool
from mlflow_project.training import inputs
from tests.support.tiny import VALIDATION, full, only_run, options

pytestmark = pytest.mark.usefixtures("unrendered")

OPTIONS = {
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.0005,
    "label_smoothing": 0.1,
    "clip_norm": 2.0,
    "schedule": "cosine",
    "augment": "flip,shift",
    "patience": 3,
}
WORDS = [
    *("--momentum", "0.9", "--nesterov", "yes", "--weight-decay", "5e-4", "--label-smoothing", "0.1"),
    *("--clip-norm", "2", "--schedule", "cosine", "--augment", "shift,flip", "--patience", "3"),
]
PATIENT = ["--lr", "0.01", "--optimizer", "adamw", "--warmup", "0", "--patience", "1"]
"""At this rate the loss on ten patterns soon doesn't fall any more."""


def runs_of(store: str) -> list[Run]:
    return list(MlflowClient(store).search_runs(["1"], "params.lr != ''", order_by=["params.epochs ASC"]))


def train_alone(tiny: Path, **options: Any) -> Trainer:
    """Outside of any run."""
    config = TrainingConfig(**{"dataset": str(tiny), "validation_size": VALIDATION, "threads": 1, **options})
    dataset = load_dataset(str(tiny))
    train, validation = split_validation(dataset.train, VALIDATION)
    alone = Trainer(config, resolve_runtime(config), dataset.sha256, train, validation)
    list(alone.epochs())
    return alone


def result_of(training: Trainer) -> str:
    return weights_sha256(training.state().model().state_dict())


def test_all_that_was_told_is_in_the_run_its_version_and_its_description(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--lr", "0.01", "--epochs", "2", *WORDS, *options(tiny)]) == 0
    trained = only_run(store)
    texts = {key: str(value) for key, value in OPTIONS.items()}
    assert trained.data.params.items() >= texts.items()
    name = " ".join(f"{key}={value}" for key, value in texts.items() if key != "patience")
    assert f"lr=0.01 epochs=2 {name} patience=3" in trained.info.run_name
    model = f"{tiny.name}-base-cnn"
    version = MlflowClient(store).get_model_version(model, "1")
    assert version.tags.items() >= texts.items()
    assert "schedule cosine, augment flip,shift, patience 3" in trained.data.tags["mlflow.note.content"]
    assert trained.data.tags["weights_sha256"] == result_of(train_alone(tiny, lr=0.01, epochs=2, **OPTIONS))
    capsys.readouterr()
    assert run(["models", "show", "1", "--name", model, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0].items() >= texts.items()


def test_what_was_not_told_is_nowhere(tiny: Path, store: str) -> None:
    assert run(["train", "--lr", "0.01", "--epochs", "1", *options(tiny)]) == 0
    trained = only_run(store)
    version = MlflowClient(store).get_model_version(f"{tiny.name}-base-cnn", "1")
    for key in OPTIONS.keys() - {"momentum"}:
        assert key not in trained.data.params
        assert key not in version.tags
    assert trained.data.metrics.keys().isdisjoint({"best_epoch", "last_epoch"})
    assert "early_stopping" not in trained.data.tags
    (local,) = local_runs.local_runs()
    spec = json.loads((local.folder / local_runs.RUN_SPEC_FILE).read_text(encoding="utf-8"))
    assert spec["config"].keys().isdisjoint(OPTIONS.keys() - {"momentum"})


def test_versions_are_found_by_what_they_were_told_and_by_what_they_were_not(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in ([], WORDS):
        assert run(["train", "--lr", "0.01", "--epochs", "1", *words, *options(tiny)]) == 0
    find = ["models", "find", "--name", f"{tiny.name}-base-cnn", "--format", "json"]
    for words, number in (
        (["--weight-decay", "0.00050"], 2),
        (["--weight-decay", "0"], 1),
        (["--schedule", "constant"], 1),
        (["--schedule", "cosine", "--augment", "shift,flip", "--clip-norm", "2.0"], 2),
        (["--nesterov", "no"], 1),
        (["--nesterov", "yes", "--label-smoothing", "0.1"], 2),
    ):
        capsys.readouterr()
        assert run([*find, *words]) == 0
        assert [row["version"] for row in json.loads(capsys.readouterr().out)] == [number], words
    assert run([*find, "--augment", "flip"]) == 1


def test_early_stopping_says_where_it_stopped_and_keeps_and_tests_the_best(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--epochs", "40", *PATIENT, *options(tiny)]) == 0
    trained = only_run(store)
    metrics = trained.data.metrics
    best, last = int(metrics["best_epoch"]), int(metrics["last_epoch"])
    assert last == best + 1 < 40
    text = f"stopped after epoch {last} of 40; the validation loss was least after epoch {best}, whose weights are kept"
    assert trained.data.tags["early_stopping"] == text
    assert text in capsys.readouterr().err
    alone = train_alone(tiny, lr=0.01, optimizer="adamw", warmup=0, epochs=best)
    assert trained.data.tags["weights_sha256"] == result_of(alone)
    version = MlflowClient(store).get_model_version(f"{tiny.name}-base-cnn", "1")
    assert float(version.tags["validation_accuracy"]) == alone.history[-1].validation_accuracy
    history = MlflowClient(store).get_metric_history(trained.info.run_id, "validation_loss")
    assert [metric.step for metric in history] == list(range(1, last + 1))
    assert f"after epoch {best} of {last}" in trained.data.tags["mlflow.note.content"]


def test_a_run_that_patience_had_ended_is_completed_where_it_found_no_room(
    tiny: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FileSpool, "_copy", full)
        assert run(["train", "--epochs", "40", *PATIENT, *options(tiny)]) == 1
    assert run(["train", "--resume", only_run(store).info.run_id]) == 0
    trained = only_run(store)
    alone = train_alone(tiny, lr=0.01, optimizer="adamw", warmup=0, epochs=40, patience=1)
    assert trained.data.metrics["last_epoch"] == len(alone.history) < 40
    assert trained.data.tags["weights_sha256"] == result_of(alone)


@pytest.mark.parametrize("schedule", ["constant", "one-cycle"])
def test_a_run_is_resumed_with_the_epochs_that_it_was_begun_with(
    schedule: str,
    tiny: Path,
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--schedule", schedule, "--lr", "0.02"]
    with monkeypatch.context() as patch:
        patch.setattr(FileSpool, "_copy", full)
        assert run(["train", "--epochs", "2", *words, *options(tiny)]) == 1
    run_id = only_run(store).info.run_id
    for wrong in (["--epochs", "3"], ["--epochs", "1"], ["--schedule", "cosine"], ["--augment", "flip"]):
        capsys.readouterr()
        assert run(["train", "--resume", run_id, *wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        field = wrong[0].removeprefix("--")
        assert f"{field} is {wrong[1]} but run {run_id} was begun with" in line
        assert f"leave {field} out, or start a new run" in line
    # With no epoch left, it is tested and registered.
    assert run(["train", "--resume", run_id, "--epochs", "2", *words]) == 0
    expected = result_of(train_alone(tiny, lr=0.02, epochs=2, schedule=schedule))
    assert only_run(store).data.tags["weights_sha256"] == expected


def test_in_a_sweep_trainings_with_patience_share_epochs_and_each_ends_as_if_alone(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweep", "--epochs", "1,2,40", *PATIENT, *options(tiny)]
    assert run([*sweep, "--dry-run", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert {row["training"] for row in json.loads(out)} == {1}
    assert "40 epochs in 1 job (43 without sharing)" in err
    assert run(sweep) == 0
    trained = {run_.data.params["epochs"]: run_.data for run_ in runs_of(store)}
    assert trained.keys() == {"1", "2", "40"}
    for epochs, data in trained.items():
        alone = train_alone(tiny, lr=0.01, optimizer="adamw", warmup=0, epochs=int(epochs), patience=1)
        assert data.tags["weights_sha256"] == result_of(alone), epochs
        assert data.metrics["last_epoch"] == len(alone.history)
    assert trained["40"].metrics["last_epoch"] < 40


def test_in_a_sweep_trainings_under_a_schedule_share_nothing_and_the_plan_says_why(
    tiny: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["sweep", "--lr", "0.02", "--epochs", "1,2", "--schedule", "one-cycle", *options(tiny)]
    assert run([*sweep, "--dry-run", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert [row["training"] for row in json.loads(out)] == [1, 2]
    assert "3 epochs in 2 jobs" in err
    assert "schedule one-cycle has other rates for each number of epochs" in err
    assert run(sweep) == 0
    for trained in runs_of(store):
        alone = train_alone(tiny, lr=0.02, epochs=int(trained.data.params["epochs"]), schedule="one-cycle")
        assert trained.data.tags["weights_sha256"] == result_of(alone)
    capsys.readouterr()
    constant = ["sweep", "--lr", "0.02", "--epochs", "1,2", *options(tiny)]
    assert run([*constant, "--dry-run"]) == 0
    assert "share no training" not in capsys.readouterr().err


def test_a_step_by_autograd_is_neither_compiled_nor_given_all_threads_unmeasured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hw2.train_step.simd.compiled_before", lambda: False)
    monkeypatch.setattr("hw2.training.thread_count.fastest_threads", lambda *_: 3)
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    here = ResolvedRuntime("float32", "cpu", 1)
    for option, autograd in (
        ({}, False),
        ({"augment": "flip"}, False),
        ({"schedule": "cosine"}, False),
        ({"weight_decay": 0.1}, True),
        ({"optimizer": "adamw"}, True),
    ):
        config = TrainingConfig(device="cpu", **option)  # type: ignore[arg-type]
        assert bool(inputs.compilation_note(config, here)) is not autograd, option
        assert inputs.runtime_of(config).threads == (3 if autograd else 8), option
