"""Registered versions as values, and the ways in which a person names them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hw2.data.catalog import SAMPLE_SUFFIX
from mlflow_project.common.errors import UsageError

# Tags of a version by which it can be looked up, and how their text is compared.
SEARCHABLE: Mapping[str, type] = {"lr": float, "epochs": int, "batch_size": int, "seed": int}
# Tags that versions of earlier versions of this project lack; their runs say them, by these names.
OF_RUN: Mapping[str, str] = {
    "optimizer": "optimizer", "momentum": "momentum", "precision": "precision_used", "device": "device_used",
}  # fmt: skip
_COMPARED: Mapping[str, type] = {
    **SEARCHABLE, "optimizer": str, "momentum": float, "precision": str, "device": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered version, with the aliases that point to it."""

    name: str
    number: int
    run_id: str
    created_ms: int
    tags: Mapping[str, str]
    aliases: tuple[str, ...] = ()
    model_id: str | None = None
    """Of the logged model that was registered; None for files that are none."""

    @property
    def uri(self) -> str:
        """By which MLflow finds it."""
        return f"models:/{self.name}/{self.number}"

    @property
    def label(self) -> str:
        """As a person says it: its alias where it has one, and its configuration."""
        said = " ".join(f"{key}={self.tags[key]}" for key in ("lr", "epochs") if key in self.tags)
        return (
            f"{', '.join(self.aliases) or f'version {self.number}'} ({said})"
            if said
            else f"version {self.number}"
        )

    @property
    def is_of_sample(self) -> bool:
        """Whether it was trained on an embedded sample, which is no measure of a model on full data."""
        return self.tags.get("dataset", "").endswith(SAMPLE_SUFFIX)

    @property
    def test_accuracy(self) -> float | None:
        """As measured in its run; None for a version that isn't ours."""
        return self.figure("test_accuracy")

    def figure(self, key: str) -> float | None:
        """The number that a tag says; None where there is none: anybody may write a tag, and write anything."""
        try:
            number = float(self.tags[key])
        except (KeyError, ValueError):
            return None
        return number if math.isfinite(number) else None


@dataclass(frozen=True)
class VersionFilter:
    """What a person says of a model: equal to the tags given, at least that accuracy, tested on that data."""

    tags: Mapping[str, str] = field(default_factory=dict)
    min_test_accuracy: float | None = None
    dataset_sha256: str | None = None  # or its beginning

    def match(self, version: Version) -> bool:
        """Whether the version fits, numbers compared as numbers."""
        accuracy = version.test_accuracy
        return (
            all(
                key in version.tags and _equal(key, version.tags[key], value)
                for key, value in self.tags.items()
            )
            and (
                self.min_test_accuracy is None
                or (accuracy is not None and accuracy >= self.min_test_accuracy)
            )
            and (
                self.dataset_sha256 is None
                or version.tags.get("dataset_sha256", "").startswith(self.dataset_sha256.lower())
            )
        )


def split_models(said: str) -> list[str]:
    """`champion,m1,3,lr=0.1,epochs=8` as four models: neighboring `key=value` parts are one look-up.

    A key that comes again begins the next look-up.
    """
    models: list[list[str]] = []
    for part in filter(None, (part.strip() for part in said.split(","))):
        previous = models[-1] if models else None
        keys = [word.partition("=")[0] for word in part.split()]
        if (
            previous is not None
            and "=" in part
            and "=" in previous[0]
            and not any(word.startswith(f"{key}=") for key in keys for word in " ".join(previous).split())
        ):
            previous.append(part)
        else:
            models.append([part])
    return [" ".join(parts) for parts in models]


def parse_tags(said: str) -> dict[str, str]:
    """`lr=0.1 epochs=8` (or with commas) as tags; UsageError for another key or a value that is not a number."""
    tags = {}
    for word in re.split(r"[,\s]+", said.strip()):
        key, _, value = word.partition("=")
        if key not in SEARCHABLE:
            raise UsageError(
                f"{word!r}: a model is looked up by {', '.join(SEARCHABLE)}, as in lr=0.1 epochs=8"
            )
        try:
            SEARCHABLE[key](value)
        except ValueError as error:
            raise UsageError(f"{word!r}: {value!r} is not a number") from error
        tags[key] = value
    return tags


def stored_text(key: str, value: str) -> str:
    return str(_COMPARED[key](value))


def _equal(key: str, kept: str, said: str) -> bool:
    try:
        return bool(_COMPARED[key](kept) == _COMPARED[key](said))
    except ValueError:
        return False
