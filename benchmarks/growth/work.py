"""What suite `growth` measures in a process of its own: `python -m benchmarks.growth.work WORK SIZE ...`.

Prints the work's seconds, without what is only done the first time. Size 0 is what the others are compared with: a
process that has imported what the work needs.
"""

import sys
import time
from pathlib import Path


def train(images: int, threads: int, data_dir: Path | None) -> float:
    """Seconds of one epoch on so many images: the training set, repeated and cut."""
    import torch

    from hw2.data.image_set import ImageSet, load_split
    from hw2.train_step.factory import make_train_step  # noqa: F401
    from hw2.training.config import TrainingConfig
    from hw2.training.runtime import resolve_runtime
    from hw2.training.trainer import Trainer

    if not images:
        return 0.0
    published = load_split("mnist", "train", data_dir)
    repeated = published.subset(torch.arange(images) % len(published))
    del published
    size = min(64, images)
    config = TrainingConfig(lr=0.01, epochs=1, batch_size=size, validation_size=0, threads=threads)
    runtime = resolve_runtime(config)

    def epoch(images: ImageSet) -> float:
        (result,) = Trainer(config, runtime, images.sha256, images, None).epochs()
        return result.epoch_seconds

    epoch(repeated.subset(torch.arange(size)))  # the first batch waits for the kernels
    return epoch(repeated)


def compare(models: int, folder: Path) -> float:
    """Seconds for the verdicts on so many models, from their files of predictions to the text that is printed."""
    from hw2.comparison.compare import compare
    from hw2.comparison.model_predictions import ModelPredictions
    from hw2.evaluation.predictions import read_predictions
    from mlflow_project.analysis.comparison_text import render_comparison

    def whole(files: list[Path]) -> None:
        models = [
            ModelPredictions.of(file.stem, {"seed": file.stem}, read_predictions(file)) for file in files
        ]
        render_comparison(compare(models))

    files = sorted(folder.glob("*.parquet"))
    whole(files[:2])  # the first time imports
    started = time.perf_counter()
    if models:
        whole(files[:models])
    return time.perf_counter() - started


def main(work: str, size: str, *rest: str) -> None:
    if work == "train":
        threads, *data_dir = rest
        print(train(int(size), int(threads), Path(data_dir[0]) if data_dir else None))
    else:
        (folder,) = rest
        print(compare(int(size), Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
