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

from hw2 import constants, model, model_factory, net, own_net
from hw2.constants import IMAGE_SIZE
from hw2.errors import ConfigurationError
from hw2.model_factory import new_model
from hw2.net import OwnSource
from mlflow_project import state_dir
from mlflow_project.text import first_line

_WEIGHTS = "data/weights/"
_TABLE = f"{_WEIGHTS}model_weights_config.json"


def try_out(own: OwnSource) -> None:
    """`ConfigurationError` where the net can't be made, answers wrongly or can't be exported."""
    new_model(0, own)
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    # PyTorch warns of, and prints the program of, what is said here in one line.
    disabled, logger.disabled = logger.disabled, True
    try:
        with redirect_stderr(io.StringIO()):
            _template(own)
    except Exception as error:  # PyTorch raises a dozen kinds
        raise ConfigurationError(
            f"{own[0]} can't be exported for MLflow by torch.export ({first_line(error)}); "
            "let its forward take the same way whatever is in the pictures"
        ) from error
    finally:
        logger.disabled = disabled


def exported_program(weights: Mapping[str, Tensor], own: OwnSource | None = None) -> bytes:
    """The content of a `pt2` file: takes uint8 [N, 28, 28] for any N, returns logits, float32 [N, 10].

    weights: of BaseCNN or of the net of `own`. ValueError where their names or sizes are not those of the net.
    """
    filled = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_template(own))) as template, zipfile.ZipFile(filled, "w") as archive:
        top = template.namelist()[0].partition("/")[0]
        places = json.loads(template.read(f"{top}/{_TABLE}"))["config"]
        if places.keys() != weights.keys():
            raise ValueError(f"weights {sorted(weights)}, expected {sorted(places)}")
        content = {
            f"{top}/{_WEIGHTS}{place['path_name']}": weights[name].detach().contiguous().numpy().tobytes()
            for name, place in places.items()
        }
        for record in template.infolist():
            data = content.get(record.filename, template.read(record))
            if len(data) != record.file_size:
                raise ValueError(f"{record.filename} of {len(data)} bytes, expected {record.file_size}")
            # A new entry has a fixed date: equal weights are equal bytes.
            archive.writestr(zipfile.ZipInfo(record.filename), data)
    return filled.getvalue()


@cache
def _template(own: OwnSource | None) -> bytes:
    """A traced program with any weights: what is kept, else a new one, which is kept if the disk takes it."""
    texts = [inspect.getsource(module) for module in (constants, net, model, model_factory, own_net)]
    code = hashlib.sha256("\n".join([*texts, *(own or ())]).encode()).hexdigest()
    kept = state_dir.home() / "exported" / f"{torch.__version__}-{code[:16]}.pt2"
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


def _trace(own: OwnSource | None) -> bytes:
    # Two pictures: of one, PyTorch would learn that there is always one.
    example = torch.zeros(2, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8)
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, about its own modules
        program = torch.export.export(
            new_model(0, own).eval(), (example,), dynamic_shapes=[{0: torch.export.Dim.AUTO}]
        )
        torch.export.save(program, content)
    return content.getvalue()
