"""What a program logged, as it was noted within its own processes."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Point = tuple[str, float, int, int]
"""Key, value, step, timestamp."""


@dataclass
class Owner:
    """What was logged to a run or a model; `maybe` is that of calls that were asynchronous, failed or cut off."""

    points: set[Point] = field(default_factory=set)
    maybe_points: set[Point] = field(default_factory=set)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    """The last value that is certain, None where there is none, and those that may have come after it."""
    files: dict[str, list[str | None]] = field(default_factory=lambda: defaultdict(list))
    """The same of SHA-256 by path."""
    names: list[str] = field(default_factory=list)
    """A run's, in turn; none where MLflow made one up."""
    start: int | None = None
    end: int | None = None
    status: str | None = None
    cut_off: bool = False
    """Whether its last call may not have been carried out."""


def read(path: Path, killed: bool = False) -> dict[str, Owner]:
    """Every run and model by the ID that the program saw; an asynchronous call is certain unless it was killed."""
    begun: dict[tuple[int, int], dict[str, Any]] = {}
    calls: list[dict[str, Any]] = []
    if path.exists():
        for text in path.read_bytes().splitlines():
            line = json.loads(text)
            key = line["process"], line["number"]
            if line["now"] == "begun":
                begun[key] = line
                calls.append(line)
            else:
                begun[key].update({**line, "call": begun[key]["call"]})
    owners: dict[str, Owner] = defaultdict(Owner)
    for line in calls:
        _add(owners, line, line["now"] == "ended" or (line["call"].endswith("_async") and not killed))
    return dict(owners)


def _add(owners: dict[str, Owner], line: dict[str, Any], certain: bool) -> None:
    name = line.get("run") or line.get("model") or line.get("owner")
    if name is None:  # cut off before it had an ID
        return
    owner = owners[name]
    for key, value, step, timestamp, model in line.get("points", ()):
        for each in [owner, *([owners[model]] if model else [])]:
            (each.points if certain else each.maybe_points).add((key, value, step, timestamp))
    owner.params.update(dict(line.get("params", ())) if certain else {})
    changes = [*line.get("tags", ()), *([[line["deleted"], None]] if "deleted" in line else [])]
    for key, tag in changes:
        owner.tags[key] = [*([] if certain else owner.tags.get(key, [None])), tag]
    for file, digest in line.get("files", {}).items():
        owner.files[file] = [*([] if certain else owner.files.get(file, [None])), digest]
    if line.get("name"):
        owner.names.append(line["name"])
    if line["call"] == "create_run":
        owner.start = line["start"]
    elif line["call"] == "update_run_info" and line.get("status") is not None:
        owner.end, owner.status, owner.cut_off = line["end"], _status(line["status"]), not certain
    elif line["call"] == "finalize_logged_model":
        owner.status, owner.cut_off = line["finalized"], not certain


def _status(number: int | str) -> str:
    from mlflow.entities import RunStatus

    return RunStatus.to_string(number) if isinstance(number, int) else number


def merge(first: Owner, second: Owner) -> Owner:
    """What was logged under two IDs of the same; the second is the one that was used later."""
    tags = {key: first.tags.get(key, []) + second.tags.get(key, []) for key in {*first.tags, *second.tags}}
    files = {
        key: first.files.get(key, []) + second.files.get(key, []) for key in {*first.files, *second.files}
    }
    later = second if second.status is not None else first
    return Owner(
        first.points | second.points,
        first.maybe_points | second.maybe_points,
        {**first.params, **second.params},
        tags,
        files,
        first.names + second.names,
        first.start if first.start is not None else second.start,
        later.end,
        later.status,
        first.cut_off or second.cut_off,
    )
