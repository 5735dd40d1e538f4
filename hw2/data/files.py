"""Files of images and labels: located, downloaded, read, and refused where they are damaged."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw2.common.errors import DataError
from hw2.data import idx
from hw2.data.catalog import DATASETS, DatasetSpec
from hw2.data.formats.arrays import Labels, Pixels
from hw2.data.formats.locations import DatasetNotFoundError, download_dir, download_files, expanded
from hw2.data.formats.requirements import check_memory, check_size

FILE_STEMS = {"train": ("train",), "test": ("t10k", "test")}
OWN_IMAGES = ", or give a folder of your own images as the data set itself, by its path"
# QMNIST's labels have eight columns, of which the first is the class.
LABEL_FORMS = ("idx1-ubyte", "idx2-int", "idx1-int")


def find_known(
    name: str, known: DatasetSpec, splits: Sequence[str], data_dir: Path | None, download: bool
) -> Path | None:
    """Find the folder with files of these splits; None where no folder was given and the cache has none."""
    root = expanded(data_dir) if data_dir is not None else download_dir()
    if data_dir is not None and not download:
        listing(root)
    places = [root / known.folder / "raw"]
    if data_dir is not None:
        places += [root / "raw", root]
    place = _place(places, splits, known.prefix)
    if place is None and download:
        _download(name, known, root)
        place = _place(places, splits, known.prefix)
    if place is None and (data_dir is not None or download):
        missing = " and ".join(_expected(split, known.prefix) for split in splits)
        raise DatasetNotFoundError(
            f"{root}: found no {missing} in {known.folder}/raw, raw or the folder itself; "
            f"put the files of {name} there, or let them be downloaded by --download"
        )
    return place


def find_sibling(
    name: str, known: DatasetSpec, splits: Sequence[str], data_dir: Path | None, download: bool
) -> Path | None:
    """Find a set of which `data_dir` has its own folder or nothing; else the cache's, or None.

    The raw/ of a `data_dir` that was given for another set, or its top, holds that set's files under these names.
    """
    roots = [download_dir()] if data_dir is None else [expanded(data_dir), download_dir()]
    places = [root / known.folder / "raw" for root in roots]
    place = _place(places, splits, known.prefix)
    if place is None and download:
        _download(name, known, roots[0])
        place = _place(places, splits, known.prefix)
    return place


def find_folder(folder: Path, splits: Sequence[str]) -> Path:
    """Find the folder itself or its raw/, whichever has the files of these splits."""
    listing(folder)
    place = _place([folder / "raw", folder], splits, "")
    if place is None:
        missing = " and ".join(_expected(split, "") for split in splits)
        raise DatasetNotFoundError(f"{folder}: found no {missing} in it or its raw/; give another folder")
    return place


def has_idx_files(folder: Path) -> bool:
    """Whether a folder or its raw/ has files named as IDX files are."""
    places = [place for place in (folder / "raw", folder) if is_folder(place)]
    return any(
        re.search(r"[-.]idx\d-(ubyte|int)(\.gz)?$", name)
        for place in places
        for name in listing(place, False)
    )


def read_split(folder: Path, split: str, known: DatasetSpec | None = None) -> tuple[Pixels, Labels]:
    """Read images (uint8 [N, H, W]) and labels (int64 [N], as they are stored); a known set's as published."""
    names = listing(folder)
    prefix = known.prefix if known else ""
    images_name, labels_name = (_file(names, split, kind, prefix) for kind in ("images", "labels"))
    if images_name is None or labels_name is None:
        kind = "pictures" if images_name is None else "labels"
        raise DataError(
            f"{folder}: found no file of the {kind} of the {split} set, expected it beside "
            f"{images_name or labels_name}; copy or download it again"
        )
    images_path, labels_path = folder / images_name, folder / labels_name
    images = _read_images(images_path, transposed=known is not None and known.transposed)
    labels = _read_labels(labels_path, images_path, len(images))
    if known is None:
        return images, labels
    last = known.first_label + len(known.classes) - 1
    wrong = np.flatnonzero((labels > last) | (labels < known.first_label))
    if len(wrong):
        raise DataError(
            f"{labels_path}: found label {int(labels[wrong[0]])} at position {int(wrong[0])}, expected "
            f"{known.first_label} to {last}; the file is damaged or of another data set"
        )
    _check_published(known, split, images_path, labels_path, images, labels)
    return images, labels - known.first_label


def read_any(folder: Path) -> tuple[Pixels, Labels | None]:
    """Read the test images of a folder, else its training images, else its only images; labels if any."""
    place = folder / "raw" if is_folder(folder / "raw") else folder
    names = listing(place)
    image_names = [name for name in names if re.search(r"images[-.]idx3-ubyte(\.gz)?$", name)]
    for stem in (*FILE_STEMS["test"], *FILE_STEMS["train"]):
        chosen = [name for name in image_names if stem in name]
        if chosen:
            break
    else:
        chosen = image_names
    stems = {name.removesuffix(".gz") for name in chosen}
    if len(stems) != 1:
        count = f"{len(stems)} files" if stems else "no file"
        raise DatasetNotFoundError(
            f"{place}: found {count} of images, expected one named like t10k-images-idx3-ubyte[.gz]"
        )
    images_path = place / min(chosen)
    images = _read_images(images_path, transposed=images_path.name.startswith("emnist-"))
    label_stem = stems.pop().replace("images", "labels").replace("idx3", "idx1")
    for label_name in (label_stem, f"{label_stem}.gz"):
        if label_name in names:
            return images, _read_labels(place / label_name, images_path, len(images))
    return images, None


