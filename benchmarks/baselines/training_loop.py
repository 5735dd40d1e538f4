"""The baseline training loop: torchvision's data set, a DataLoader, a module, autograd, torch.optim.SGD."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from hw2.common.image_spec import MEAN, SCALE
from hw2.data.idx import write_idx
from hw2.data.image_set import Dataset
from hw2.models.factory import new_model


class Net(nn.Module):
    """BaseCNN as a tutorial writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(12544, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(self.conv2(x), 2)
        result: Tensor = self.fc1(torch.flatten(x, 1))
        return result


class BaselineLoop:
    """Trains on images in a given order, so that candidates differ in nothing but how they compute."""

    def __init__(self, folder: Path, lr: float, batch_size: int) -> None:
        transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (SCALE,))])
        self._train = datasets.MNIST(folder, train=True, transform=transform)
        self._test = datasets.MNIST(folder, train=False, transform=transform)
        self._batch_size = batch_size
        self._net = Net()
        self._net.load_state_dict(new_model(0).state_dict())
        self._optimizer = torch.optim.SGD(self._net.parameters(), lr=lr)

    def train(self, order: Tensor) -> None:
        loader = DataLoader(self._train, self._batch_size, sampler=order.tolist())
        for images, labels in loader:
            self._optimizer.zero_grad()
            loss = functional.cross_entropy(self._net(images), labels)
            loss.backward()
            self._optimizer.step()

    def accuracy(self) -> float:
        correct = 0
        with torch.no_grad():
            for images, labels in DataLoader(self._test, batch_size=1000):
                correct += int((self._net(images).argmax(1) == labels).sum())
        return correct / len(self._test)


@contextmanager
def torchvision_folder(dataset: Dataset) -> Iterator[Path]:
    """The images as torchvision keeps them after a download."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for prefix, split in (("train", dataset.train), ("t10k", dataset.test)):
            write_idx(raw / f"{prefix}-images-idx3-ubyte", split.images.numpy())
            write_idx(raw / f"{prefix}-labels-idx1-ubyte", split.labels.to(torch.uint8).numpy())
        yield Path(folder)
