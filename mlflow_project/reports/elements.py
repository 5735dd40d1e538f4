"""What a report is made of: tables of text and figures with their tables, ready for the template."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw2.common.formatting import format_p, format_percent, parse_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

MISSING = "–"
Format = Callable[[Any], str]


@dataclass(frozen=True)
class Table:
    """Text in cells; the first column heads its row. numeric: which columns are figures."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class ReportFigure:
    """A PNG as it stands in the page, what is seen in it in words, and the tables that it is drawn from."""

    caption: str
    alt: str
    uri: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table that is made from rows: its key, its heading, and how its values are said."""

    key: str
    heading: str
    log: Format | None = None


def count(value: Any) -> str:
    """A whole number with its thousands."""
    return f"{int(value):,}"


def seconds(value: Any) -> str:
    """A duration: hundredths below a minute, else tenths."""
    return f"{value:,.2f}" if abs(value) < 60 else f"{value:,.1f}"


def share(value: Any) -> str:
    """A share of 1 in percent with the two digits that 10,000 images can tell."""
    return format_percent(float(value), 2)


def format_loss(value: Any) -> str:
    """A loss or an error, with four digits after the point."""
    return f"{value:.4f}"


def format_setting(value: str | None) -> int | float | str | None:
    """A parameter, which MLflow keeps as text, as the number that it says."""
    return None if value is None else parse_number(value)


def kib(value: Any) -> str:
    """Bytes in KiB."""
    return f"{value / 1024:,.0f}"


def points(value: Any) -> str:
    """A difference of shares, in percentage points with its sign."""
    return f"{100 * value:+.2f}"


def yes_no(value: Any) -> str:
    """A truth in words."""
    return "yes" if value else "no"


def p_value(value: Any) -> str:
    """A p-value without its name."""
    return format_p(float(value)).removeprefix("p = ").removeprefix("p ")


def short_sha(value: Any) -> str:
    """As much of a SHA-256 as people compare by eye."""
    return str(value)[:12]


def table(caption: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    """Of rows of values; a column is numeric where all that it has are numbers."""
    values = [[row.get(column.key) for column in columns] for row in rows]
    return Table(
        caption,
        tuple(column.heading for column in columns),
        tuple(
            tuple(_said(value, column.log) for value, column in zip(row, columns, strict=True))
            for row in values
        ),
        tuple(
            all(_is_number(row[place]) or _is_missing(row[place]) for row in values)
            for place in range(len(columns))
        ),
    )


def frame_table(caption: str, frame: pd.DataFrame, columns: Sequence[Column] = ()) -> Table:
    """Of a frame; without columns all of its own, under their own names."""
    chosen = columns or [Column(str(name), str(name).replace("_", " ")) for name in frame.columns]
    rows: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in frame.to_dict("records")
    ]
    return table(caption, rows, chosen)


def png_uri(png: bytes) -> str:
    """A PNG that needs no file beside the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def draw(drawing: "Drawing", caption: str, alt: str, *tables: Table) -> ReportFigure:
    """A figure that is drawn for the report."""
    from hw2.figures.style import png

    return ReportFigure(caption, alt, png_uri(png(drawing)), tables)


def _said(value: Any, say: Format | None) -> str:
    if _is_missing(value):
        return MISSING
    if say is not None:
        return say(value)
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return yes_no(value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
