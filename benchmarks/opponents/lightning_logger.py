"""Lightning with its `MLFlowLogger`, or with `mlflow.pytorch.autolog` where `autolog` is a fourth argument."""

import os
import sys
from typing import Any

import lightning
import mlflow
import torch
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.usual import Net
from hw2.model import MEAN, SCALE


class Classifier(lightning.LightningModule):
    """The same net, as Lightning's introduction writes one."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = Net()

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.net(images)
        return result

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        output = self(images)
        loss = functional.cross_entropy(output, labels)
        accuracy = (output.argmax(1) == labels).float().mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("train_accuracy", accuracy, on_step=False, on_epoch=True)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("test_accuracy", (self(images).argmax(1) == labels).float().mean(), on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main(folder: str, lr: float, epochs: int, autolog: bool) -> None:
    lightning.seed_everything(0, verbose=False)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (SCALE,))])
    train = DataLoader(datasets.MNIST(folder, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(datasets.MNIST(folder, train=False, transform=transform), batch_size=1000)
    model = Classifier(lr)
    common: dict[str, Any] = {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False}
    if autolog:
        mlflow.pytorch.autolog()
        with mlflow.start_run():
            trainer = lightning.Trainer(**common, logger=False)
            trainer.fit(model, train)
            result = trainer.test(model, test, verbose=False)
    else:
        logger = MLFlowLogger("lightning", tracking_uri=os.environ["MLFLOW_TRACKING_URI"], log_model=True)
        trainer = lightning.Trainer(**common, logger=logger)
        trainer.fit(model, train)
        result = trainer.test(model, test, verbose=False)
    print(result[0]["test_accuracy"])


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["autolog"])
