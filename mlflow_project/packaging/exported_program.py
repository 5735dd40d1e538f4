"""Export a net as a program (`pt2`), the form in which MLflow loads a PyTorch model without pickle.

The program's graph is the same for all weights of a net, and PyTorch needs seconds to trace it: it is traced once for
each version of PyTorch and of the net, cached in the state folder, and a model's weights replace its own.
"""

import hashlib
import inspect
import io
import json
import logging
import os
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import redirect_stderr
from functools import cache
from importlib.metadata import version

import torch
from torch import Tensor

from hw2.common import constants, image_spec
from hw2.common.errors import ConfigurationError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.models import base_cnn, custom_net, factory, net, resnet20, torchvision_net, wrapped_net
from hw2.models.factory import new_model
from hw2.models.net import CustomNetSource
from hw2.models.net_source import is_torchvision
from mlflow_project.common.text import first_line
from mlflow_project.tracking.journal import state_dir

_WEIGHTS = "data/weights/"
_TABLE = f"{_WEIGHTS}model_weights_config.json"
# Of the archives whose layout is known: in another one nothing is replaced.
_LAYOUT = {"archive_format": b"pt2", "archive_version": b"0"}


def validate_net(custom: CustomNetSource, spec: ImageSpec = STUDY) -> None:
    """Raise ConfigurationError where the net can't be made, has wrong outputs or can't be exported."""
    new_model(0, custom, spec)
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    # PyTorch would warn and print the program; here it is one line.
    disabled, logger.disabled = logger.disabled, True
    try:
        with redirect_stderr(io.StringIO()):
            _template(custom, spec)
    except (Exception, SystemExit) as error:  # PyTorch raises a dozen kinds
        raise ConfigurationError(
            f"{custom[0]} can't be exported for MLflow by torch.export ({first_line(error)}); "
            + (
                "let its forward take the same way whatever is in the images"
                if custom[1]
                else "choose another net"
            )
        ) from error
    finally:
        logger.disabled = disabled


def exported_program(
    weights: Mapping[str, Tensor], custom: CustomNetSource | None = None, spec: ImageSpec = STUDY
) -> bytes:
    """Export a net with these weights.

    Args:
        weights: Of BaseCNN or of the other net.
        custom: Another net's name and source; None for BaseCNN.
        spec: The images that it takes.

    Returns:
        A `pt2` file's content: a program from uint8 [N, 28, 28] (or as `spec` has them) for any N to logits, float32
        [N, classes].

    Raises:
        ValueError: The weights' names or sizes are not those of the net.
    """
    return _filled(_template(custom, spec), weights) or _trace(custom, spec, weights)


def _filled(template: bytes, weights: Mapping[str, Tensor]) -> bytes | None:
    """Fill the traced program with these weights; None where another PyTorch has another archive layout.

    A thousandth of a second; `torch.export.load`, new weights and `torch.export.save` take 0.06 to 1 second.
    """
    filled = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(template)) as archive, zipfile.ZipFile(filled, "w") as target:
        top = archive.namelist()[0].partition("/")[0]
        try:
            if any(archive.read(f"{top}/{name}") != text for name, text in _LAYOUT.items()):
                return None
            entries = json.loads(archive.read(f"{top}/{_TABLE}"))["config"]
            files = {name: f"{top}/{_WEIGHTS}{entry['path_name']}" for name, entry in entries.items()}
        except (KeyError, ValueError, TypeError, AttributeError):
            return None
        if not files or not set(files.values()) <= set(archive.namelist()):
            return None
        if files.keys() != weights.keys():
            raise ValueError(f"weights {sorted(weights)}, expected {sorted(files)}")
        content = {
            file: weights[name].detach().contiguous().numpy().tobytes() for name, file in files.items()
        }
        for record in archive.infolist():
            data = content.get(record.filename, archive.read(record))
            if len(data) != record.file_size:
                raise ValueError(f"{record.filename} of {len(data)} bytes, expected {record.file_size}")
            # A new entry has a fixed date: equal weights are equal bytes.
            target.writestr(zipfile.ZipInfo(record.filename), data)
    return filled.getvalue()


@cache
def _template(custom: CustomNetSource | None, spec: ImageSpec = STUDY) -> bytes:
    """Return a traced program with any weights: the cached one, else a new one, which is cached if the disk allows."""
    modules = (
        constants,
        image_spec,
        net,
        base_cnn,
        factory,
        custom_net,
        resnet20,
        torchvision_net,
        wrapped_net,
    )
    texts = [inspect.getsource(module) for module in modules]
    if custom is not None and is_torchvision(custom[0]):
        texts.append(version("torchvision"))
    code = hashlib.sha256(
        "\n".join([*texts, *(custom or ()), *([] if spec == STUDY else [spec.to_json()])]).encode()
    ).hexdigest()
    cached = state_dir.state_dir() / "exported" / f"{torch.__version__}-{code[:16]}.pt2"
    try:
        content = cached.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is None:
                return content
    except (OSError, zipfile.BadZipFile):
        pass
    content = _emptied(_trace(custom, spec))
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        part = cached.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(cached)
    except OSError:
        pass  # then the next process traces again
    return content


def _emptied(program: bytes) -> bytes:
    """Make the weights, which are replaced anyway, zeros that take no space: a large net has hundreds of megabytes."""
    emptied = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(program)) as archive, zipfile.ZipFile(emptied, "w") as target:
        for record in archive.infolist():
            data = archive.read(record)
            if f"/{_WEIGHTS}" in record.filename and not record.filename.endswith(".json"):
                data = bytes(len(data))
            target.writestr(zipfile.ZipInfo(record.filename), data, zipfile.ZIP_DEFLATED)
    return emptied.getvalue()


def _trace(
    custom: CustomNetSource | None, spec: ImageSpec = STUDY, weights: Mapping[str, Tensor] | None = None
) -> bytes:
    """Trace a new program, of the weights if some are given; ValueError where they are not those of the net."""
    base_cnn = new_model(0, custom, spec).eval()
    if weights is not None:
        try:
            base_cnn.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights of another net: {' '.join(str(error).split())}") from error
    # Two images: of one, PyTorch would learn that there is always one.
    example = torch.zeros(2, *spec.shape, dtype=torch.uint8)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own modules
        program = torch.export.export(base_cnn, (example,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
        torch.export.save(program, content)
    return content.getvalue()
