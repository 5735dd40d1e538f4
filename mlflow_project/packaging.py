"""A trained model as files: what MLflow loads, the plain weights beside it, and what says that they are unchanged."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw2.detector import Detector
from hw2.errors import CheckpointError
from hw2.model import IMAGE_SIDE, BaseCNN, model_from_weights, weights_sha256
from mlflow_project.errors import RegistryError

# MLflow's exported program answers with logits only. The class is rebuilt from these two, which need no pickle.
WEIGHTS = "extra_files/weights.pt"
DETECTOR = "extra_files/detector.pt"
CHECKSUMS = "extra_files/SHA256SUMS"
# The model's id is written into the first when it is delivered, and MLflow adds the second when it hands it out.
_NOT_SUMMED = ("MLmodel", "registered_model_meta", CHECKSUMS)


def write_model_files(folder: Path, model: BaseCNN, detector: Detector, example: Tensor) -> int:
    """Fills `folder` (which must not exist) and returns the size of the weights' file in bytes.

    example: uint8 [N, 28, 28] with N of at least 2, from which the exported program learns that N may vary.
    """
    import mlflow.pytorch
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    size = (-1, IMAGE_SIDE, IMAGE_SIDE)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), size, "images")]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 10))]),
    )
    mlflow.pytorch.save_model(
        model,
        folder,
        signature=signature,
        input_example=example.numpy(),
        serialization_format="pt2",
        pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}", f"mlflow=={mlflow.__version__}"],
    )
    (folder / WEIGHTS).parent.mkdir(exist_ok=True)
    torch.save(dict(model.state_dict()), folder / WEIGHTS)
    torch.save(detector.state_dict(), folder / DETECTOR)
    (folder / CHECKSUMS).write_text(_sums(folder))
    return (folder / WEIGHTS).stat().st_size


def files_sha256(folder: Path) -> str:
    """One SHA-256 over the checksums of all files; kept with a registered version."""
    return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def verify(folder: Path, recorded: dict[str, str], name: str) -> None:
    """`RegistryError` unless the files are those that were registered.

    recorded: the version's tags; `weights_sha256` and `files_sha256` are looked at. name: how messages call it.
    """
    try:
        expected = (folder / CHECKSUMS).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{name} can't be verified: {CHECKSUMS} can't be read ({error})") from error
    for said, found in zip(expected.splitlines(), _sums(folder).splitlines(), strict=False):
        if said != found:
            raise RegistryError(
                f"{name} is not what was registered: {found[66:]} has SHA-256 {found[:64]}, recorded is {said[:64]}"
            )
    if expected != _sums(folder) or files_sha256(folder) != recorded.get("files_sha256"):
        raise RegistryError(
            f"{name} is not what was registered: its files' checksums differ from the version's tag files_sha256"
        )
    found_weights = weights_sha256(_read_tensors(folder / WEIGHTS, name))
    if found_weights != recorded.get("weights_sha256"):
        raise RegistryError(
            f"{name} is not what was registered: its weights have SHA-256 {found_weights}, "
            f"recorded is {recorded.get('weights_sha256')}"
        )


def read_model(folder: Path, name: str) -> tuple[BaseCNN, Detector]:
    """The class with its weights, and the detector. Verify first."""
    try:
        model = model_from_weights(_read_tensors(folder / WEIGHTS, name))
        return model, Detector.from_state_dict(_read_tensors(folder / DETECTOR, name))
    except (RuntimeError, CheckpointError) as error:
        raise RegistryError(f"{name} can't be loaded: {str(error).splitlines()[0]}") from error


def _read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise RegistryError(f"{name} can't be loaded: {path.name} is no file of weights") from error
    return tensors


def _sums(folder: Path) -> str:
    """In the format of `sha256sum`, by name."""
    names = sorted(
        name
        for path in folder.rglob("*")
        if path.is_file() and (name := path.relative_to(folder).as_posix()) not in _NOT_SUMMED
    )
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
