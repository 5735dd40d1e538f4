"""What all figures share: colors that everybody can tell apart, and bytes that depend on nothing else."""

import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hw2.common.types import FloatArray

if TYPE_CHECKING:  # a figure can be drawn again from its table without PyTorch
    from hw2.data.image_set import ImageSet

DPI = 120
# Of more classes than these, a matrix is drawn without numbers.
NUMBERED_CLASSES = 20
INK = "#222222"
QUIET = "#6b6b6b"
PAPER = "#ffffff"
FAINT = "#e8e8e8"
SERIES = matplotlib.color_sequences["petroff10"]
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
# Cividis from dark = much to light, and fading into the paper below a third: nothing looks like nothing.
_FROM_LIGHT = matplotlib.colormaps["cividis_r"](np.linspace(0, 1, 256))[:, :3]
_FADE = np.minimum(np.linspace(0, 3, 256), 1)[:, None]
_MATRIX_RGB = 1 - _FADE * (1 - _FROM_LIGHT)
MATRIX_COLORS = ListedColormap(_MATRIX_RGB, "cividis_from_white")
# Relative luminance and contrast as in WCAG 2.1; INK and PAPER contrast equally with 0.21.
_LINEAR_RGB = np.where(_MATRIX_RGB <= 0.04045, _MATRIX_RGB / 12.92, ((_MATRIX_RGB + 0.055) / 1.055) ** 2.4)
_LUMINANCE = _LINEAR_RGB @ (0.2126, 0.7152, 0.0722)

# Every setting that decides how these figures look, so that a person's own matplotlibrc changes nothing.
_SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.0,
    "axes.edgecolor": QUIET,
    "axes.facecolor": PAPER,
    "axes.linewidth": 0.8,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "figure.facecolor": PAPER,
    "figure.dpi": DPI,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.0,
    "text.color": INK,
    # A class may be named with a dollar sign: names are text, never formulas.
    "text.parse_math": False,
    "text.usetex": False,
    "xtick.color": QUIET,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": QUIET,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
    "image.interpolation": "nearest",
    "path.simplify": True,
}

P = ParamSpec("P")
ImageArray = NDArray[np.uint8]


