"""Write a trained model as files that MLflow loads and serves, and verify that they are unchanged.

MLmodel                     two flavours: pytorch, and python_function with our columns
data/model.pt2              for pytorch: the exported program, which gives logits
extra_files/weights.pt      for python_function and for ourselves: the class is rebuilt from these two,
extra_files/detector.pt     which need no pickle (no detector where there were too few images to fit one)
extra_files/images.json     only of other images than MNIST's: their size, colors, classes and normalization
extra_files/CLASS.py        only of a custom net: the Python text that has the class
extra_files/net.txt         only of resnet20 and torchvision's nets: the net's name
extra_files/SHA256SUMS
code/                       the modules that python_function needs
"""

import hashlib
import io
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw2.common.errors import CheckpointError, ConfigurationError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models.custom_net import NET_FILE, net_beside
from hw2.models.factory import model_from_weights, weights_sha256
from hw2.models.net import Net
from hw2.models.torchvision_net import TorchvisionNet
from hw2.outliers.detector import OutlierDetector
from mlflow_project.common.errors import RegistryError
from mlflow_project.common.text import first_line
from mlflow_project.packaging.pyfunc_model import (
    CHECKSUMS_FILE,
    DETECTOR_FILE,
    IMAGES_FILE,
    WEIGHTS_FILE,
    columns,
    read_spec,
)

EXTRA = "extra_files"
WEIGHTS = f"{EXTRA}/{WEIGHTS_FILE}"
DETECTOR = f"{EXTRA}/{DETECTOR_FILE}"
IMAGES = f"{EXTRA}/{IMAGES_FILE}"
CHECKSUMS = f"{EXTRA}/{CHECKSUMS_FILE}"
PROGRAM = "data/model.pt2"
REQUIREMENTS = ("mlflow", "numpy", "pandas", "torch")
MLMODEL_FILE = "MLmodel"
# What delivery writes into MLmodel; nothing of it decides how the model is loaded.
DELIVERY_KEYS = ("artifact_path", "model_id", "model_uuid", "run_id")
# MLflow adds the first when it hands a version out.
_UNHASHED = ("registered_model_meta", CHECKSUMS)


def write_model_files(folder: Path, model: Net, detector: OutlierDetector | None, example: Tensor) -> int:
    """Write a model's files into `folder`, which must not exist.

    Args:
        folder: Where to.
        model: The trained net.
        detector: Its outlier detector; None where it has none.
        example: Raw images, uint8, stored as an example of a request.

    Returns:
        The size of the weights' file in bytes.
    """
    from mlflow_project.packaging.code_bundle import bundle_code
    from mlflow_project.packaging.exported_program import exported_program

    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    for path in (PROGRAM, WEIGHTS):
        (folder / path).parent.mkdir(parents=True)
    if model.custom is not None:
        name, source = model.custom
        (folder / EXTRA / (f"{name}.py" if source else NET_FILE)).write_text(source or name, encoding="utf-8")
    (folder / PROGRAM).write_bytes(exported_program(weights, model.custom, model.spec))
    _save(weights, folder / WEIGHTS)
    if detector is not None:
        _save(detector.state_dict(), folder / DETECTOR)
    if model.spec != STUDY:
        (folder / IMAGES).write_text(model.spec.to_json(), encoding="utf-8")
    _write_environment(folder, model)
    _describe(folder, bundle_code(folder / "code"), example, model.spec, detector is not None)
    (folder / CHECKSUMS).write_text(_sums(folder), encoding="utf-8")
    return (folder / WEIGHTS).stat().st_size


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    # Not by torch.save itself: on a full disk PyTorch raises a RuntimeError about positions.
    content = io.BytesIO()
    torch.save(tensors, content)
    path.write_bytes(content.getvalue())


def _write_environment(folder: Path, model: Net) -> None:
    """Write the files from which MLflow makes an environment, with conda or without."""
    more = ("torchvision",) if isinstance(model, TorchvisionNet) else ()
    pins = [f"{name}=={version(name).partition('+')[0]}" for name in (*REQUIREMENTS, *more)]
    python = platform.python_version()
    conda = {"name": "mlflow-env", "dependencies": [f"python={python}", "pip", {"pip": pins}]}
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "requirements.txt").write_text("\n".join(pins), encoding="utf-8")
    # JSON is YAML.
    (folder / "conda.yaml").write_text(json.dumps(conda, indent=2), encoding="utf-8")
    (folder / "python_env.yaml").write_text(json.dumps(environment, indent=2), encoding="utf-8")


