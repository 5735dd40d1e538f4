"""The real command, killed, torn and cut off at random, ends as if it had been left alone."""

import random
from pathlib import Path

import pytest

from tests.faults import training
from tests.faults.proxy import Proxy

pytestmark = pytest.mark.campaign


def test_a_training_under_faults_equals_one_left_alone(
    server: int, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 30)
    data = training.prepare(tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        wanted = training.reference(tmp_path / "reference", server, data, seed % 1000)
    assert {"train_loss", "batch_loss", "test_accuracy"} <= wanted.points.keys()
    assert {"confusion_matrix.png", "predictions/test.parquet"} <= wanted.artifacts.keys() - wanted.differing
    assert "model 0/data/model.pt2" in wanted.model_files.keys() - wanted.differing
    assert (wanted.status, wanted.models, len(wanted.versions)) == ("FINISHED", ["READY"], 1)
    place = tmp_path / "round"
    place.mkdir()
    result = training.train_round(place, proxy, server, seed, data, wanted, seed % 1000)
    assert result.differences == [], result
    assert (result.lost, result.twice) == (0, 0)
    assert result.points > 20
