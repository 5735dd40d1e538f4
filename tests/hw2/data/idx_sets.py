"""Sets of noise in MNIST's layout."""

from pathlib import Path

import torch

from hw2.data import idx


def write_set(
    folder: Path,
    train: int = 30,
    test: int = 20,
    prefix: str = "",
    test_stem: str = "t10k",
    suffix: str = ".gz",
    labels_from: int = 0,
) -> Path:
    """A set in MNIST's layout, of noise with ten labels that go round."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, count in (("train", train), (test_stem, test)):
        images = torch.randint(0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(count))
        idx.write_idx(folder / f"{prefix}{stem}-images-idx3-ubyte{suffix}", images.to(torch.uint8))
        labels = (torch.arange(count) % 10 + labels_from).to(torch.uint8)
        idx.write_idx(folder / f"{prefix}{stem}-labels-idx1-ubyte{suffix}", labels)
    return folder
