"""Class folders of small images."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(
    folder: Path,
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (12, 10),
    mode: str = "RGB",
    suffix: str = ".png",
) -> Path:
    """Images of noise, width x height, each another one."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    for number in range(count):
        pixels = random.integers(0, 256, shape).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}{suffix}")
    return folder


def write_classes(folder: Path, counts: dict[str, int], **options: object) -> Path:
    """A folder of class folders with so many images each."""
    for seed, (name, count) in enumerate(counts.items()):
        write_images(folder / name, count, seed, **options)  # type: ignore[arg-type]
    return folder
