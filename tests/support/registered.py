"""Three registered models: trained and delivered once, copied for each test."""

import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

SEEDS = (0, 2, 3)


@dataclass(frozen=True)
class Registered:
    """A store of the test's own with three versions of `mnist-base-cnn`, trained a little on the sample.

    Their aliases are m1 to m3, and champion is the first.
    """

    uri: str
    folder: Path
    name: str = "mnist-base-cnn"

    def files(self, number: int) -> Path:
        """The folder with a version's files, which the test may change."""
        connection = sqlite3.connect(self.folder / "mlflow.db")
        location: str = connection.execute(
            "SELECT artifact_location FROM logged_models JOIN model_versions "
            "ON model_versions.source = 'models:/' || logged_models.model_id WHERE version = ?",
            (number,),
        ).fetchone()[0]
        connection.close()
        return Path(location.removeprefix("file://"))


def register_models(folder: Path, migrated_store: Path) -> None:
    """Deliver the three models into a store in `folder`."""
    shutil.copyfile(migrated_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
        for number, seed in enumerate(SEEDS, 1):
            _register(f"sqlite:///{folder}/mlflow.db", seed, f"m{number}", champion=number == 1)


def _register(uri: str, seed: int, alias: str, champion: bool) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from hw2.data.image_set import load_dataset, load_split
    from hw2.models.factory import new_model, weights_sha256
    from hw2.outliers.assessment import assess
    from hw2.training.config import TrainingConfig
    from hw2.training.runtime import ResolvedRuntime
    from mlflow_project.packaging import model_files
    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import ModelArtifact, RunEnded
    from mlflow_project.tracking.journal.writer import Journal
    from mlflow_project.training import log_values

    dataset, outliers = load_dataset("mnist-sample"), load_split("fashion-mnist-sample", "test")
    train, validation = (dataset.train.subset(torch.arange(n, n + 500)) for n in (0, 500))
    model = new_model(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for index in torch.arange(500).repeat(2).split(16):
        optimizer.zero_grad()
        cross_entropy(model(train.images[index]), train.labels[index]).backward()
        optimizer.step()
    model.eval().requires_grad_(False)
    some = torch.arange(100)
    assessment = assess(model, train, validation, dataset.test.subset(some), outliers.subset(some))
    config = TrainingConfig(lr=0.02, epochs=2, batch_size=16, seed=seed, validation_size=500)
    journal = Journal.create(uri, "tests", config.name)
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "model"
        model_files.write_model_files(files, model, assessment.detector, dataset.test.images[:2].clone())
        digest, sums = weights_sha256(model.state_dict()), model_files.files_sha256(files)
        tags = log_values.version_tags(
            config, dataset, "fixture", assessment, digest, sums, runtime=ResolvedRuntime("float32", "cpu", 1)
        )
        aliases = (alias, "champion") if champion else (alias,)
        model_artifact = ModelArtifact("model", files, "mnist-base-cnn", version_tags=tags, aliases=aliases)
        journal.append(model_artifact, RunEnded())
    journal.close()
    delivery = deliver(journal.folder)
    assert delivery.complete, delivery.problem
