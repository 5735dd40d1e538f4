"""Decoded images on disk, so that files are decoded once: one file for each place that images were read from."""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL

from hw2.data.formats.arrays import PARTS, ImageArrays
from hw2.data.formats.locations import download_dir

# Of what decodes: another one decodes anew.
_FORMAT = 1


def cache_path(place: Path, options: object = None) -> Path:
    """Return where the images of a place are cached, read with these options."""
    key = hashlib.sha256(repr((str(place.resolve()), options)).encode("utf-8", "surrogateescape")).hexdigest()
    return download_dir() / "decoded" / f"{key[:32]}.npz"


def read_cached(path: Path, content: str, read: Callable[[], ImageArrays]) -> ImageArrays:
    """Return the cached images, or read and cache them where the cache is of other content, or none.

    Args:
        path: See `cache_path`.
        content: A hash of what the images are read from.
        read: How to read them.
    """
    key = f"{content} {_FORMAT} Pillow {PIL.__version__}"
    cached = _load(path, key)
    if cached is None:
        cached = read()
        _save(path, key, cached)
    return cached


def _load(path: Path, key: str) -> ImageArrays | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if about["key"] != key:
                return None
            parts = {part: (stored[f"{part}_images"], stored[f"{part}_labels"]) for part in about["parts"]}
            return ImageArrays(parts, tuple(about["classes"]), tuple(about["notes"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _save(path: Path, key: str, arrays: ImageArrays) -> None:
    """Write whole or not at all; a disk that refuses only costs the next reader time."""
    parts = [part for part in PARTS if part in arrays.parts]
    about = {"key": key, "parts": parts, "classes": arrays.classes, "notes": arrays.notes}
    content = {"about": np.array(json.dumps(about))}
    for part in parts:
        content[f"{part}_images"], content[f"{part}_labels"] = arrays.parts[part]
    writing = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing.open("wb") as file:
            np.savez(file, **content)  # type: ignore[arg-type]
        writing.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            writing.unlink(missing_ok=True)
