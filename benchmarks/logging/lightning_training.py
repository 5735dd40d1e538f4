"""`python -m benchmarks.logging.lightning_training WAY PAIRS EVERY`: Lightning's training, logged half of the time.

Prints JSON: seconds, and processor seconds of the thread that trains, of each block of steps, as pairs of one with the
logger and one without, next to each other in one training, so that both see the same machine.
"""

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.logging.ways import ASYNCHRONOUS, BLOCK

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


class Alternation(lightning.Callback):
    """Takes the logger away for every other block, by turns the first and the second of a pair, and times them."""

    def __init__(self, pairs: int) -> None:
        self.logged = [True]  # the first block is not measured: it fills caches
        for number in range(pairs):
            self.logged += [False, True] if number % 2 == 0 else [True, False]
        self.started: list[tuple[float, float]] = []

    @property
    def steps(self) -> int:
        return BLOCK * len(self.logged)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._loggers = trainer.loggers

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % BLOCK == 0:
            self.started.append((time.perf_counter(), time.thread_time()))
            trainer.loggers = self._loggers if self.logged[trainer.global_step // BLOCK] else []

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.started.append((time.perf_counter(), time.thread_time()))
        trainer.loggers = self._loggers

    def pairs(self, clock: int) -> list[tuple[float, float]]:
        """Return (with, without) of each pair by one of the two clocks."""
        spent = [after[clock] - before[clock] for before, after in pairwise(self.started)]
        blocks = list(zip(self.logged, spent, strict=True))[1:]
        both = zip(blocks[::2], blocks[1::2], strict=True)
        return [(dict(pair)[True], dict(pair)[False]) for pair in both]


def main(way: str, pairs: int, every: int) -> dict[str, list[tuple[float, float]]]:
    torch.set_num_threads(1)
    lightning.seed_everything(0, verbose=False)
    images = torch.randn(20 * BATCH, 1, 28, 28)
    data = DataLoader(TensorDataset(images, torch.randint(0, 10, (len(images),))), batch_size=BATCH)
    alternation = Alternation(pairs)
    trainer = lightning.Trainer(
        max_steps=alternation.steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=MLFlowLogger(
            "training",
            tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
            synchronous=False if way == ASYNCHRONOUS else None,
        ),
        callbacks=[alternation],
        log_every_n_steps=every,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), data)
    return {"seconds": alternation.pairs(0), "cpu_seconds": alternation.pairs(1)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))), flush=True)
