"""A net as an exported program (`pt2`), the form in which MLflow loads a PyTorch model without pickle.

The program's graph is the same for all weights of a net, and PyTorch needs seconds to trace it: it is traced once for
each version of PyTorch and of the net, kept in the state folder, and a model's weights are put in the place of its own.
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

import torch
from torch import Tensor

from hw2.common import constants
from hw2.common.constants import IMAGE_SIZE
from hw2.common.errors import ConfigurationError
from hw2.models import base_cnn, custom_net, factory, net
from hw2.models.factory import new_model
from hw2.models.net import CustomNetSource
from mlflow_project.common.text import first_line
from mlflow_project.tracking.journal import state_dir

_WEIGHTS = "data/weights/"
_TABLE = f"{_WEIGHTS}model_weights_config.json"
# Of the archives whose layout is known: in another one nothing is put in the place of anything.
_LAYOUT = {"archive_format": b"pt2", "archive_version": b"0"}


def validate_custom_net(own: CustomNetSource) -> None:
    """`ConfigurationError` where the net can't be made, answers wrongly or can't be exported."""
    new_model(0, own)
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    # PyTorch warns of, and prints the program of, what is said here in one line.
    disabled, logger.disabled = logger.disabled, True
    try:
        with redirect_stderr(io.StringIO()):
            _template(own)
    except (Exception, SystemExit) as error:  # PyTorch raises a dozen kinds
        raise ConfigurationError(
            f"{own[0]} can't be exported for MLflow by torch.export ({first_line(error)}); "
            "let its forward take the same way whatever is in the images"
        ) from error
    finally:
        logger.disabled = disabled


def exported_program(weights: Mapping[str, Tensor], own: CustomNetSource | None = None) -> bytes:
    """The content of a `pt2` file: takes uint8 [N, 28, 28] for any N, returns logits, float32 [N, 10].

    weights: of BaseCNN or of the net of `own`. ValueError where their names or sizes are not those of the net.
    """
    return _filled(_template(own), weights) or _trace(own, weights)


def _filled(template: bytes, weights: Mapping[str, Tensor]) -> bytes | None:
    """The traced program with these weights; None where another PyTorch lays its archives out otherwise.

    A thousandth of a second; `torch.export.load`, new weights and `torch.export.save` take 0.06 to 1 second.
    """
    filled = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(template)) as archive, zipfile.ZipFile(filled, "w") as target:
        top = archive.namelist()[0].partition("/")[0]
        try:
            if any(archive.read(f"{top}/{name}") != text for name, text in _LAYOUT.items()):
                return None
            places = json.loads(archive.read(f"{top}/{_TABLE}"))["config"]
            files = {name: f"{top}/{_WEIGHTS}{place['path_name']}" for name, place in places.items()}
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
def _template(own: CustomNetSource | None) -> bytes:
    """A traced program with any weights: what is kept, else a new one, which is kept if the disk takes it."""
    texts = [inspect.getsource(module) for module in (constants, net, base_cnn, factory, custom_net)]
    code = hashlib.sha256("\n".join([*texts, *(own or ())]).encode()).hexdigest()
    kept = state_dir.state_dir() / "exported" / f"{torch.__version__}-{code[:16]}.pt2"
    try:
        content = kept.read_bytes()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is None:
                return content
    except (OSError, zipfile.BadZipFile):
        pass
    content = _trace(own)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(kept)
    except OSError:
        pass  # then the next process traces again
    return content


def _trace(own: CustomNetSource | None, weights: Mapping[str, Tensor] | None = None) -> bytes:
    """A new program, of the weights if some are given; ValueError where they are not those of the net."""
    base_cnn = new_model(0, own).eval()
    if weights is not None:
        try:
            base_cnn.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"weights of another net: {' '.join(str(error).split())}") from error
    # Two images: of one, PyTorch would learn that there is always one.
    example = torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own modules
        program = torch.export.export(base_cnn, (example,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
        torch.export.save(program, content)
    return content.getvalue()
