"""Values as text, and text as values."""

from collections.abc import Sequence
from datetime import UTC, datetime


def parse_number(text: str | None) -> int | float | str | None:
    """Return the number that a text stands for, else the text itself."""
    for kind in (int, float):
        try:
            return kind(text or "")
        except ValueError:
            continue
    return text


def same_value(a: str, b: str) -> bool:
    """Return whether two parameters are equal as text, numbers (`0.10`, `1e-1`), switches (`yes`, `True`) or sets."""
    if a == b:
        return True
    try:
        return float(a) == float(b)
    except ValueError:
        return _meaning(a) == _meaning(b)


def _meaning(text: str) -> bool | list[str]:
    """Read a switch as a command's option does, and names with commas between them in any order."""
    switches = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
    return switches.get(text.lower(), sorted(part.strip() for part in text.split(",")))


def join_names(names: Sequence[str]) -> str:
    """Join names as in a sentence: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that isn't blank, else the error's type."""
    return next(filter(str.strip, str(error).splitlines()), type(error).__name__)


def format_time(moment: datetime) -> str:
    """Format a time in UTC; such texts sort by time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def printable(text: str) -> str:
    """Escape what moves the cursor, breaks a line or turns its direction, in a text that anybody may have written."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
