"""The folders in which a store's artifacts lie, and where each of them lies in a backup.

The folder that the server writes to (its paths are `mlflow-artifacts:/...`) comes back as it was; what lies in others
comes back in folders below it, so that a restored service has one artifact folder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

FOLDERS = ("mlruns", "mlartifacts")
"""Without a server, and with one: what MLflow makes beside a store."""
_SERVED = "mlflow-artifacts:"


@dataclass(frozen=True)
class Roots:
    """Folders that together hold all artifacts; none lies in another. Paths are absolute."""

    folders: Mapping[Path, str]
    """Each with the path below the artifacts of a backup at which its files lie; the empty one is the server's."""

    def place(self, location: str) -> str | None:
        """Return where an artifact location is in a backup; None if it is in none of these folders."""
        if location.startswith(_SERVED):
            return unquote(urlsplit(location).path).strip("/") if "" in self.folders.values() else None
        path = local_path(location)
        for root, prefix in self.folders.items():
            if path is not None and path.is_relative_to(root):
                return (prefix / path.relative_to(root)).as_posix()
        return None


def local_path(location: str) -> Path | None:
    """Return the folder of an artifact location; None if it is on no file system of this machine."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def find_roots(requested: Iterable[Path], locations: Sequence[str]) -> Roots:
    """Return the requested folders, and those that the store's artifact locations name beside them.

    Of an `mlruns` or `mlartifacts` the whole is taken; of any other place, which may be somebody's home, what the
    store names alone.
    """
    folders = {folder.absolute() for folder in requested}
    for path in sorted({path for path in map(local_path, locations) if path is not None}):
        if not any(path.is_relative_to(folder) for folder in folders):
            named = next((parent for parent in path.parents if parent.name in FOLDERS), path)
            folders.add(named)
    outer = [f for f in sorted(folders) if f.is_dir() and not any(f.is_relative_to(o) for o in folders - {f})]
    served = [
        unquote(urlsplit(location).path).strip("/") for location in locations if location.startswith(_SERVED)
    ]
    # Stable: of folders with as many of the server's files, the first.
    outer.sort(key=lambda folder: -sum((folder / path).exists() for path in served))
    return Roots({folder: _prefix(number) for number, folder in enumerate(outer)})


def _prefix(number: int) -> str:
    return f"elsewhere-{number}" if number else ""
