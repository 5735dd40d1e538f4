"""What a registered model answers with, by `predict` and by `mlflow models serve` alike.

A copy of this module and of those of `hw2` that it needs travels with every model (`carried_code`), so that the
model can be served where neither package is installed: it imports nothing else of this project.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from hw2.detector import Detector
from hw2.model import BaseCNN, ModelOutputs, model_from_weights

WEIGHTS_FILE = "weights.pt"
DETECTOR_FILE = "detector.pt"
# Its columns with their types in an MLflow schema.
COLUMNS = {"label": "long", "probability": "double", "outlier_score": "double", "not_a_digit": "boolean"}
BATCH = 1000


class ServedModel:
    """A model and its outlier score, as MLflow's `python_function` calls them."""

    def __init__(self, model: BaseCNN, detector: Detector) -> None:
        self.model = model
        self.detector = detector

    def predict(self, images: NDArray[np.uint8], params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row a picture, in `COLUMNS`. images: uint8 [N, 28, 28], 0 is background, 255 is ink.

        label: the class with the largest probability; outlier_score: -log10 of the share of digits that look as
        strange; not_a_digit: whether that is above the model's own threshold.
        """
        # A copy: what came over the network is read-only, and PyTorch warns of that.
        outputs = self.outputs(torch.from_numpy(np.array(images, dtype=np.uint8)))
        logits = outputs.logits.double()
        score = self.detector.score(outputs)
        return pd.DataFrame(
            {
                "label": logits.argmax(dim=1).numpy(),
                "probability": logits.softmax(dim=1).amax(dim=1).numpy(),
                "outlier_score": score,
                "not_a_digit": self.detector.rejected(score),
            }
        )

    def outputs(self, images: torch.Tensor) -> ModelOutputs:
        """The model's, of any number of pictures, uint8 [N, 28, 28]."""
        with torch.inference_mode():
            parts = [self.model.outputs(part) for part in images.split(BATCH)]
        return ModelOutputs(*(torch.cat(several) for several in zip(*parts, strict=True)))


def _load_pyfunc(folder: str) -> ServedModel:
    """How MLflow loads the `python_function` flavour; `folder` holds weights and detector. No pickle."""
    weights, detector = (
        torch.load(Path(folder) / name, weights_only=True) for name in (WEIGHTS_FILE, DETECTOR_FILE)
    )
    return ServedModel(model_from_weights(weights), Detector.from_state_dict(detector))
