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

from hw2.common.errors import CheckpointError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.custom_net import net_beside
from hw2.models.factory import model_from_weights
from hw2.models.net import ModelOutputs, Net
from hw2.outliers.detector import OutlierDetector

WEIGHTS_FILE = "weights.pt"
DETECTOR_FILE = "detector.pt"
IMAGES_FILE = "images.json"
CHECKSUMS_FILE = "SHA256SUMS"
# Columns of a prediction of digits with their types in an MLflow schema.
COLUMNS = {"label": "long", "probability": "double", "outlier_score": "double", "not_a_digit": "boolean"}
BATCH = 1000


NONE_OF_THESE = "none_of_these_classes"


def columns(spec: ImageSpec, scored: bool) -> dict[str, str]:
    """Return the columns of a prediction with their types; scored: whether the model has an outlier score."""
    if spec.is_digits and scored:
        return COLUMNS
    named = {} if spec.is_digits else {"class": "string"}
    outlier = {"outlier_score": "double", rejected_column(spec): "boolean"} if scored else {}
    return {"label": "long", **named, "probability": "double", **outlier}


def rejected_column(spec: ImageSpec) -> str:
    """Name the column that says whether the model knows none of its classes in an image."""
    return "not_a_digit" if spec.is_digits else NONE_OF_THESE


class PyfuncModel:
    """A model and its outlier score, as MLflow's `python_function` calls them."""

    def __init__(self, model: Net, detector: OutlierDetector | None) -> None:
        self.model = model
        self.detector = detector

    def predict(self, images: NDArray[Any], params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Predict images.

        Args:
            images: Whole numbers of any type, floats too, 0 to 255: grey [N, H, W] or [N, 1, H, W], color [N, H, W, 3];
                of digits [N, 28, 28], where 0 is background and 255 is ink.
            params: Unused; MLflow passes it.

        Returns:
            A row for each image, in `columns`. label: the class with the largest probability, and its name where it
            isn't a digit; outlier_score: -log10 of the share of images like those trained on that look as strange;
            not_a_digit or none_of_these_classes: whether that is above the model's threshold. A model that had too few
            images to fit an outlier score on leaves the last two out.

        Raises:
            MlflowException: Anything else; over HTTP it is a 400.
        """
        spec = self.model.spec
        outputs = self.outputs(torch.from_numpy(_checked(images, spec)))
        logits = outputs.logits.double()
        label = logits.argmax(dim=1).numpy()
        answer: dict[str, Any] = {"label": label, "probability": logits.softmax(dim=1).amax(dim=1).numpy()}
        if not spec.is_digits:
            answer["class"] = [spec.classes[number] for number in label]
        if self.detector is not None:
            answer["outlier_score"] = score = self.detector.score(outputs)
            answer[rejected_column(spec)] = self.detector.is_outlier(score)
        return pd.DataFrame(answer)[list(columns(spec, self.detector is not None))]

    def outputs(self, images: torch.Tensor) -> ModelOutputs:
        """Compute the model's outputs for any number of images, uint8 as `predict` takes them."""
        with torch.inference_mode():
            batches = [self.model.forward_features(batch) for batch in images.split(BATCH)]
        return ModelOutputs(*(torch.cat(tensors) for tensors in zip(*batches, strict=True)))


def _load_pyfunc(folder: str) -> PyfuncModel:
    """Load the `python_function` flavor for MLflow, without pickle; `folder` holds weights and detector.

    Raises:
        CheckpointError: One of them doesn't fit the checksums beside it.
    """
    place = Path(folder)
    model = model_from_weights(_tensors(place, WEIGHTS_FILE), net_beside(place), read_spec(place))
    if not (place / DETECTOR_FILE).is_file():
        return PyfuncModel(model, None)
    return PyfuncModel(model, OutlierDetector.from_state_dict(_tensors(place, DETECTOR_FILE)))


def read_spec(folder: Path) -> ImageSpec:
    """Read what images a model takes; the study's where its files don't say."""
    path = folder / IMAGES_FILE
    return ImageSpec.from_json(path.read_text(encoding="utf-8")) if path.is_file() else STUDY


def _checked(images: Any, spec: ImageSpec = STUDY) -> NDArray[np.uint8]:
    """A copy as bytes: what came over the network is read-only, and PyTorch warns of that."""
    from mlflow.exceptions import MlflowException

    meaning = "0 (background) to 255 (ink)" if spec.is_digits else "0 to 255"
    expected = f"expected images {spec.forms} of whole numbers from {meaning}"
    try:
        # MLflow hands over as objects what was written as JSON.
        values = np.array(images.tolist() if getattr(images, "dtype", None) == np.dtype(object) else images)
    except ValueError as error:
        raise MlflowException.invalid_parameter_value(f"rows of different lengths; {expected}") from error
    if spec.channels == 1 and values.shape[1:] == (1, *spec.shape):
        values = values[:, 0]
    if values.shape[1:] != spec.shape:
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