@contextmanager
def _any_letters() -> Iterator[None]:
    """A name may have letters that the font lacks: a box stands for each, and nobody is warned of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(Glyph|Matplotlib currently does not support) ", UserWarning)
        yield


def with_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw under this module's settings, and under them alone."""

    @wraps(draw)
    def with_settings(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(_SETTINGS), _any_letters():
            return draw(*args, **kwargs)

    return with_settings


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` x `height` inches that no window system knows of."""
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def axes_at(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes at a place given in inches from the figure's lower left corner."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def set_title(figure: Figure, title: str, subtitle: str = "") -> None:
    """What is seen, and in smaller letters how to read it, at the top left; long lines in smaller letters."""
    across, up = figure.get_size_inches()
    lines = ((title, 0.12, 11.0, "bold", INK, 0.66), (subtitle, 0.36, 8.5, "normal", QUIET, 0.56))
    for text, below, size, weight, color, letter in lines:
        if text:
            # The mean width of DejaVu's letters, as a share of their height, is `letter`.
            fitting = (across - 0.24) * 72 / (letter * len(text))
            place = (0.12 / across, 1 - below / up)
            size = min(size, fitting)
            figure.text(*place, text, fontsize=size, fontweight=weight, color=color, va="top")


def png(figure: Figure) -> bytes:
    """PNG bytes that are the same wherever and whenever the same figure is drawn by the same matplotlib."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS), _any_letters():
        figure.savefig(
            buffer,
            format="png",
            dpi=DPI,
            metadata={"Software": None},
            # A fifth of the time of the default level for a fifth more bytes.
            pil_kwargs={"compress_level": 3},
        )
    return buffer.getvalue()


def legend_above(axes: Axes, columns: int = 4) -> None:
    """A legend over the axes, where it can hide nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2, handlelength=2.6,
        columnspacing=1.4,
    )  # fmt: skip


def name_columns(axes: Axes, names: Sequence[str]) -> None:
    """Name the columns of a matrix: slanted where the names are long, some of them where there are many."""
    step = -(-len(names) // 40)
    shown = [shorten(name) for name in names[::step]]
    slanted = max(map(len, shown), default=0) > 2
    axes.set_xticks(
        range(0, len(names), step), shown, rotation=60 if slanted else 0, ha="right" if slanted else "center"
    )
    if slanted:
        axes.tick_params(axis="x", labelsize=8.5 if len(names) <= NUMBERED_CLASSES else 6)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a matrix, some of them where there are many."""
    step = -(-len(names) // 40)
    axes.set_yticks(range(0, len(names), step), [shorten(name) for name in names[::step]])
    if len(names) > NUMBERED_CLASSES:
        axes.tick_params(axis="y", labelsize=6)


def hide_frame(axes: Axes) -> None:
    """Without spines and ticks; labels stay."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def cell_borders(axes: Axes, rows: int, columns: int) -> None:
    """Thin lines between the cells of a matrix drawn by `imshow`; minor ticks would take far longer."""
    between_rows, between_columns = np.arange(1, rows) - 0.5, np.arange(1, columns) - 0.5
    axes.hlines(between_rows, -0.5, columns - 0.5, color=FAINT, linewidth=0.8)
    axes.vlines(between_columns, -0.5, rows - 0.5, color=FAINT, linewidth=0.8)


def color_scale(
    figure: Figure, place: tuple[float, float, float, float], norm: Normalize, label: str, **options: Any
) -> Colorbar:
    """A vertical scale at `place` (left, bottom, width, height in inches) for MATRIX_COLORS."""
    axes = axes_at(figure, *place)
    mappable = matplotlib.cm.ScalarMappable(norm, MATRIX_COLORS)
    scale = figure.colorbar(mappable, cax=axes, label=label, **options)
    scale.outline.set_visible(False)
    return scale


def text_color_on(shade: float) -> str:
    """The text color with the better contrast on MATRIX_COLORS at `shade`, 0 to 1."""
    return PAPER if _LUMINANCE[round(255 * min(max(shade, 0.0), 1.0))] < 0.21 else INK


def plain_number(value: float, _: object = None) -> str:
    """A tick's value in figures: 10,000 and 0.001, never a power of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def plain_percent(share: float, _: object = None) -> str:
    """A tick's share of 1 in percent."""
    return f"{100 * share:g} %"


def side_of(image_set: "ImageSet") -> int:
    """The longer side of a set's images in pixels: the square in which each is drawn."""
    return max(image_set.images.shape[1:3])


def image_grid(rows: Sequence[Sequence[ImageArray | None]], down: int, across: int, side: int) -> FloatArray:
    """Rows of images, uint8 [H, W] or [H, W, 3], as one image, 0 to 1, with NaN (white in color) where there is None.

    Each is in the middle of a square of `side` pixels. down, across: pixels from one image to the next. One image is
    drawn in a tenth of the time of N axes.
    """
    columns = max(len(row) for row in rows)
    first = next(image for row in rows for image in row if image is not None)
    colors = first.shape[2:]
    shape = ((len(rows) - 1) * down + side, (columns - 1) * across + side, *colors)
    whole = np.full(shape, 1.0 if colors else np.nan)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            if image is not None:
                top, left = ((side - length) // 2 for length in image.shape[:2])
                top, left = i * down + top, j * across + left
                whole[top : top + image.shape[0], left : left + image.shape[1]] = image / 255
    return whole


def shorten(name: object, length: int = 16) -> str:
    """A name that has room in a figure: its beginning and its end, where it is longer."""
    text = str(name)
    return text if len(text) <= length else f"{text[: length - 6]}…{text[-5:]}"
