"""Lightning's `Trainer` with its `MLFlowLogger`, which also logs the checkpoints."""

import os

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import MLFlowLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Regression(lightning.LightningModule):
    """A straight line through 256 points."""

    def __init__(self, lr: float = 0.05, width: int = 16) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 1))
        self.lr = lr

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.mse_loss(self.net(inputs), targets)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        self.log("validation_loss", nn.functional.mse_loss(self.net(inputs), targets))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def main() -> None:
    lightning.seed_everything(0, verbose=False)
    inputs = torch.randn(256, 8)
    data = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=16)
    logger = MLFlowLogger(
        "lightning",
        run_name="regression",
        tracking_uri=os.environ["MLFLOW_TRACKING_URI"],
        tags={"team": "vision"},
        log_model="all",
    )
    trainer = lightning.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=2,
        callbacks=[ModelCheckpoint(dirpath="checkpoints", monitor="validation_loss", save_top_k=2)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Regression(), data, data)


if __name__ == "__main__":
    main()