def listing(folder: Path, empty_is_wrong: bool = True) -> list[str]:
    """List a folder; DatasetNotFoundError where it is missing or empty, DataError where it may not be read."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable(folder, error) from error
    if empty_is_wrong and not names:
        raise DatasetNotFoundError(
            f"{folder}: an empty folder, expected class folders or IDX files; name another"
        )
    return names


def is_folder(path: Path) -> bool:
    """Whether a folder is there; DataError where the system doesn't answer."""
    try:
        return path.is_dir()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(folder: Path, error: OSError) -> DataError:
    # What is there but may not be read must not be replaced by an embedded sample, as what is absent may be.
    kind = DatasetNotFoundError if isinstance(error, FileNotFoundError | NotADirectoryError) else DataError
    return kind(f"{folder}: not a readable folder ({error.strerror}); check its path and permissions")


def _place(places: Sequence[Path], splits: Sequence[str], prefix: str) -> Path | None:
    """Find the first folder that has images of every split; a missing file of labels is an error when it is read."""
    for place in places:
        # As one that lists it would see it: what is there but may not be read is an error, not an absence.
        if is_folder(place) or place.is_symlink():
            names = listing(place, empty_is_wrong=False)
            if all(_file(names, split, "images", prefix) for split in splits):
                return place
    return None


def _file(names: Sequence[str], split: str, kind: str, prefix: str) -> str | None:
    """Find the plain file if there is one, else the gzip; `kind` is images or labels."""
    forms = ("idx3-ubyte",) if kind == "images" else LABEL_FORMS
    for stem in FILE_STEMS[split]:
        for form in forms:
            for separator in "-.":
                base = f"{prefix}{stem}-{kind}{separator}{form}"
                for candidate in (base, f"{base}.gz"):
                    if candidate in names:
                        return candidate
    return None


def _expected(split: str, prefix: str) -> str:
    return f"{prefix}{FILE_STEMS[split][-1 if prefix else 0]}-images-idx3-ubyte[.gz]"


def _read_images(path: Path, transposed: bool) -> Pixels:
    images = idx.read_idx(path, check=lambda shape: check_memory(path, shape))
    if images.ndim != 3:
        shape = " x ".join(str(side) for side in images.shape)
        raise DataError(f"{path}: found values of shape {shape}, expected images, N x height x width")
    if len(images) == 0:
        raise DataError(f"{path}: holds no image, expected one at least; copy or download it again")
    check_size(path, images.shape[1], images.shape[2], "scale the images before they are written")
    return np.ascontiguousarray(images.transpose(0, 2, 1)) if transposed else images


def _read_labels(path: Path, images_path: Path, count: int) -> Labels:
    labels = idx.read_integers(path)
    if labels.ndim == 2 and labels.shape[1] == idx.QMNIST_COLUMNS:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{path}: found {labels.ndim} dimensions, expected 1; is it a file of images?")
    if len(labels) != count:
        raise DataError(
            f"{path}: found {len(labels):,} labels, expected {count:,} as {images_path.name} has images; "
            "the two files do not belong together"
        )
    return labels.astype(np.int64)


def _check_published(
    known: DatasetSpec, split: str, images_path: Path, labels_path: Path, images: Pixels, labels: Labels
) -> None:
    expected = known.sizes[split == "test"]
    if len(images) != expected:
        raise DataError(
            f"{images_path}: found {len(images):,} images, expected {expected:,} as published; "
            f"copy or download it again{OWN_IMAGES}"
        )
    files = (("images", images_path, images), ("labels", labels_path, labels.astype(np.uint8)))
    for kind, path, values in files:
        key = f"{split}-{kind}"
        # The files of several sets have the same names, and not of every set a sum is known.
        others = {} if kind == "labels" else {spec.md5[key]: spec for spec in DATASETS.values() if spec.md5}
        published = known.md5.get(key)
        if published is None and not others:
            continue
        md5 = hashlib.md5(idx.header(values.shape), usedforsecurity=False)
        md5.update(values.data)
        digest = md5.hexdigest()
        if digest == published:
            continue
        if digest in others:
            raise DataError(
                f"{path}: found the images of {others[digest].folder} by their MD5, expected those of "
                f"{known.folder}; name the folder of {known.folder} by --data-dir, or the other data set's name"
            )
        if published is not None:
            raise DataError(
                f"{path}: found MD5 {digest} (unpacked), expected {published} as published; "
                f"copy or download it again{OWN_IMAGES}"
            )


def _download(name: str, known: DatasetSpec, root: Path) -> None:
    for options in known.downloads:
        download_files(name, known.folder, root, options)