def _describe(folder: Path, loader: str, example: Tensor, spec: ImageSpec, scored: bool) -> None:
    """Write `MLmodel`, with its example of a request."""
    import numpy as np

    from mlflow_project.tracking.delivery.client import import_mlflow

    mlflow = import_mlflow()
    schema, types = mlflow.types.Schema, mlflow.types
    request = json.dumps({"inputs": example.tolist()}, separators=(",", ":"))
    names = "input_example.json", "serving_input_example.json"
    for name in names:
        (folder / name).write_text(request, encoding="utf-8")
    card = mlflow.models.Model(
        signature=mlflow.models.ModelSignature(
            # Lets everything pass: with bytes here, MLflow would cut fractions to 0 before anybody sees them.
            # `PyfuncModel.predict` checks.
            inputs=schema([types.TensorSpec(np.dtype(object), (-1,))]),
            outputs=schema([types.ColSpec(kind, name) for name, kind in columns(spec, scored).items()]),
        ),
        saved_input_example_info={
            "artifact_path": names[0],
            "serving_input_path": names[1],
            "type": "ndarray",
            "format": "tf-serving",
        },
        metadata={"images": f"uint8 {spec.forms}", "classes": list(spec.classes)},
    )
    card.add_flavor("pytorch", model_data="data", pytorch_version=str(torch.__version__), code=None)
    # As `mlflow.pyfunc.add_to_model` would, whose module warns of itself and takes a second to import.
    card.add_flavor(
        "python_function",
        loader_module=loader,
        python_version=platform.python_version(),
        data=EXTRA,
        code="code",
        env={"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
    )
    card.model_size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    card.save(folder / MLMODEL_FILE)


def files_sha256(folder: Path) -> str:
    """Compute one SHA-256 over the checksums of all files, as a registered version's tag has it."""
    return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def verify(folder: Path, recorded: dict[str, str], name: str) -> None:
    """Check that the files are those that were registered.

    Args:
        folder: The files.
        recorded: The version's tags, of which `weights_sha256` and `files_sha256` are compared.
        name: How messages call the model.

    Raises:
        RegistryError: A file is missing, added or changed.
    """
    try:
        expected = (folder / CHECKSUMS).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RegistryError(
            f"{name} has lost its {CHECKSUMS}, so it can't be verified; restore it from a backup"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = (
            getattr(error, "strerror", None) or "it is not text"
        )  # not the path of a copy that is gone by now
        raise RegistryError(
            f"{name} can't be verified: {CHECKSUMS} can't be read ({reason}); restore its files from a backup"
        ) from error
    recorded_sums, sums = _by_name(expected), _by_name(_sums(folder))
    if MLMODEL_FILE not in recorded_sums:  # of a version that is older than the sum of its card
        sums.pop(MLMODEL_FILE, None)
    for file in sorted(recorded_sums.keys() | sums.keys()):
        if recorded_sums.get(file) == sums.get(file):
            continue
        if file not in sums:
            reason = f"{file} is missing"
        elif file not in recorded_sums:
            reason = f"{file} was not in it"
        else:
            reason = f"{file} has SHA-256 {sums[file]}, recorded is {recorded_sums[file]}"
        raise RegistryError(f"{name} is not what was registered: {reason}")
    if files_sha256(folder) != recorded.get("files_sha256"):
        raise RegistryError(
            f"{name} is not what was registered: its files' checksums differ from the version's tag files_sha256"
        )
    digest = weights_sha256(_read_tensors(folder / WEIGHTS, name))
    if digest != recorded.get("weights_sha256"):
        raise RegistryError(
            f"{name} is not what was registered: its weights have SHA-256 {digest}, "
            f"recorded is {recorded.get('weights_sha256')}"
        )


def read_model(folder: Path, name: str) -> tuple[Net, OutlierDetector | None]:
    """Load the class with its weights, and the detector if any. Verify first: a custom net's Python source is run."""
    try:
        weights = _read_tensors(folder / WEIGHTS, name)
        model = model_from_weights(weights, net_beside(folder / EXTRA), read_spec(folder / EXTRA))
        if not (folder / DETECTOR).is_file():
            return model, None
        return model, OutlierDetector.from_state_dict(_read_tensors(folder / DETECTOR, name))
    except (RuntimeError, CheckpointError, ConfigurationError) as error:
        raise RegistryError(f"{name} can't be loaded: {first_line(error)}") from error


def _read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Any] = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
        raise RegistryError(f"{name} can't be loaded: {path.name} is no file of weights") from error
    return tensors


def _sums(folder: Path) -> str:
    """List the files' checksums in the format of `sha256sum`; that of MLmodel leaves out what delivery writes."""
    files = (path for path in folder.rglob("*") if path.is_file() and not _compiled(path))
    names = sorted(path.relative_to(folder).as_posix() for path in files)
    return "".join(f"{_sha256(folder, name)}  {name}\n" for name in names if name not in _UNHASHED)


def _sha256(folder: Path, name: str) -> str:
    content = (folder / name).read_bytes()
    return hashlib.sha256(_undelivered(content) if name == MLMODEL_FILE else content).hexdigest()


def _undelivered(card: bytes) -> bytes:
    """Return MLmodel as text that is the same before and after its delivery; as it is where it can't be read."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(card)
        return json.dumps(
            {k: v for k, v in content.items() if k not in DELIVERY_KEYS}, sort_keys=True
        ).encode()
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError, ValueError):
        return card


def _compiled(path: Path) -> bool:
    """Return whether a file is what Python compiled of a module among these files."""
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    return path.parent.name == "__pycache__" and path.suffix == ".pyc" and source.is_file()


def _by_name(sums: str) -> dict[str, str]:
    return {line[66:]: line[:64] for line in sums.splitlines()}
