"""Which version had an alias, since when, by whom and why: the memory that MLflow's registry hasn't got.

Each change is a tag of the registered model, written once and never again.
"""

import getpass
import json
import os
import platform
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlflow_project.common.errors import UsageError
from mlflow_project.common.text import format_time

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHANGE_TAG = "alias_change."
MAX_CHARACTERS = 5000
"""Of a change as it is kept: a registered model's tag has no more room on PostgreSQL."""


def _me() -> str:
    """The tracking server's user where there is one, else this machine's."""
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not name:
        try:
            name = getpass.getuser()
        except (OSError, KeyError):
            name = "unknown"
    return f"{name}@{platform.node()}"


def _now() -> str:
    return format_time(datetime.now(UTC))


@dataclass(frozen=True)
class AliasChange:
    """One move of an alias, as it is kept on the registered model.

    from_version, to_version: None where nothing had the alias. evidence: what was found, by what it is about.
    because: why it was done in spite of `objections`, "" where there was no need to say.
    """

    alias: str
    from_version: int | None
    to_version: int | None
    _: KW_ONLY
    when: str = field(default_factory=_now)
    who: str = field(default_factory=_me)
    evidence: dict[str, str] = field(default_factory=dict)
    objections: tuple[str, ...] = ()
    because: str = ""

    @property
    def why(self) -> str:
        """In one line, for a table."""
        said = "; ".join([*self.evidence.values(), *(f"although {text}" for text in self.objections)])
        return f"{said}; because {self.because}" if self.because else said

    @property
    def text(self) -> str:
        """As it is kept; `UsageError` where that is too long for a tag."""
        text = json.dumps(asdict(self), ensure_ascii=False)
        if len(text) > MAX_CHARACTERS:
            raise UsageError(
                f"what is kept of this change has {len(text):,} characters, and {MAX_CHARACTERS:,} have room; "
                "give a shorter reason"
            )
        return text

    def moves_like(self, other: "AliasChange") -> bool:
        """Whether both move the same alias the same way."""
        mine, its = ((c.alias, c.from_version, c.to_version) for c in (self, other))
        return mine == its


def history(client: "MlflowClient", name: str) -> list[AliasChange]:
    """All changes of a registered model's aliases, oldest first, with those that nobody has said a word of."""
    model = client.get_registered_model(name)
    kept = changes(model.tags)
    found: list[AliasChange] = []
    for alias in sorted({change.alias for change in kept} | set(model.aliases)):
        holder = model.aliases.get(alias)
        own = [change for change in kept if change.alias == alias]
        found += _with_unrecorded(alias, own, None if holder is None else int(holder))
    # A change without a time came after those that have one.
    return sorted(found, key=lambda change: (change.when == "", change.when))


def changes(tags: Mapping[str, str]) -> list[AliasChange]:
    """Those that a registered model's tags keep, oldest first; a tag that can't be read is left out."""
    found = []
    for key in sorted(key for key in tags if key.startswith(CHANGE_TAG)):
        try:
            plain = json.loads(tags[key])
            found.append(AliasChange(**{**plain, "objections": tuple(plain["objections"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return found


def record_change(client: "MlflowClient", name: str, change: AliasChange, mark: str | None = None) -> None:
    """Adds a change to what is kept on the registered model; `UsageError` where there is no room for it.

    mark: a few characters of a delivery, which keeps a change once however often it comes; None for a person, who
    may move an alias the same way again. Theirs is random: two who promote at once don't overwrite each other.
    """
    text = change.text
    tags = client.get_registered_model(name).tags
    if mark is not None:
        own = changes({key: value for key, value in tags.items() if key.endswith(f"-{mark}")})
        if any(kept.moves_like(change) for kept in own):
            return
    numbers = [int(found[1]) for key in tags if (found := re.match(rf"{re.escape(CHANGE_TAG)}(\d+)", key))]
    key = f"{CHANGE_TAG}{max(numbers, default=0) + 1:06d}-{mark or uuid.uuid4().hex[:6]}"
    client.set_registered_model_tag(name, key, text)


def _with_unrecorded(alias: str, kept: Sequence[AliasChange], holder: int | None) -> Iterator[AliasChange]:
    """The kept changes of one alias, and between them those that must have come, made by other means."""
    at: int | None = None
    for change in kept:
        if change.from_version != at:
            yield _unrecorded(alias, at, change.from_version, change.when)
        yield change
        at = change.to_version
    if holder != at:
        yield _unrecorded(alias, at, holder, "")


def _unrecorded(alias: str, before: int | None, after: int | None, when: str) -> AliasChange:
    return AliasChange(
        alias, before, after, when=when, who="", evidence={"how": "changed outside `models promote`"}
    )
