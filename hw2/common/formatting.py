"""Numbers, names and errors as people read them, rounded so that nothing is claimed which isn't so."""

import math
from collections.abc import Sequence

# The level of significance of all tests.
ALPHA = 0.05


def format_float(number: float) -> str:
    """Format a number so that it reads back as the same: 0.1, 1e-05, 1000, and as many digits as others need."""
    text = f"{number:g}"
    return text if float(text) == number else repr(number)


def parse_number(value: object) -> str | int | float:
    """Parse a value's text as a finite number, whole where it can be; else return the text, also of True and None."""
    if not isinstance(value, bool | None):
        for kind in (int, float):
            try:
                number = kind(str(value))
            except ValueError:
                continue
            if math.isfinite(number):
                return int(number) if number == int(number) else number
    return str(value)


def plural(count: int, noun: str, several: str | None = None) -> str:
    """A count with its noun: `1 thread`, `2 threads`, `1 degree of freedom`, `1,000 models or runs`."""
    first, space, rest = noun.partition(" of ")
    return f"{count:,} {noun if count == 1 else several or f'{first}s{space}{rest}'}"


def join_names(names: Sequence[str], limit: int | None = None) -> str:
    """Join names as in a sentence: "a", "a and b", "a, b and c"; beyond the limit "a, b and 1,000 more"."""
    if limit is not None and len(names) > limit:
        names = [*names[:limit], f"{len(names) - limit:,} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type's name where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def format_percent(share: float, digits: int = 1) -> str:
    """Format a share of 1 in percent; only exactly 1 is "100 %", so that one mistake in many is not rounded away."""
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    elif share == 1:
        text = "100"
    return f"{text} %"


def format_ratio(area: float) -> str:
    """Format an area or a share with four digits after the point; only exactly 1 is 1."""
    return "above 0.9999" if 0.99995 <= area < 1 else f"{area:.4f}"


def format_ci(share: float, low: float, high: float, digits: int = 1) -> str:
    """Format a share of 1 in percent with its interval, as in "95.3 % (95.0 to 95.6)"; "–" for none (NaN)."""
    if share != share:
        return "–"
    ends = (format_percent(end, digits).removesuffix(" %") for end in (low, high))
    return f"{format_percent(share, digits)} ({' to '.join(ends)})"


def format_p(p: float) -> str:
    """Format a p-value: two digits, more only where rounding would cross ALPHA; never 0."""
    if p < 0.0001:
        return "p < 0.0001"
    if p >= 0.095:
        return f"p = {p:.2f}"
    digits = 2
    while (float(f"{p:.{digits}g}") < ALPHA) != (p < ALPHA) and digits < 12:
        digits += 1
    return f"p = {float(f'{p:.{digits}g}'):g}" if digits > 2 or p < 0.01 else f"p = {p:.3f}"
