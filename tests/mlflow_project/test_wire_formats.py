"""What commit 73a86e6 wrote to disk and into MLflow is read as it was meant, and is written under the same keys.

A format may grow by a key, which is named here (`NEW_KEYS`); it never loses or renames one.
"""

import hashlib
import io
import json
import tarfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hw2.evaluation.predictions import PREDICTION_COLUMNS, read_predictions
from hw2.outliers.detector import OutlierDetector
from hw2.training.checkpoint import load, save
from hw2.training.config import TrainingConfig
from hw2.training.trainer import EpochResult, TrainingState
from mlflow_project.packaging.model_files import CHECKSUMS
from mlflow_project.packaging.pyfunc_model import COLUMNS
from mlflow_project.server.backup import Manifest, backup, verify
from mlflow_project.tracking.identity.alias_log import CHANGE_TAG, AliasChange, changes
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelArtifact,
    ModelInput,
    Param,
    RunEnded,
    RunResumed,
    Tag,
)
from mlflow_project.tracking.journal.format import Cursor, Header, decode_line, encode_line
from mlflow_project.training.run_spec import RunSpec
from tests.support.unpacked import FIXTURES

WIRE = FIXTURES / "wire"
FILES = Path("files")
TIME = 1_795_869_633_173
UUID = "00000000-0000-4000-8000-000000000001"
MODEL_TAGS = {"lr": "0.1", "dataset": "mnist"}

VALUES: list[tuple[Any, str | None]] = [
    (
        Header(
            key="20261128T124033-173-d2f085195b62", tracking_uri="sqlite:////data/mlflow.db",
            experiment="mnist-base-cnn", run_name="lr=0.1 epochs=8", run_id=None, start_time_ms=TIME,
            tags={"fingerprint": "f1"}, artifact_root="/data/mlruns", host="host",
        ),
        None,
    ),
    (
        Header(
            key="key", tracking_uri="http://127.0.0.1:5000", experiment="experiment", run_name="name",
            run_id="0123456789abcdef", start_time_ms=TIME,
        ),
        None,
    ),
    (RunResumed(TIME), None),
    (RunEnded("KILLED", TIME), None),
    (Param("lr", "0.1"), None),
    (Metric("train_loss", 0.25, 3, TIME), None),
    (Metric("outlier_auroc", float("inf"), 0, TIME), None),
    (Metric("outlier_auroc", float("-inf"), 0, TIME), None),
    (Tag("status", "naïve – “completed”\n"), None),
    (Artifact("tables/x.csv", FILES / "ab" / "x.csv"), "ab/x.csv"),
    (LoggedImage("confusion/matrix", 0, FILES / "cd" / "image.png", TIME, UUID), "cd/image.png"),
    (
        DatasetInput(
            "mnist", "a1b2", '{"uri": "raw"}', source_type="local", schema="{}", profile='{"pictures": 10}',
            context="test", tags={"k": "v"},
        ),
        None,
    ),
    (DatasetInput("mnist", "a1b2", "raw"), None),
    (ModelInput("m-0123"), None),
    (ModelArtifact("model", FILES / "ef"), "ef"),
    (
        ModelArtifact(
            "model", FILES / "ef", "mnist-base-cnn", version_tags=MODEL_TAGS, aliases=("m1", "champion"),
            description="A card.", params={"p": "1"}, step=8,
        ),
        "ef",
    ),
]  # fmt: skip


NEW_KEYS = {"journal": {"experiment_tags"}, "model": {"registered_description"}}
"""What lines have that those of commit 73a86e6 lack, by their kind."""


def test_each_value_is_the_same_line_of_a_journal_but_for_new_keys() -> None:
    written = [encode_line(n, value, place) for n, (value, place) in enumerate(VALUES)]
    for line, before in zip(written, (WIRE / "journal.jsonl").read_bytes().splitlines(), strict=True):
        entry, expected = (json.loads(text)["entry"] for text in (line, before))
        new = {key: entry["data"].pop(key) for key in NEW_KEYS.get(entry["kind"], ())}
        assert entry == expected
        assert not any(new.values())
        if not new:
            assert line.rstrip() == before


