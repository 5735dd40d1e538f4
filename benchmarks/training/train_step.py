"""The training step against the usual loop, and both against the machine's own matrix multiplication."""

import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor

from benchmarks.baselines.training_loop import BaselineLoop, torchvision_folder
from benchmarks.common import Cell, Report, alternate, median_and_spread
from hw2.data.image_set import Dataset, load_dataset
from hw2.models.factory import new_model
from hw2.train_step.factory import make_train_step
from hw2.train_step.options import UpdateRule
from hw2.training.runtime import native_bfloat16

BATCH_SIZE = 64
LR = 0.05
# Multiplications and additions of one image: forward, then twice that for the gradients of weights and
# activations, less the gradient of the image itself.
_CONV1, _CONV2, _FC1 = 784 * 9 * 32 * 2, 784 * 288 * 64 * 2, 12544 * 10 * 2
IMAGE_FLOP = 3 * (_CONV1 + _CONV2 + _FC1) - _CONV1
ACCURACY_TOLERANCE = (
    0.01  # same start and same order of images: what is left is rounding, amplified by training
)

LARGE = {"2048 x 2048 x 2048": (2048, 2048, 2048)}  # what the machine computes at best in a precision
# And the three products that conv2 is made of, for a batch of 64.
SHAPES = {**LARGE, "50176 x 288 x 64": (50176, 288, 64)}


class FastStep:
    def __init__(self, dataset: Dataset, precision: str) -> None:
        model = new_model(0)
        self._step = make_train_step(
            model, lr=LR, rule=UpdateRule(), precision=precision, device="cpu", batch_size=BATCH_SIZE
        )
        self._train = self._step.prepare(dataset.train.images)
        self._train_labels = dataset.train.labels
        self._test = self._step.prepare(dataset.test.images)
        self._test_labels = dataset.test.labels

    def train(self, order: Tensor) -> None:
        for index in torch.split(order, BATCH_SIZE):
            self._step(self._train, self._train_labels, index)

    def accuracy(self) -> float:
        return self._step.evaluate(self._test, self._test_labels)[1]


class MatrixMultiply:
    """Repeats a product for about `seconds`, so that a round is not too short to measure."""

    def __init__(self, dtype: torch.dtype, shape: tuple[int, int, int], operations: float) -> None:
        rows, inner, columns = shape
        self._left = torch.randn(rows, inner, dtype=dtype)
        self._right = torch.randn(inner, columns, dtype=dtype)
        self._out = torch.empty(rows, columns, dtype=dtype)
        self._repetitions = max(1, round(operations / (2 * rows * inner * columns)))
        self.operations = self._repetitions * 2 * rows * inner * columns

    def __call__(self, _: int) -> None:
        for _ in range(self._repetitions):
            torch.matmul(self._left, self._right, out=self._out)


def make_products(
    precisions: Sequence[str], shapes: Mapping[str, tuple[int, int, int]]
) -> dict[str, MatrixMultiply]:
    """Make products of each shape in each precision, each done once: the first fills caches."""
    products = {
        f"matmul {name}, {precision}": MatrixMultiply(getattr(torch, precision), shape, 3e10)
        for precision in precisions
        for name, shape in shapes.items()
    }
    for product in products.values():
        product(0)
    return products


def compute_speeds(
    products: Mapping[str, MatrixMultiply], seconds: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Compute each product's operations a second, in each round."""
    return {name: [product.operations / s for s in seconds[name]] for name, product in products.items()}


def describe_speeds(speeds: Mapping[str, Sequence[float]]) -> list[str]:
    return [
        f"{name}: {median_and_spread([s / 1e9 for s in speed])} GFLOP/s" for name, speed in speeds.items()
    ]


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="default 7")
    parser.add_argument(
        "--images", type=int, default=3200, help="trained by each candidate in each round; default 3200"
    )

    parser.add_argument(
        "--dataset",
        default="mnist",
        help="another than mnist: ResNet-20 and a small net, with flips and shifts",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes by which that one's usual loop loads; default 2"
    )


def run(arguments: Namespace) -> Report:
    if arguments.dataset != "mnist":
        from benchmarks.training import augmented_step

        return augmented_step.run(arguments)
    dataset = load_dataset("mnist", arguments.data_dir)
    images = min(arguments.images, len(dataset.train))
    precisions = ["float32", "bfloat16"] if native_bfloat16() else ["float32"]
    generator = torch.Generator().manual_seed(0)
    orders = [
        torch.randperm(len(dataset.train), generator=generator)[:images] for _ in range(arguments.rounds + 1)
    ]
    with ExitStack() as stack:
        folder = stack.enter_context(torchvision_folder(dataset))
        trainers: dict[str, BaselineLoop | FastStep] = {
            "usual loop, float32": BaselineLoop(folder, LR, BATCH_SIZE)
        }
        for precision in precisions:
            trainers[f"this step, {precision}"] = FastStep(dataset, precision)
        products = make_products(precisions, SHAPES)
        for trainer in trainers.values():  # the first batches fill caches and choose kernels
            trainer.train(orders[-1][: 10 * BATCH_SIZE])
        candidates: dict[str, Callable[[int], None]] = {
            name: partial(_train, trainer, orders) for name, trainer in trainers.items()
        }
        seconds = alternate({**candidates, **products}, arguments.rounds)
        accuracies = {name: trainer.accuracy() for name, trainer in trainers.items()}

    speeds = compute_speeds(products, seconds)
    usual = seconds["usual loop, float32"]
    rows: list[dict[str, Cell]] = []
    for name in trainers:
        precision = name.rpartition(" ")[2]
        rates = [images / s for s in seconds[name]]
        row: dict[str, Cell] = {
            "training": name,
            "images/s": median_and_spread(rates),
            "times the usual loop": median_and_spread(
                [u / s for u, s in zip(usual, seconds[name], strict=True)], 2
            ),
            "GFLOP/s": round(statistics.median(rates) * IMAGE_FLOP / 1e9, 1),
        }
        for shape in SHAPES:
            speed = speeds[f"matmul {shape}, {precision}"]
            shares = [rate * IMAGE_FLOP / s for rate, s in zip(rates, speed, strict=True)]
            row[f"share of matmul {shape}"] = f"{statistics.median(shares):.0%}"
        row["test accuracy"] = f"{accuracies[name]:.4f}"
        rows.append(row)
    notes = [
        f"{dataset.name}: {arguments.rounds} rounds of {images} images, batch {BATCH_SIZE}, lr {LR}; medians "
        f"(smallest to largest); ratios are formed round by round; {IMAGE_FLOP / 1e6:.1f} MFLOP an image.",
        *describe_speeds(speeds),
    ]
    furthest = max(accuracies.values()) - min(accuracies.values())
    wrong = (
        [f"test accuracies differ by {furthest:.4f}, allowed are {ACCURACY_TOLERANCE}"]
        if furthest > ACCURACY_TOLERANCE
        else []
    )
    return Report(
        title="Training BaseCNN",
        rows=rows,
        notes=notes,
        raw={"seconds": seconds, "accuracies": accuracies, "images_a_round": images},
        wrong=wrong,
    )


def _train(trainer: BaselineLoop | FastStep, orders: list[Tensor], number: int) -> None:
    trainer.train(orders[number])
