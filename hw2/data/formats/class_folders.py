"""Images in folders named like their classes, as torchvision's ImageFolder has them.

    train/CLASS/*  test/CLASS/*     and perhaps val/CLASS/* (or valid/, validation/)
    CLASS/*                         one part, which is divided by its images' content

Class names in their order are the labels.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hw2.common.errors import DataError
from hw2.common.formatting import format_percent, plural
from hw2.data.formats.arrays import ImageArrays, Labels, OnProgress, Part, Pixels
from hw2.data.formats.decode import HEAD, decode_files, image_opener, square
from hw2.data.formats.requirements import (
    COLORS,
    MIN_CLASSES,
    check_class_names,
    check_memory,
    check_parts,
    check_size,
)

PART_FOLDERS = {
    "train": "train",
    "test": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}
TEST_SHARE = 7  # of a set without a test part, a seventh is for testing
MOST_UNREADABLE = 0.01
_HIDDEN = ("thumbs.db", "desktop.ini", "__macosx")
_ONLY = ""  # the part of a set that isn't divided


class ClassFile(NamedTuple):
    """A file among those of a class."""

    part: str
    class_name: str
    path: str  # no Path: of 60,000, these would take as long as all else
    size: int
    modified_ns: int


@dataclass(frozen=True)
class ClassFolders:
    """The files of class folders, in the order of parts, classes and names; hidden: how many were left out."""

    folder: Path
    classes: tuple[str, ...]
    files: tuple[ClassFile, ...]
    hidden: int

    @property
    def listing_sha256(self) -> str:
        """Hash names, sizes and times: while these are the same, so are the images."""
        digest = hashlib.sha256(repr(self.classes).encode())
        below = len(str(self.folder))
        lines = (f"{f.part}\0{f.path[below:]}\0{f.size} {f.modified_ns}\n" for f in self.files)
        digest.update("".join(lines).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def is_class_folders(folder: Path) -> bool:
    """Whether a folder has folders, but hidden ones."""
    return any(entry.is_dir() and not _is_hidden(entry.name) for entry in _entries(folder))


def find_class_folders(folder: Path) -> ClassFolders:
    """List the files of class folders.

    Raises:
        DataError: There is no part to train on or to test on, a class is empty, or names can't be told apart.
    """
    top = {
        entry.name: entry for entry in _entries(folder) if not _is_hidden(entry.name) and _is_folder(entry)
    }
    parts = {name: PART_FOLDERS[name] for name in top if name in PART_FOLDERS}
    if not parts:
        classes, files, hidden = _list_classes(folder, _ONLY)
        return ClassFolders(folder, classes, tuple(files), hidden)
    for part in ("train", "test"):
        if part not in parts.values():
            raise DataError(
                f"{folder}: found {', '.join(sorted(parts))} but no folder {part}; "
                f"put the images into {part}/CLASS, or all classes straight into one folder to have them divided"
            )
    if len(set(parts.values())) < len(parts):
        raise DataError(f"{folder}: found {', '.join(sorted(parts))}; leave one folder of validation images")
    found = {part: _list_classes(folder / name, part) for name, part in parts.items()}
    classes = found["train"][0]
    for part, (names, _, _) in found.items():
        extra = sorted(set(names) - set(classes))
        if extra:
            raise DataError(
                f"{folder}: the class {extra[0]} is in the {part} part only, expected it in train, too; "
                "add its images there, or take the class out"
            )
    files = [file for part in sorted(found) for file in found[part][1]]
    return ClassFolders(folder, classes, tuple(files), sum(hidden for _, _, hidden in found.values()))


def _list_classes(folder: Path, part: str) -> tuple[tuple[str, ...], list[ClassFile], int]:
    files: list[ClassFile] = []
    names, hidden = [], 0
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        if _is_hidden(entry.name):
            hidden += 1
        elif _is_folder(entry):
            names.append(entry.name)
            of_class, hidden_there = _list_class(Path(entry.path), part)
            files += of_class
            hidden += hidden_there
    if not names:
        raise DataError(f"{folder}: found no folders, expected one a class with its images; see docs/data.md")
    check_class_names(folder, names, MIN_CLASSES if part in ("train", _ONLY) else 1)
    return tuple(names), files, hidden


def _list_class(folder: Path, part: str) -> tuple[list[ClassFile], int]:
    files: list[ClassFile] = []
    hidden, class_name = 0, folder.name
    seen: dict[str, str] = {}
    for entry in sorted(_entries(folder), key=lambda entry: entry.name):
        if _is_hidden(entry.name):
            hidden += 1
            continue
        status = _stat(entry)
        if stat.S_ISDIR(status.st_mode):
            raise DataError(
                f"{entry.path}: found a folder in a class's folder, expected image files; "
                "move its files up, or name the folder above by --dataset"
            )
        same = seen.setdefault(entry.name.casefold(), entry.name)
        if same != entry.name:
            raise DataError(f"{folder}: {same} and {entry.name} differ only in case; rename one of them")
        files.append(ClassFile(part, class_name, entry.path, status.st_size, status.st_mtime_ns))
    if not files:
        raise DataError(f"{folder}: an empty class, expected images in it; add some, or remove the folder")
    return files, hidden


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"{folder}: not a readable folder ({error.strerror}); check its path and permissions"
        ) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return stat.S_ISDIR(_stat(entry).st_mode)


def _stat(entry: "os.DirEntry[str]") -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:  # a link that leads nowhere, or in a circle
        raise DataError(f"{entry.path}: can't be followed ({error.strerror}); remove the link") from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _HIDDEN


def read_class_folders(
    found: ClassFolders, image_size: int | None = None, on_progress: OnProgress | None = None
) -> ImageArrays:
    """Decode the images of class folders.

    Raises:
        DataError: More than 1 % of the files are no images, sizes differ without `image_size`, or it's too much.
    """
    images, kept, notes = _decode(found, image_size, on_progress)
    label_of = {name: label for label, name in enumerate(found.classes)}
    labels = np.array([label_of[file.class_name] for file in kept], dtype=np.int64)
    parts: dict[str, Part] = {}
    if kept[0].part == _ONLY:
        parts, note = _divide(found, images, labels)
        notes.append(note)
    else:
        of_part = np.array([file.part for file in kept])
        for part in dict.fromkeys(file.part for file in kept):
            chosen = of_part == part
            parts[part] = images[chosen], labels[chosen]
    check_parts(found.folder, found.classes, {part: of for part, (_, of) in parts.items()})
    return ImageArrays(parts, found.classes, tuple(notes))


def _decode(
    found: ClassFolders, image_size: int | None, on_progress: OnProgress | None
) -> tuple[Pixels, list[ClassFile], list[str]]:
    """Decode all files that are images; which these are, and notes on the others."""
    if image_size is not None:
        check_size(found.folder, image_size, image_size, "give another --image-size")
        check_memory(found.folder, (len(found.files), image_size, image_size))
    decoded: list[Pixels] = []
    kept: list[ClassFile] = []
    problems: list[str] = []
    paths = [Path(file.path) for file in found.files]
    for file, image in zip(
        found.files, decode_files(found.folder, paths, square(image_size), on_progress), strict=True
    ):
        if isinstance(image, DataError):
            problems.append(str(image).partition("; ")[0])
            continue
        if not decoded:
            check_size(file.path, image.shape[0], image.shape[1], "scale the images by --image-size N")
            check_memory(found.folder, (len(paths), *image.shape))
        elif image.shape[:2] != decoded[0].shape[:2]:
            raise DataError(
                f"{file.path} has {image.shape[1]} x {image.shape[0]} pixels, {kept[0].path} "
                f"{decoded[0].shape[1]} x {decoded[0].shape[0]}; make all of one size by --image-size N"
            )
        decoded.append(image)
        kept.append(file)
    if not kept or len(problems) > MOST_UNREADABLE * len(paths):
        some = "; ".join(problems[:3])
        raise DataError(
            f"{found.folder}: {len(problems):,} of {plural(len(paths), 'file')} can't be used ({some}); "
            f"expected {format_percent(MOST_UNREADABLE, 0)} at most: replace or remove them"
        )
    notes = []
    if found.hidden:
        notes.append(f"{plural(found.hidden, 'hidden file')} left out")
    if problems:
        notes.append(
            f"{plural(len(problems), 'file')} left out that can't be used: {'; '.join(problems[:3])}"
        )
    if image_size is not None:
        notes.append(f"images scaled so that the shorter side is {image_size}, and their middle cut out")
    return _stack(found.folder, decoded, notes), kept, notes


def _stack(folder: Path, decoded: list[Pixels], notes: list[str]) -> Pixels:
    """Stack images as grey, or as color where any is; the list is emptied on the way, to save memory."""
    colored = sum(image.ndim == COLORS for image in decoded)
    shape: tuple[int, ...] = (len(decoded), *decoded[0].shape[:2])
    if colored:
        shape = (*shape, COLORS)
        check_memory(folder, shape)
        if colored < len(decoded):
            notes.append(
                f"{plural(len(decoded) - colored, 'grey image')} among {colored:,} in color made color, too"
            )
    images = np.empty(shape, dtype=np.uint8)
    for place in range(len(decoded) - 1, -1, -1):
        image = decoded.pop()
        images[place] = image[..., None] if colored and image.ndim < COLORS else image
    return images


def _divide(found: ClassFolders, images: Pixels, labels: Labels) -> tuple[dict[str, Part], str]:
    """Divide by the SHA-256 of each image: of each class the first seventh is to test, equal images on one side."""
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images])
    tested = np.zeros(len(images), dtype=bool)
    for label, name in enumerate(found.classes):
        of_class = np.flatnonzero(labels == label)
        different = np.unique(hashes[of_class])
        if len(different) < 2:
            raise DataError(
                f"{found.folder / name}: {plural(len(different), 'image')}, expected two different ones at least, to "
                "train on and to test on; add some"
            )
        chosen = different[: max(1, round(len(different) / TEST_SHARE))]
        tested[of_class] = np.isin(hashes[of_class], chosen)
    parts = {part: (images[where], labels[where]) for part, where in (("train", ~tested), ("test", tested))}
    counts = {part: len(of) for part, (_, of) in parts.items()}
    return parts, (
        f"no train and test folders, so the images are divided by their SHA-256: {counts['train']:,} to train, "
        f"{counts['test']:,} (a seventh of each class) to test"
    )


def list_images(folder: Path) -> list[tuple[str, Path]]:
    """List images that are to be shown to a model, with the class of each.

    Those of test/CLASS, else of CLASS, else the files straight in the folder, whose class is "unknown".
    """
    top = folder / "test" if (folder / "test").is_dir() else folder
    found: list[tuple[str, Path]] = []
    for entry in sorted(_entries(top), key=lambda entry: entry.name):
        if not _is_hidden(entry.name) and _is_folder(entry):
            files, _ = _list_class(Path(entry.path), _ONLY)
            found += [(entry.name, Path(file.path)) for file in files]
    if found:
        return found
    return [
        ("unknown", Path(file.path)) for file in _list_class(top, _ONLY)[0] if _looks_like_image(file.path)
    ]


def _looks_like_image(path: str) -> bool:
    with open(path, "rb") as file:
        return image_opener(file.read(HEAD)) is not None


def decode_listed(
    folder: Path, files: Sequence[tuple[str, Path]], size: tuple[int, int], mode: str
) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """Decode `list_images` as images of one size and mode; with labels and the classes' names."""
    check_memory(folder, (len(files), size[1], size[0], COLORS))
    classes = tuple(dict.fromkeys(name for name, _ in files))
    images, labels = [], []
    for (name, _), image in zip(files, decode_files(folder, [path for _, path in files], size), strict=True):
        if not isinstance(image, DataError):
            images.append(np.asarray(Image.fromarray(image).convert(mode)))
            labels.append(classes.index(name))
    if not images:
        raise DataError(f"{folder}: found no image that can be read; give a folder of image files")
    return np.stack(images), np.array(labels, dtype=np.int64), classes
