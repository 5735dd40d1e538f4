"""Predict with a registered model, by `predict` and by `mlflow models serve` alike.

A copy of this module and of those of `hw2` that it needs travels with every model (`code_bundle`), so that the
model can be served where neither package is installed: it imports nothing else of this project.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from hw2.common.constants import IMAGE_SIZE
from hw2.common.errors import CheckpointError
from hw2.models.custom_net import source_beside
from hw2.models.factory import model_from_weights
from hw2.models.net import ModelOutputs, Net
from hw2.outliers.detector import OutlierDetector

WEIGHTS_FILE = "weights.pt"
DETECTOR_FILE = "detector.pt"
CHECKSUMS_FILE = "SHA256SUMS"
# Columns of a prediction with their types in an MLflow schema.
COLUMNS = {"label": "long", "probability": "double", "outlier_score": "double", "not_a_digit": "boolean"}
BATCH = 1000


class PyfuncModel:
    """A model and its outlier score, as MLflow's `python_function` calls them."""

    def __init__(self, model: Net, detector: OutlierDetector) -> None:
        self.model = model
        self.detector = detector

    def predict(self, images: NDArray[Any], params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict images.

        Args:
            images: Whole numbers of any type, floats too, [N, 28, 28]; 0 is background, 255 is ink.
            params: Unused; MLflow passes it.

        Returns:
            A row for each image, in `COLUMNS`. label: the class with the largest probability; outlier_score: -log10
            of the share of digits that look as strange; not_a_digit: whether that is above the model's threshold.

        Raises:
            MlflowException: Anything else; over HTTP it is a 400.
        """
        outputs = self.outputs(torch.from_numpy(_checked(images)))
        logits = outputs.logits.double()
        score = self.detector.score(outputs)
        return pd.DataFrame(
            {
                "label": logits.argmax(dim=1).numpy(),
                "probability": logits.softmax(dim=1).amax(dim=1).numpy(),
                "outlier_score": score,
                "not_a_digit": self.detector.is_outlier(score),
            }
        )

    def outputs(self, images: torch.Tensor) -> ModelOutputs:
        """Compute the model's outputs for any number of images, uint8 [N, 28, 28]."""
        with torch.inference_mode():
            batches = [self.model.forward_features(batch) for batch in images.split(BATCH)]
        return ModelOutputs(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))


def _load_pyfunc(folder: str) -> PyfuncModel:
    """Load the `python_function` flavor for MLflow, without pickle; `folder` holds weights and detector.

    Raises:
        CheckpointError: One of them doesn't fit the checksums beside it.
    """
    weights, detector = (_tensors(Path(folder), name) for name in (WEIGHTS_FILE, DETECTOR_FILE))
    model = model_from_weights(weights, source_beside(Path(folder)))
    return PyfuncModel(model, OutlierDetector.from_state_dict(detector))


def _checked(images: Any) -> NDArray[np.uint8]:
    """A copy as bytes: what came over the network is read-only, and PyTorch warns of that."""
    from mlflow.exceptions import MlflowException

    expected = (
        f"expected images [N, {IMAGE_SIZE}, {IMAGE_SIZE}] of whole numbers from 0 (background) to 255 (ink)"
    )
    try:
        # MLflow hands over as objects what was written as JSON.
        values = np.array(images.tolist() if getattr(images, "dtype", None) == np.dtype(object) else images)
    except ValueError as error:
        raise MlflowException.invalid_parameter_value(f"rows of different lengths; {expected}") from error
    if values.ndim != 3 or values.shape[1:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise MlflowException.invalid_parameter_value(f"an array of shape {list(values.shape)}; {expected}")
    if values.dtype.kind not in "uif":
        raise MlflowException.invalid_parameter_value(f"values of type {values.dtype}; {expected}")
    if values.dtype != np.uint8:
        wrong = values[~((values >= 0) & (values <= 255) & (values == np.floor(values)))]
        if len(wrong):
            scaled = float(values.min()) >= 0 and float(values.max()) <= 1
            hint = ": multiply by 255 and round" if scaled else ""
            raise MlflowException.invalid_parameter_value(f"a value of {wrong[0]}; {expected}{hint}")
    return values.astype(np.uint8)


def _tensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    content = (folder / name).read_bytes()
    sums = folder / CHECKSUMS_FILE
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    recorded = {line[66:].rpartition("/")[2]: line[:64] for line in lines}
    digest = hashlib.sha256(content).hexdigest()
    if recorded.get(name, digest) != digest:
        raise CheckpointError(
            f"{name} is not what was registered: it has SHA-256 {digest}, recorded is {recorded[name]}; "
            "register the model again"
        )
    tensors: dict[str, torch.Tensor] = torch.load(io.BytesIO(content), weights_only=True)
    return tensors
