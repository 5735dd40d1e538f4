"""The baseline loop for images that are changed while training: PIL images through torchvision's transforms."""

import copy

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from hw2.data.image_set import ImageSet
from hw2.models.net import Net


class _Images(TorchDataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10: an array of all images in memory, each made a PIL image and transformed."""

    def __init__(self, images: ImageSet, transform: transforms.Compose) -> None:
        self._images = images.images.numpy()
        self._labels = images.labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


class AugmentedLoop:
    """Flips and shifts, SGD with momentum, float32; two processes load, as PyTorch's tutorials have it."""

    def __init__(
        self,
        net: Net,
        train: ImageSet,
        test: ImageSet,
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        batch_size: int,
        shift: int,
        workers: int,
    ) -> None:
        spec = net.spec
        to_tensor = [transforms.ToTensor(), transforms.Normalize(spec.mean, spec.scale)]
        changes = [
            transforms.RandomCrop((spec.height, spec.width), padding=shift),
            transforms.RandomHorizontalFlip(),
        ]
        self._train = _Images(train, transforms.Compose([*changes, *to_tensor]))
        self._test = _Images(test, transforms.Compose(to_tensor))
        self._net: nn.Module = copy.deepcopy(net)
        self._batch_size = batch_size
        self._workers = workers
        self._optimizer = torch.optim.SGD(
            self._net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
        )

    def train(self, order: Tensor) -> None:
        self._net.train()
        loader = DataLoader(self._train, self._batch_size, sampler=order.tolist(), num_workers=self._workers)
        for images, labels in loader:
            self._optimizer.zero_grad()
            loss = functional.cross_entropy(self._net.forward_preprocessed(images), labels)
            loss.backward()
            self._optimizer.step()

    def accuracy(self) -> float:
        self._net.eval()
        correct = 0
        with torch.no_grad():
            for images, labels in DataLoader(self._test, batch_size=1000):
                correct += int((self._net.forward_preprocessed(images).argmax(1) == labels).sum())
        return correct / len(self._test)
