"""Lightning with its `MLFlowLogger`, or with `mlflow.pytorch.autolog` where `autolog` is a fourth argument."""

import os
import sys
from typing import Any

import lightning
import matplotlib
import mlflow
import torch
from lightning.pytorch.loggers import MLFlowLogger
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.baselines.training_loop import Net
from hw2.common.image_spec import MEAN, SCALE


class Classifier(lightning.LightningModule):
    """The same net, as Lightning's introduction writes one."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = Net()
        self.found: list[int] = []
        self.expected: list[int] = []

    def confusion_matrix(self) -> Figure:
        """Of the answers in the test."""
        return ConfusionMatrixDisplay.from_predictions(self.expected, self.found).figure_

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
        answers = self(images).argmax(1)
        self.log("test_accuracy", (answers == labels).float().mean(), on_epoch=True)
        self.found += answers.tolist()
        self.expected += labels.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main(folder: str, lr: float, epochs: int, autolog: bool) -> None:
    matplotlib.use("Agg")
    lightning.seed_everything(0, verbose=False)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (SCALE,))])
    train = DataLoader(datasets.MNIST(folder, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(datasets.MNIST(folder, train=False, transform=transform), batch_size=1000)
    model = Classifier(lr)
    common: dict[str, Any] = {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False}
    if autolog:
        mlflow.pytorch.autolog(log_every_n_step=50, registered_model_name="baseline")
        with mlflow.start_run():
            trainer = lightning.Trainer(**common, logger=False)
            trainer.fit(model, train)
            result = trainer.test(model, test, verbose=False)
            mlflow.log_metric("test_accuracy", result[0]["test_accuracy"])
            mlflow.log_figure(model.confusion_matrix(), "confusion_matrix.png")
        return
    logger = MLFlowLogger("lightning", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    trainer = lightning.Trainer(**common, logger=logger)
    trainer.fit(model, train)
    trainer.test(model, test, verbose=False)
    logger.experiment.log_figure(logger.run_id, model.confusion_matrix(), "confusion_matrix.png")
    example = next(iter(test))[0][:2].numpy()
    with mlflow.start_run(run_id=logger.run_id):
        mlflow.pytorch.log_model(
            model.net.eval(), name="model", input_example=example, registered_model_name="baseline"
        )


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["autolog"])
