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
    """Cells of text; the first column heads its row. numeric: which columns are numbers."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]


@dataclass(frozen=True)
class ReportFigure:
    """A PNG as it stands in the page, its description in words, and the tables that it is drawn from."""

    caption: str
    alt: str
    uri: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table made from rows: its key, its heading (else the key as words), its values' format."""

    key: str
    heading: str | None = None
    format: Format | None = None


def columns(*keys: str) -> list[Column]:
    """Make columns that are headed by their keys."""
    return [Column(key) for key in keys]


def difference_columns() -> list[Column]:
    """Make the columns of a difference of accuracies with its interval."""
    headings = {"difference": "Difference (points)", "low": "From", "high": "To"}
    return [Column(key, heading, points) for key, heading in headings.items()]


def count(value: Any) -> str:
    """Format a whole number with its thousands."""
    return f"{int(value):,}"


def seconds(value: Any) -> str:
    """Format a duration: hundredths below a minute, else tenths."""
    return f"{value:,.2f}" if abs(value) < 60 else f"{value:,.1f}"


def share(value: Any) -> str:
    """Format a share of 1 in percent with the two digits that 10,000 images can tell."""
    return format_percent(float(value), 2)


def format_loss(value: Any) -> str:
    """Format a loss or an error with four digits after the point."""
    return f"{value:.4f}"


def format_setting(value: str | None) -> int | float | str | None:
    """Return a parameter, which MLflow keeps as text, as a number where it is one."""
    return None if value is None else parse_number(value)


def kib(value: Any) -> str:
    """Format bytes in KiB."""
    return f"{value / 1024:,.0f}"


def points(value: Any) -> str:
    """Format a difference of shares in percentage points with its sign."""
    return f"{100 * value:+.2f}"


def p_value(value: Any) -> str:
    """Format a p-value without its name."""
    return format_p(float(value)).removeprefix("p = ").removeprefix("p ")


def short_sha(value: Any) -> str:
    """Return as much of a SHA-256 as people compare by eye."""
    return str(value)[:12]


def table(caption: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Table:
    """Build a table of rows of values; a column is numeric where all that it has are numbers."""
    return Table(
        caption,
        tuple(c.key.replace("_", " ").capitalize() if c.heading is None else c.heading for c in columns),
        tuple(tuple(_format(row.get(column.key), column.format) for column in columns) for row in rows),
        tuple(
            all(_is_number(row.get(c.key)) or _is_missing(row.get(c.key)) for row in rows) for c in columns
        ),
    )


def frame_table(caption: str, frame: pd.DataFrame, columns: Sequence[Column] = ()) -> Table:
    """Build a table of a frame; without columns all of its own, under their own names."""
    shown = columns or [Column(str(name), str(name).replace("_", " ")) for name in frame.columns]
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    return table(caption, rows, shown)


def png_uri(png: bytes) -> str:
    """Return a PNG as a URI that needs no file beside the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def draw(drawing: "Drawing", caption: str, alt: str, *tables: Table) -> ReportFigure:
    """Render a figure that is drawn for the report."""
    from hw2.figures.style import png

    return ReportFigure(caption, alt, png_uri(png(drawing)), tables)


def _format(value: Any, format_: Format | None) -> str:
    if _is_missing(value):
        return MISSING
    if format_ is not None:
        return format_(value)
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and value != value)
