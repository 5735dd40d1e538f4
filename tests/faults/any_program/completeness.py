"""Whether a server has what a program logged, call by call, with its timestamps."""

import math
from collections.abc import Mapping

from tests.faults.any_program.comparison import OUR_TAGS
from tests.faults.any_program.recorded import Owner, Point, merge
from tests.faults.any_program.snapshot import Content, Stored

LARGEST = 1.7976931348623157e308
"""What the SQL store makes of infinity."""


def find_stored(content: Content, owner_id: str) -> Stored | None:
    """The run or model that the program knew by this ID: its own, or one in a tag of ours."""
    everything = {**content.runs, **content.models}
    if owner_id in everything:
        return everything[owner_id]
    return next((s for s in everything.values() if owner_id in _our_tags(s)), None)


def _our_tags(stored: Stored) -> list[str]:
    return [text for key, text in stored.tags.items() if key.startswith(OUR_TAGS)]


def check_complete(content: Content, owners: Mapping[str, Owner]) -> list[str]:
    """What is missing, or is there and was never logged, a line each."""
    lines, logged = [], {}
    for owner_id, owner in owners.items():
        stored = find_stored(content, owner_id)
        if stored is None:
            lines.append(f"{owner_id} isn't on the server")
        elif id(stored) in logged:  # the program saw first a provisional ID, then the real one
            logged[id(stored)] = (stored, merge(logged[id(stored)][1], owner))
        else:
            logged[id(stored)] = (stored, owner)
    for stored, owner in logged.values():
        lines += [f"{stored.name}: {line}" for line in _check_owner(stored, owner)]
    return lines


def _check_owner(stored: Stored, owner: Owner) -> list[str]:
    nan = "0.0" if stored.is_model else "nan"  # so does the SQL store
    found, certain, maybe = (
        {_comparable(point, nan) for point in points}
        for points in (stored.points, owner.points, owner.maybe_points)
    )
    lines = []
    if lost := certain - found:
        lines.append(f"{len(lost)} points lost, such as {min(lost)}")
    if more := found - certain - maybe:
        lines.append(f"{len(more)} points that were never logged, such as {min(more)}")
    if len(found) < len(stored.points):
        lines.append(f"{len(stored.points) - len(found)} points twice")
    for key, text in owner.params.items():
        if stored.params.get(key) != text:
            lines.append(f"parameter {key} is {stored.params.get(key)}, not {text}")
    for kind, logged, there in (("tag", owner.tags, stored.tags), ("file", owner.files, stored.digests)):
        for key, values in logged.items():
            if there.get(key) not in values and not key.endswith("MLmodel") and not _has_ids(values):
                lines.append(f"{kind} {key} is {there.get(key)}, not {' or '.join(map(str, values))}")
    for name in ("start", "end", "status"):
        expected, value = getattr(owner, name), getattr(stored, name)
        if expected is not None and value != expected and not owner.cut_off:
            lines.append(f"{name} is {value}, not {expected}")
    return lines


def _comparable(point: Point, nan: str) -> tuple[str, str, int, int]:
    key, value, step, timestamp = point
    if math.isnan(value):
        return key, nan, step, timestamp
    if math.isinf(value):
        value = math.copysign(LARGEST, value)
    return key, repr(float(value)), step, timestamp


def _has_ids(values: list[str | None]) -> bool:
    """Whether these are texts with IDs of this execution in them, which the comparison looks at."""
    return any(value and ('"run_id"' in value or "m-" in value) for value in values)
