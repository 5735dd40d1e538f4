"""The training step with flips and shifts against the usual loop: ResNet-20, and a small net of one's own."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.baselines.augmented_loop import AugmentedLoop
from benchmarks.common import Cell, Report, alternate, median_and_spread
from benchmarks.training.train_step import LARGE, compute_speeds, describe_speeds, make_products
from hw2.data.image_set import Dataset, load_dataset
from hw2.models.factory import new_model
from hw2.models.net import CustomNetSource, Net
from hw2.train_step.augment import SHIFT, transform_of
from hw2.train_step.factory import make_train_step
from hw2.train_step.options import UpdateRule
from hw2.training.runtime import native_bfloat16

BATCH_SIZE = 128
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
ACCURACY_TOLERANCE = 0.1  # after some hundred batches; the draws of the changes differ
LEAST_OVER_CHANCE = 1.5  # else nothing was learned that could tell a right step from a wrong one
SMALL_NET = """
from torch import nn


class SmallNet(nn.Module):
    def __init__(self, classes=10, channels=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        )
        self.classify = nn.LazyLinear(classes)

    def forward(self, x):
        return self.classify(self.features(x).flatten(1))
"""
NETS: dict[str, CustomNetSource] = {
    "resnet20": ("resnet20", ""),
    "a net of one's own": ("SmallNet", SMALL_NET),
}


class AugmentedStep:
    """This project's step, flips and shifts included."""

    def __init__(self, net: Net, dataset: Dataset, precision: str) -> None:
        rule = UpdateRule(momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self._step = make_train_step(
            net, lr=LR, rule=rule, precision=precision, device="cpu", batch_size=BATCH_SIZE
        )
        self._images, self._labels = self._step.prepare(dataset.train.images), dataset.train.labels
        self._test, self._test_labels = self._step.prepare(dataset.test.images), dataset.test.labels
        self._epoch = 0

    def train(self, order: Tensor) -> None:
        self._epoch += 1
        for batch, index in enumerate(order.split(BATCH_SIZE), 1):
            self._step(self._images, self._labels, index, transform_of("flip,shift", 0, self._epoch, batch))

    def accuracy(self) -> float:
        return self._step.evaluate(self._test, self._test_labels)[1]


def run(arguments: Namespace) -> Report:
    """Train each net by each way on the same images, in turn."""
    dataset = load_dataset(arguments.dataset, arguments.data_dir)
    images = min(arguments.images, len(dataset.train))
    precisions = ["float32", "bfloat16"] if native_bfloat16() else ["float32"]
    generator = torch.Generator().manual_seed(0)
    orders = [
        torch.randperm(len(dataset.train), generator=generator)[:images] for _ in range(arguments.rounds + 1)
    ]
    shift = min(dataset.train.spec.height, dataset.train.spec.width) // SHIFT
    rows: list[dict[str, Cell]] = []
    raw, wrong = {}, []
    for name, source in NETS.items():
        net = new_model(0, source, dataset.train.spec)
        loop = AugmentedLoop(
            net, dataset.train, dataset.test, lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY,
            batch_size=BATCH_SIZE, shift=shift, workers=arguments.workers,
        )  # fmt: skip
        trainers: dict[str, AugmentedLoop | AugmentedStep] = {"usual loop, float32": loop}
        trainers |= {
            f"this step, {precision}": AugmentedStep(net, dataset, precision) for precision in precisions
        }
        for trainer in trainers.values():  # the first batches fill caches and choose kernels
            trainer.train(orders[-1][: 5 * BATCH_SIZE])
        candidates: dict[str, Callable[[int], None]] = {
            way: partial(_train, trainer, orders) for way, trainer in trainers.items()
        }
        seconds = alternate(candidates, arguments.rounds)
        accuracies = {way: trainer.accuracy() for way, trainer in trainers.items()}
        usual = seconds["usual loop, float32"]
        rows += [
            {
                "net": name,
                "training": way,
                "images/s": median_and_spread([images / s for s in seconds[way]]),
                "times the usual loop": median_and_spread(
                    [u / s for u, s in zip(usual, seconds[way], strict=True)], 2
                ),
                "test accuracy": f"{accuracies[way]:.4f}",
            }
            for way in trainers
        ]
        worst = min(accuracies.values())
        behind = accuracies["usual loop, float32"] - worst
        if behind > ACCURACY_TOLERANCE:
            wrong.append(f"{name}: {behind:.4f} behind the usual loop's test accuracy")
        needed = LEAST_OVER_CHANCE / len(dataset.train.classes)
        if worst < needed:
            wrong.append(f"{name}: test accuracy {worst:.4f}, expected {needed:.4f} at least")
        raw[name] = {"seconds": seconds, "accuracies": accuracies}
    products = make_products(precisions, LARGE)
    speeds = compute_speeds(products, alternate(products, arguments.rounds))
    notes = [
        f"{dataset.name}: {arguments.rounds} rounds of {images} images, batch {BATCH_SIZE}, lr {LR}, momentum "
        f"{MOMENTUM}, weight decay {WEIGHT_DECAY}, flips and shifts by {shift}; the usual loop loads in "
        f"{arguments.workers} processes; medians (smallest to largest), ratios round by round.",
        *describe_speeds(speeds),
    ]
    return Report("Training with changed images", rows, notes, raw, wrong)


def _train(trainer: AugmentedLoop | AugmentedStep, orders: list[Tensor], number: int) -> None:
    trainer.train(orders[number])
