"""Lightning with its own `MLFlowLogger`, whose run `mlflow-project compare` takes, beside that of plain_loop.py.

python examples/lightning_logger.py
mlflow-project compare --experiment digits
"""

# %% The images: those of plain_loop.py
import os
from typing import Any

import lightning
import mlflow
import torch
from lightning.pytorch.loggers import MLFlowLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mlflow_project.tracking import log_predictions

digits = load_digits()
pixels = torch.from_numpy(digits.images).to(torch.uint8)
labels = torch.from_numpy(digits.target)
inputs = pixels.float() / 16
train, test = slice(0, -500), slice(-500, None)


# %% The model, as Lightning's introduction writes one
class Classifier(lightning.LightningModule):
    """A small convolutional net."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


# %% Its training
lightning.seed_everything(0, verbose=False)
model = Classifier(lr=0.003)
logger = MLFlowLogger(
    "digits", run_name="Lightning", tracking_uri=os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
)
trainer = lightning.Trainer(
    max_epochs=10,
    accelerator="cpu",
    logger=logger,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    log_every_n_steps=10,
)
trainer.fit(model, DataLoader(TensorDataset(inputs[train], labels[train]), batch_size=32, shuffle=True))

# %% What the comparison needs: the logger's run is over, and is opened once more
with torch.no_grad():
    logits = model.net(inputs[test])
with mlflow.start_run(run_id=logger.run_id):
    log_predictions(labels[test], logits, images=pixels[test])