def test_each_line_of_a_journal_is_the_same_value() -> None:
    lines = (WIRE / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert [decode_line(line, FILES) for line in lines] == [(n, value) for n, (value, _) in enumerate(VALUES)]


def test_a_metric_that_is_no_number_is_one_on_disk_as_well() -> None:
    line = encode_line(0, Metric("m", float("nan"), 0, TIME))
    assert json.loads(line)["entry"]["data"]["value"] == "nan"
    _, value = decode_line(line, FILES)
    assert isinstance(value, Metric)
    assert np.isnan(value.value)


def test_every_kind_of_value_is_among_these_lines() -> None:
    kinds = {json.loads(line)["entry"]["kind"] for line in (WIRE / "journal.jsonl").read_bytes().splitlines()}
    assert kinds == {
        "journal", "start", "end", "parameter", "metric", "tag", "artifact", "image", "dataset", "model input",
        "model",
    }  # fmt: skip


def test_the_image_of_the_chart_view_has_the_name_that_mlflow_reads() -> None:
    image = LoggedImage("confusion/matrix", 0, FILES, TIME, UUID)
    assert image.path == f"images/confusion~matrix+step+0+timestamp+{TIME}+{UUID}.png"


CURSOR = Cursor(
    position=0, n=12, delivered=11, run_id="0123", experiment_id="1", ended="FINISHED", parts={"experiment": "1"},
    uploaded={"x.csv": "ab"}, models={"model": "m-1"}, versions={"model": "mnist-base-cnn/1"},
    refused=["Tag: too long"],
)  # fmt: skip


def test_a_cursor_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b"")
    CURSOR.save(tmp_path)
    written = json.loads((tmp_path / "cursor.json").read_bytes())
    assert written.pop("notes") == []  # is new since commit 73a86e6
    assert written == json.loads((WIRE / "cursor.json").read_bytes())
    assert Cursor.load(tmp_path) == CURSOR


