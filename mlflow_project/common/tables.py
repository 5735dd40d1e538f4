"""Rows as text: a table to read, or JSON or CSV for another program."""

import csv
import io
import itertools
import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow_project.common.text import printable

FORMATS = ("table", "json", "csv")
WIDTH = 100
"""Characters of a column; longer sentences go on in the next line."""
_FORMULA = ("=", "+", "-", "@")
Row = Mapping[str, Any]


def render(rows: Sequence[Row], format_: str, columns: Sequence[str] | None = None) -> str:
    """Render rows as text; a missing value is empty.

    Args:
        rows: The rows.
        format_: One of `FORMATS`.
        columns: Which columns; those of all rows in order of appearance by default.
    """
    if columns is None:
        columns = list(dict.fromkeys(name for row in rows for name in row))
    if format_ == "json":
        return json.dumps([{name: _plain(row.get(name)) for name in columns} for row in rows], indent=2)
    if format_ == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_csv_cell(row.get(name)) for name in columns] for row in rows)
        return text.getvalue().rstrip("\n")
    return _table(rows, columns)


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    cells = [line for row in rows for line in _wrapped([_short(row.get(name)) for name in columns])]
    widths = [max(len(name), *(len(line[i]) for line in cells), 0) for i, name in enumerate(columns)]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in columns]

    def line(values: Sequence[str]) -> str:
        pairs = zip(values, widths, numeric, strict=True)
        return "  ".join(v.rjust(w) if right else v.ljust(w) for v, w, right in pairs).rstrip()

    return "\n".join([line(columns), line(["-" * w for w in widths]), *map(line, cells)])


def _wrapped(cells: Sequence[str]) -> list[tuple[str, ...]]:
    """A row as lines whose sentences are no wider than is read well; a path or a SHA-256 stays whole."""
    parts = [
        textwrap.wrap(cell, WIDTH, break_long_words=False, break_on_hyphens=False) or [""] for cell in cells
    ]
    return list(itertools.zip_longest(*parts, fillvalue=""))


def _short(value: Any) -> str:
    """Format a value for people: of 10,000 images, four digits after the point are significant."""
    if isinstance(value, float) and math.isfinite(value):
        if 0 < abs(value) < 0.001:
            return f"{value:.4g}"  # of a learning rate, say, four digits would leave nothing
        return f"{value:.4f}" if abs(value) < 1 else f"{value:,.2f}"
    return _cell(value)


def _cell(value: Any) -> str:
    return "" if value is None else printable(str(value))


def _csv_cell(value: Any) -> str:
    """A spreadsheet would calculate what begins like a formula; the quote, which it doesn't show, makes it text."""
    cell = _cell(value)
    if isinstance(value, str) and cell.startswith(_FORMULA) and not _is_number(cell):
        return f"'{cell}"
    return cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | list | dict | type(None)) else str(value)
