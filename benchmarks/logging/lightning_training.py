"""`python -m benchmarks.logging.lightning_training WAY STEPS EVERY`: a small training with Lightning, measured.

Prints JSON: seconds of the training, and processor seconds of the thread that trains.
"""

import json
import os
import sys
import time
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.logging.ways import ASYNCHRONOUS, NO_LOGGER

BATCH = 128


class Classifier(lightning.LightningModule):
    """A network whose step takes some milliseconds on a processor."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 13 * 13, 10)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        outputs = self.net(images)
        loss = nn.functional.cross_entropy(outputs, labels)
        self.log("train_loss", loss)
        self.log("train_accuracy", (outputs.argmax(1) == labels).float().mean())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def main(way: str, steps: int, every: int) -> dict[str, float]:
    torch.set_num_threads(1)
    lightning.seed_everything(0, verbose=False)
    images = torch.randn(20 * BATCH, 1, 28, 28)
    data = DataLoader(TensorDataset(images, torch.randint(0, 10, (len(images),))), batch_size=BATCH)
    logger: Any = False
    if way != NO_LOGGER:
        logger = MLFlowLogger(
            "training",
            tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
            synchronous=False if way == ASYNCHRONOUS else None,
        )
    trainer = lightning.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = Classifier()
    started, used = time.perf_counter(), time.thread_time()
    trainer.fit(model, data)
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.thread_time() - used}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), flush=True)
