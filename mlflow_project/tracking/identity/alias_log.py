"""The history of aliases, which MLflow's registry doesn't keep: which version had one, since when, by whom and why.

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
"""Of a stored change: on PostgreSQL a registered model's tag takes no more."""


def _current_user() -> str:
    """Return the tracking server's user if there is one, else this machine's."""
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
    """One move of an alias, as it is stored on the registered model.

    from_version, to_version: None for no version. evidence: the passed checks, by name. objections: the failed ones.
    because: the reason given to override `objections`, else "".
    """

    alias: str
    from_version: int | None
    to_version: int | None
    _: KW_ONLY
    when: str = field(default_factory=_now)
    who: str = field(default_factory=_current_user)
    evidence: dict[str, str] = field(default_factory=dict)
    objections: tuple[str, ...] = ()
    because: str = ""

    @property
    def why(self) -> str:
        """Describe evidence, objections and reason in one line, for a table."""
        reason = [f"because {self.because}"] if self.because else []
        return "; ".join(
            [*self.evidence.values(), *(f"although {text}" for text in self.objections), *reason]
        )

    @property
    def text(self) -> str:
        """Encode the change as it is stored.

        Raises:
            UsageError: It is too long for a tag.
        """
        text = json.dumps(asdict(self), ensure_ascii=False)
        if len(text) > MAX_CHARACTERS:
            raise UsageError(
                f"the record of this change has {len(text):,} characters; a tag takes {MAX_CHARACTERS:,}; "
                "give a shorter reason"
            )
        return text

    def is_same_move(self, other: "AliasChange") -> bool:
        """Return whether both move the same alias the same way."""
        first, second = ((c.alias, c.from_version, c.to_version) for c in (self, other))
        return first == second


def history(client: "MlflowClient", name: str) -> list[AliasChange]:
    """List all changes of a registered model's aliases, oldest first, also those that went unrecorded."""
    model = client.get_registered_model(name)
    recorded = changes(model.tags)
    complete: list[AliasChange] = []
    for alias in sorted({change.alias for change in recorded} | set(model.aliases)):
        version = model.aliases.get(alias)
        own = [change for change in recorded if change.alias == alias]
        complete += _with_unrecorded(alias, own, None if version is None else int(version))
    # A change without a time came after those that have one.
    return sorted(complete, key=lambda change: (change.when == "", change.when))


def changes(tags: Mapping[str, str]) -> list[AliasChange]:
    """Read the changes in a registered model's tags, oldest first; an unreadable tag is left out."""
    recorded = []
    for key in sorted(key for key in tags if key.startswith(CHANGE_TAG)):
        try:
            plain = json.loads(tags[key])
            recorded.append(AliasChange(**{**plain, "objections": tuple(plain["objections"])}))
        except (ValueError, TypeError, KeyError):
            continue
    return recorded


def record_change(
    client: "MlflowClient", name: str, change: AliasChange, dedup_key: str | None = None
) -> None:
    """Record a change on the registered model.

    Args:
        client: MLflow's client.
        name: The registered model's name.
        change: What to record.
        dedup_key: A few characters of a journal's key, whose change is recorded once however often it is uploaded;
            None for a person, who may move an alias the same way again.

    Raises:
        UsageError: The change is too long for a tag.
    """
    text = change.text
    tags = client.get_registered_model(name).tags
    if dedup_key is not None:
        own = changes({key: value for key, value in tags.items() if key.endswith(f"-{dedup_key}")})
        if any(recorded.is_same_move(change) for recorded in own):
            return
    numbers = [int(match[1]) for key in tags if (match := re.match(rf"{re.escape(CHANGE_TAG)}(\d+)", key))]
    # A person's is random: two who promote at once don't overwrite each other.
    key = f"{CHANGE_TAG}{max(numbers, default=0) + 1:06d}-{dedup_key or uuid.uuid4().hex[:6]}"
    client.set_registered_model_tag(name, key, text)


def _with_unrecorded(
    alias: str, recorded: Sequence[AliasChange], current: int | None
) -> Iterator[AliasChange]:
    """Yield the recorded changes of one alias, and between them those that must have been made by other means."""
    version: int | None = None
    for change in recorded:
        if change.from_version != version:
            yield _unrecorded(alias, version, change.from_version, change.when)
        yield change
        version = change.to_version
    if current != version:
        yield _unrecorded(alias, version, current, "")


def _unrecorded(alias: str, before: int | None, after: int | None, when: str) -> AliasChange:
    return AliasChange(
        alias, before, after, when=when, who="", evidence={"how": "changed outside `models promote`"}
    )
