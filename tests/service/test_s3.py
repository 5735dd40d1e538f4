"""Artifacts and models in an S3 bucket, through the server: nobody but it needs to know the bucket or its keys."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from tests.service.serving import Serving, start
from tests.support.ports import free_port
from tests.support.tiny import make_tiny, only_run, options

pytestmark = pytest.mark.server

BUCKET = "tracked"
KEYS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "a secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[str]:
    """The address of a server that speaks S3, on loopback."""
    port = free_port()
    with (tmp_path / "s3.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while "Running on" not in (tmp_path / "s3.log").read_text(encoding="utf-8"):
            assert process.poll() is None, (tmp_path / "s3.log").read_text(encoding="utf-8")
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def bucket(s3: str) -> Any:
    """A bucket there, asked for directly."""
    resource = boto3.resource(
        "s3",
        endpoint_url=s3,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )
    return resource.create_bucket(Bucket=BUCKET)


@pytest.fixture
def serving(s3: str, bucket: Any, migrated_store: Path, tmp_path: Path) -> Iterator[Serving]:
    """`serve --artifacts s3://...`; the keys are the server's alone."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(migrated_store.read_bytes())
    served = start(folder, "--artifacts", f"s3://{BUCKET}/runs", MLFLOW_S3_ENDPOINT_URL=s3, **KEYS)
    try:
        served.wait_until_ready()
        yield served
    finally:
        served.end()


def test_a_run_and_its_model_are_kept_in_the_bucket_and_come_back_whole(
    serving: Serving,
    bucket: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import mlflow

    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    mlflow.set_tracking_uri(serving.url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", serving.url)
    tiny = make_tiny(tmp_path / "tiny")
    assert run(["train", "--epochs", "1", *options(tiny)]) == 0
    result = only_run(serving.url)
    assert result.info.artifact_uri.startswith("mlflow-artifacts:")
    saved = {item.key: item.size for item in bucket.objects.all()}
    (figure,) = [key for key in saved if key.endswith("/confusion_matrix.png")]
    assert figure.startswith("runs/")
    assert result.info.run_id in figure
    assert [key for key in saved if key.endswith("/extra_files/weights.pt")]
    assert not list(serving.folder.rglob("*.png"))

    client = MlflowClient(serving.url, registry_uri=serving.url)
    path = Path(client.download_artifacts(result.info.run_id, "confusion_matrix.png", str(tmp_path)))
    assert path.stat().st_size == saved[figure]
    capfd.readouterr()
    assert run(["models", "verify", "--all", "--name", "tiny-base-cnn"]) == 0
    images = str(tiny / "raw" / "t10k-images-idx3-ubyte")
    assert run(["predict", "--model", "1", "--name", "tiny-base-cnn", images]) == 0
    assert len(capfd.readouterr().out.splitlines()) > 200

    # A file that somebody has changed in the bucket is told from the one that was registered.
    (weights,) = [key for key in saved if key.endswith("/extra_files/weights.pt")]
    bucket.put_object(Key=weights, Body=b"another")
    assert run(["models", "verify", "1", "--name", "tiny-base-cnn"]) == 1
    assert "weights.pt has SHA-256" in capfd.readouterr().out
