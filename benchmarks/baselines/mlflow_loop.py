"""The usual PyTorch loop with `mlflow.log_metric`."""

import sys

import matplotlib
import mlflow
import torch
from sklearn.metrics import ConfusionMatrixDisplay
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.baselines.training_loop import Net
from hw2.common.image_spec import MEAN, SCALE


def main(folder: str, lr: float, epochs: int) -> None:
    matplotlib.use("Agg")
    torch.manual_seed(0)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (SCALE,))])
    train = DataLoader(datasets.MNIST(folder, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(datasets.MNIST(folder, train=False, transform=transform), batch_size=1000)
    model, loss_function = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    with mlflow.start_run():
        mlflow.log_params({"lr": lr, "epochs": epochs, "batch_size": 64, "optimizer": "sgd", "seed": 0})
        for epoch in range(1, epochs + 1):
            model.train()
            total, correct = 0.0, 0
            for batch, (images, labels) in enumerate(train):
                optimizer.zero_grad()
                output = model(images)
                loss = loss_function(output, labels)
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
                correct += int((output.argmax(1) == labels).sum())
                if batch % 50 == 49:
                    mlflow.log_metric("batch_loss", loss.item(), step=(epoch - 1) * len(train) + batch + 1)
            mlflow.log_metric("train_loss", total / len(train.dataset), step=epoch)  # type: ignore[arg-type]
            mlflow.log_metric("train_accuracy", correct / len(train.dataset), step=epoch)  # type: ignore[arg-type]
        model.eval()
        result: list[int] = []
        expected: list[int] = []
        with torch.no_grad():
            for images, labels in test:
                result += model(images).argmax(1).tolist()
                expected += labels.tolist()
        accuracy = sum(a == b for a, b in zip(result, expected, strict=True)) / len(expected)
        mlflow.log_metric("test_accuracy", accuracy)
        display = ConfusionMatrixDisplay.from_predictions(expected, result)
        mlflow.log_figure(display.figure_, "confusion_matrix.png")
        example = images[:2].numpy()
        mlflow.pytorch.log_model(model, name="model", input_example=example, registered_model_name="baseline")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