CUSTOM = TrainingConfig(
    lr=0.1, epochs=8, batch_size=32, optimizer="sgd", momentum=0.9, seed=7, dataset="kmnist", validation_size=500,
    precision="float32", device="cpu", threads=2, model="net.py:Net", model_source="class Net: ...\n",
)  # fmt: skip
PLANS = {
    "plan.json": RunSpec(config=TrainingConfig(validation_size=5000)),
    "plan_full.json": RunSpec(
        config=CUSTOM,
        data_dir=Path("/data"),
        tags={"sweep_sha256": "ab"},
        register=False,
        aliases=("m1", "champion"),
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_is_the_same_file(name: str) -> None:
    text = (WIRE / name).read_text(encoding="utf-8")
    # Before there was a warm-up, a training had none.
    plan = replace(PLANS[name], config=replace(PLANS[name].config, warmup=0))
    assert RunSpec.from_json(text) == plan
    written = json.loads(plan.to_json())
    assert written["config"].pop("warmup") == 0
    assert json.dumps(written, indent=1) == text


CHANGE = AliasChange(
    "champion", None, 4, when="2026-11-28 12:42:23 UTC", who="somebody@host",
    evidence={"weights": "weights verified (ab)"}, objections=("version 3 is better – by far",), because="smaller",
)  # fmt: skip


def test_a_change_of_an_alias_is_the_same_tag() -> None:
    text = (WIRE / "change.json").read_text(encoding="utf-8")
    assert CHANGE.text == text
    assert CHANGE_TAG == "alias_change."
    assert changes({f"{CHANGE_TAG}000001-abcdef": text}) == [CHANGE]


def test_a_manifest_of_a_backup_is_read_and_has_the_same_keys(tmp_path: Path, store: str) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "store.db").write_bytes(b"store")
    sealed = (WIRE / "manifest.json").read_text(encoding="utf-8")
    (old / "manifest.json").write_text(sealed, encoding="utf-8")
    digest = hashlib.sha256(b"store").hexdigest()
    assert verify(old) == Manifest(
        created="2026-11-28T12:42:23+00:00",
        mlflow="3.17.2",
        store="sqlite",
        artifact_root="/data/mlruns",
        runs=2,
        versions=1,
        files={"store.db": [digest, 5]},
        missing=["m-1"],
    )
    (tmp_path / "mlruns").mkdir()
    backup(store, [tmp_path / "mlruns"], tmp_path / "new")
    new = json.loads((tmp_path / "new" / "manifest.json").read_text(encoding="utf-8"))
    assert new.keys() == json.loads(sealed).keys()
    before = json.loads(json.loads(sealed)["manifest"])
    assert json.loads(new["manifest"]).keys() == before.keys() | {"more_roots"}


def stored_file(tmp_path: Path, ending: str, having: str = "") -> Path:
    """One file out of what was stored."""
    with tarfile.open(FIXTURES / "stored.tar.xz") as archive:
        member = next(m for m in archive.getmembers() if m.name.endswith(ending) and having in m.name)
        stream = archive.extractfile(member)
        assert stream is not None
        path = tmp_path / Path(ending).name
        path.write_bytes(stream.read())
    return path


CHECKPOINT_KEYS = [
    "fingerprint", "weights", "epoch", "batch", "seconds", "losses", "correct", "batch_losses", "history", "own_net",
]  # fmt: skip
HISTORY_KEYS = [
    "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "epoch_seconds",
    "images_per_second",
]  # fmt: skip
HEADER_BYTES = len(b"hw2 state 1\n") + 64 + len(b"\n")


def payload(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, read without our own code."""
    content = path.read_bytes()
    assert content.startswith(b"hw2 state 1\n")
    plain: dict[str, Any] = torch.load(io.BytesIO(content[HEADER_BYTES:]), weights_only=True)
    return plain


def test_a_checkpoint_has_the_same_keys(tmp_path: Path) -> None:
    result = EpochResult(1, 0.5, 0.8, None, None, 2.0, 1750.0)
    weights = {"w": torch.ones(2), "momentum.w": torch.zeros(2)}
    own = ("Net", "class Net: ...\n")
    state = TrainingState(
        "f1", weights, 1, 2, 0.5, losses=torch.ones(2), correct=60, batch_losses=[(50, 0.5)], history=[result],
        custom_net=own,
    )  # fmt: skip
    save(tmp_path / "checkpoint.pt", state)
    plain = payload(tmp_path / "checkpoint.pt")
    assert set(plain) == {*CHECKPOINT_KEYS, "suspended"}  # is new
    assert [set(row) for row in plain["history"]] == [{*HISTORY_KEYS, "suspended_seconds"}]  # is new
    again = load(tmp_path / "checkpoint.pt")
    assert torch.equal(again.weights["momentum.w"], torch.zeros(2))
    assert (again.batch_losses, again.history, again.custom_net) == ([(50, 0.5)], [result], own)


def test_the_checkpoint_of_the_killed_run_is_read(tmp_path: Path) -> None:
    path = stored_file(tmp_path, "checkpoint.pt", having="killed")
    plain = payload(path)
    assert list(plain) == CHECKPOINT_KEYS
    state = load(path)
    (result,) = state.history
    assert asdict(result) == {**plain["history"][0], "suspended_seconds": None}
    assert (state.epoch, state.batch, state.fingerprint) == (1, 0, plain["fingerprint"])
    assert set(state.model().state_dict()) == set(plain["weights"])


DETECTOR_SHAPES = {
    "strokes_means": ((10, 32), torch.float32),
    "strokes_whitening": ((32, 32), torch.float32),
    "shapes_means": ((10, 64), torch.float32),
    "shapes_whitening": ((64, 64), torch.float32),
    "references": ((3500, 10), torch.float16),
    "curve_values": ((5, 256), torch.float64),
    "curve_rates": ((5,), torch.float64),
    "threshold": ((), torch.float64),
    "keep": ((), torch.float64),
    "held_out": ((), torch.int64),
    "threshold_from_training": ((), torch.bool),
}


def test_the_detector_of_a_registered_model_is_read_and_written_alike(tmp_path: Path) -> None:
    state = torch.load(stored_file(tmp_path, "extra_files/detector.pt", "m-f439a3cc"), weights_only=True)
    assert {name: (tuple(t.shape), t.dtype) for name, t in state.items()} == DETECTOR_SHAPES
    again = OutlierDetector.from_state_dict(state).state_dict()
    assert list(again) == list(DETECTOR_SHAPES)
    for name, tensor in state.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor)


def test_the_files_of_a_registered_model_are_where_they_were() -> None:
    with tarfile.open(FIXTURES / "stored.tar.xz") as archive:
        names = [m.name for m in archive.getmembers() if m.isfile() and "/m-f439a3cc" in m.name]
    files = {name.partition("/artifacts/")[2] for name in names}
    assert {
        "MLmodel", "data/model.pt2", "extra_files/weights.pt", "extra_files/detector.pt", CHECKSUMS,
        "requirements.txt", "conda.yaml", "python_env.yaml", "input_example.json",
    } <= files  # fmt: skip
    assert CHECKSUMS == "extra_files/SHA256SUMS"


def test_predictions_have_the_same_columns_and_are_read(tmp_path: Path) -> None:
    logits = [f"logit_{digit}" for digit in range(10)]
    assert ["index", "label", "predicted", *logits, "outlier_score", "rejected"] == PREDICTION_COLUMNS
    predictions = read_predictions(stored_file(tmp_path, "predictions/test.parquet"))
    assert predictions.logits.shape == (1000, 10)
    assert np.array_equal(predictions.logits.argmax(axis=1), predictions.predicted)
    assert predictions.outlier_score is not None
    assert predictions.rejected is not None
    assert (predictions.name, len(predictions.sha256)) == ("mnist-sample", 64)


def test_a_served_model_answers_with_the_same_columns() -> None:
    assert COLUMNS == {
        "label": "long", "probability": "double", "outlier_score": "double", "not_a_digit": "boolean"
    }  # fmt: skip
