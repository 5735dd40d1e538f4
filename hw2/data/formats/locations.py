"""Where image sets lie on this machine, and how they get there."""

import contextlib
import io
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from hw2.common.errors import DataError

CONNECTION_SECONDS = 60.0


class DatasetNotFoundError(DataError):
    """The files are absent, as opposed to being there and damaged."""


def download_dir() -> Path:
    """Return the folder of downloads: datasets/vision in torch's cache ($TORCH_HOME, else ~/.cache/torch)."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(Path(os.environ.get("TORCH_HOME") or f"{cache}/torch")) / "datasets" / "vision"


def expanded(path: Path) -> Path:
    """Replace `~`; DataError for the home of an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise DataError(f"{path}: found no such person's home folder; write the whole path") from error


def download_files(name: str, torchvision_class: str, root: Path, options: Mapping[str, str]) -> None:
    """Fetch a set with its class in torchvision, which checks the published MD5 sums of the packed files."""
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    # torchvision sets no time-out of its own, and reports on the terminal, which is the caller's.
    socket.setdefaulttimeout(CONNECTION_SECONDS)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            getattr(datasets, torchvision_class)(str(root), download=True, **options)
    except (OSError, RuntimeError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise DataError(
            f"{name} could not be downloaded to {root} ({reason}); "
            "check the network and the space on the disk, or name a folder that has the files by --data-dir"
        ) from error
    finally:
        socket.setdefaulttimeout(before)
