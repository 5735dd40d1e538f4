"""Evaluations made by hand."""

import numpy as np

from hw2.evaluation.result import Evaluation


def evaluation_of(logits: np.ndarray, labels: np.ndarray) -> Evaluation:
    n = len(labels)
    return Evaluation(
        name="hand-made",
        sha256="a" * 64,
        labels=labels.astype(np.int64),
        logits=logits.astype(np.float32),
        early_features=np.zeros((n, 32), np.float32),
        late_features=np.zeros((n, 64), np.float32),
        seconds=1.0,
    )


def random_evaluation() -> Evaluation:
    """Of 57 images, the same each time."""
    generator = np.random.default_rng(3)
    return evaluation_of(generator.normal(size=(57, 10)) * 3, generator.integers(0, 10, 57))
