"""A training without a net: a process that says, through the journal, what a run of some seed has to say.

    python -m tests.faults.play TRACKING_URI KEY_FILE --seed 1 --epochs 3 --pause 0.05

The first start writes the folder of its run into KEY_FILE; a later start goes on with that run, as after a
checkpoint: it says the last epoch again.
"""

import argparse
import hashlib
import random
import time
from pathlib import Path

from mlflow_project.tracking.delivery.background import BackgroundUploader
from mlflow_project.tracking.journal.entities import (
    Artifact,
    DatasetInput,
    LoggedImage,
    Metric,
    ModelArtifact,
    Param,
    RunEnded,
    RunResumed,
    Tag,
)
from mlflow_project.tracking.journal.fsio import replace
from mlflow_project.training.training_journal import TrainingJournal

EXPERIMENT = "faults"
REGISTERED = "faults-model"
BATCHES = 30
"""Points of `batch_loss` an epoch."""


def parameters(seed: int) -> dict[str, str]:
    return {"lr": "0.1", "seed": str(seed), "dataset": "mnist-sample"}


def points(seed: int, epoch: int) -> list[tuple[str, int, float]]:
    """Key, step and value of every point of an epoch."""
    chance = random.Random(f"{seed} {epoch}")
    losses = [("batch_loss", (epoch - 1) * BATCHES + i, chance.random()) for i in range(1, BATCHES + 1)]
    return [*losses, ("train_loss", epoch, chance.random()), ("validation_loss", epoch, float("nan"))]


def files(seed: int) -> dict[str, bytes]:
    """Paths and contents of the run's artifacts."""
    chance = random.Random(seed)
    return {
        "loss_curve.png": chance.randbytes(20_000),
        "tables/loss_curve.csv": chance.randbytes(300),
        "predictions/test.parquet": chance.randbytes(200_000),
    }


def weights(seed: int) -> bytes:
    return hashlib.sha256(str(seed).encode()).digest() * 3000


def write(folder: Path, seed: int) -> tuple[list[Artifact], ModelArtifact, Path]:
    from PIL import Image

    for path, content in files(seed).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    model = folder / "model" / "data"
    model.mkdir(parents=True, exist_ok=True)
    (model / "model.pt2").write_bytes(weights(seed))
    (model.parent / "MLmodel").write_text("flavors: {}\nmodel_id: null\n", encoding="utf-8")
    image = folder / "image.png"
    Image.new("RGB", (64, 64), (seed % 256, 0, 0)).save(image)
    artifacts = [Artifact(path, folder / path) for path in files(seed)]
    return (
        artifacts,
        ModelArtifact(
            "model", model.parent, REGISTERED, version_tags={"seed": str(seed)}, aliases=(f"s{seed}",)
        ),
        image,
    )


def play(uri: str, key_file: Path, seed: int, epochs: int, pause: float, wait: float) -> int:
    """The number of values that are not delivered when the process ends."""
    if key_file.exists():
        journal = TrainingJournal.open(Path(key_file.read_text(encoding="utf-8")))
        journal.append(RunResumed(), Tag("status", "started"))
        first = journal.last_step("train_loss") or 1
    else:
        journal = TrainingJournal.create(uri, EXPERIMENT, f"seed={seed}")
        replace(key_file, str(journal.folder).encode())
        first = 1
    sender = BackgroundUploader(journal).start()
    journal.append(*(Param(key, value) for key, value in parameters(seed).items()))
    journal.append(DatasetInput("mnist-sample", "abc", "embedded"), Tag("status", "started"))
    for epoch in range(first, epochs + 1):
        for key, step, value in points(seed, epoch):
            journal.append(Metric(key, value, step))
            time.sleep(pause / BATCHES)
        journal.sync()
    made = journal.folder / "made"
    artifacts, model, image = write(made, seed)
    journal.append(LoggedImage("confusion_matrix", epochs, image), *artifacts, model)
    journal.append(Tag("status", "completed"), RunEnded())
    journal.sync()
    delivery = sender.wait(wait)
    sender.stop()
    journal.close()
    return delivery.pending


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("uri")
    parser.add_argument("key_file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds an epoch")
    parser.add_argument("--wait", type=float, default=20.0)
    options = parser.parse_args()
    play(options.uri, options.key_file, options.seed, options.epochs, options.pause, options.wait)
