"""Registered versions as values, and the queries that name them."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hw2.data.catalog import SAMPLE_SUFFIX
from hw2.training.config import DEFAULTS, LATER
from mlflow_project.common.errors import UsageError

# Tags of a version by which it can be looked up, and how their text is compared.
SEARCHABLE: Mapping[str, type] = {"lr": float, "epochs": int, "batch_size": int, "seed": int}
# Tags that versions of earlier versions of this project lack; their runs say them, by these names.
OF_RUN: Mapping[str, str] = {
    "optimizer": "optimizer", "momentum": "momentum", "precision": "precision_used", "device": "device_used",
}  # fmt: skip
_COMPARED: Mapping[str, type] = {
    **SEARCHABLE, "optimizer": str, "momentum": float, "precision": str, "device": str, "nesterov": str,
    "weight_decay": float, "label_smoothing": float, "clip_norm": float, "schedule": str, "augment": str,
}  # fmt: skip
_WITHOUT_TAG: Mapping[str, str] = {key: str(DEFAULTS[key]) for key in LATER}
"""What a version was trained with that lacks the tag."""


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
    """Id of the logged model that was registered; None for other files."""

    @property
    def uri(self) -> str:
        """URI by which MLflow loads the version."""
        return f"models:/{self.name}/{self.number}"

    @property
    def label(self) -> str:
        """The version's aliases or else its number, and its configuration."""
        config = " ".join(f"{key}={self.tags[key]}" for key in ("lr", "epochs") if key in self.tags)
        name = f"version {self.number}"
        return f"{', '.join(self.aliases) or name} ({config})" if config else name

    @property
    def configuration(self) -> str:
        """What it can be looked up by, and every other option of its training that isn't the default."""
        others = {"optimizer", "momentum", *LATER}
        return " ".join(
            f"{key}={value}"
            for key, value in self.tags.items()
            if key in SEARCHABLE or (key in others and value != str(DEFAULTS[key]))
        )

    @property
    def is_of_sample(self) -> bool:
        """Whether it was trained on a bundled sample, which is no measure of a model on full data."""
        return self.tags.get("dataset", "").endswith(SAMPLE_SUFFIX)

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy of the version's run; None for a version that isn't ours."""
        return self.numeric_tag("test_accuracy")

    def numeric_tag(self, key: str) -> float | None:
        """Return a tag as a number; None where it is none: anybody may write a tag, and write anything."""
        try:
            number = float(self.tags[key])
        except (KeyError, ValueError):
            return None
        return number if math.isfinite(number) else None


@dataclass(frozen=True)
class VersionFilter:
    """Which versions to take: those with these tags, at least this accuracy, tested on this data."""

    tags: Mapping[str, str] = field(default_factory=dict)
    min_test_accuracy: float | None = None
    dataset_sha256: str | None = None  # or its beginning

    def match(self, version: Version) -> bool:
        """Return whether the version fits, numbers compared as numbers."""
        accuracy = -1.0 if version.test_accuracy is None else version.test_accuracy
        if self.min_test_accuracy is not None and accuracy < self.min_test_accuracy:
            return False
        if not version.tags.get("dataset_sha256", "").startswith((self.dataset_sha256 or "").lower()):
            return False
        tags = {**_WITHOUT_TAG, **version.tags}
        return all(key in tags and _equal(key, tags[key], value) for key, value in self.tags.items())


def split_models(text: str) -> list[str]:
    """Split `champion,m1,3,lr=0.1,epochs=8` into four queries: neighboring `key=value` parts are one query.

    A key that comes again begins the next query.
    """
    models: list[list[str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
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


def parse_tags(text: str) -> dict[str, str]:
    """Parse `lr=0.1 epochs=8` (or with commas); UsageError for another key or a value that is not a number."""
    tags = {}
    for word in re.split(r"[,\s]+", text.strip()):
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
    """Return a number's text as a tag stores it."""
    return str(_COMPARED[key](value))


def _equal(key: str, stored: str, value: str) -> bool:
    try:
        return bool(_COMPARED[key](stored) == _COMPARED[key](value))
    except ValueError:
        return False
