"""A plain PyTorch loop with MLflow, whose run `mlflow-project compare` takes: one call more than usual.

    python examples/plain_loop.py 0.3
    python examples/plain_loop.py 0.003
    mlflow-project compare --experiment digits

With MLFLOW_TRACKING_URI=durable+http://... instead of http://... a server that goes away costs it nothing.
"""

# %% The images: scikit-learn's 1,797 digits of 8 x 8 pixels, the last 500 to test
import sys

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn

from mlflow_project.tracking import log_predictions

LR = float(sys.argv[1]) if len(sys.argv) > 1 else 0.3
EPOCHS = 10

digits = load_digits()
pixels = torch.from_numpy(digits.images).to(torch.uint8)
labels = torch.from_numpy(digits.target)
inputs = pixels.float() / 16
train, test = slice(0, -500), slice(-500, None)

# %% The loop
torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=LR)
mlflow.set_experiment("digits")
with mlflow.start_run(run_name=f"plain loop, lr={LR}"):
    mlflow.log_params({"lr": LR, "epochs": EPOCHS, "net": "64 hidden"})
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for batch in torch.randperm(len(labels[train])).split(32):
            loss = nn.functional.cross_entropy(model(inputs[train][batch]), labels[train][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        mlflow.log_metric("train_loss", total / len(labels[train]), step=epoch)

    # %% What the comparison needs
    with torch.no_grad():
        logits = model(inputs[test])
    log_predictions(labels[test], logits, images=pixels[test])
