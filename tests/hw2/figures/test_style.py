"""Colors, ticks and letters: what all figures have in common."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from hw2.figures.style import MATRIX_COLORS, SERIES, plain_number, plain_percent, text_color_on


class TestColors:
    def test_text_on_a_matrix_has_a_contrast_of_three_and_a_half_at_least(self) -> None:
        def luminance(color: tuple[float, ...]) -> float:
            linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color[:3]]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        for shade in np.linspace(0, 1, 101):
            paper = luminance(MATRIX_COLORS(float(shade)))
            ink = luminance(matplotlib.colors.to_rgb(text_color_on(float(shade))))
            assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 3.5

    def test_more_is_always_darker(self) -> None:
        shades = MATRIX_COLORS(np.linspace(0, 1, 256))[:, :3] @ (0.2126, 0.7152, 0.0722)
        assert (np.diff(shades) < 1e-3).all()
        assert shades[0] == 1.0

    def test_lines_are_drawn_in_colors_for_everybody(self) -> None:
        assert list(matplotlib.color_sequences["petroff10"]) == list(SERIES)


def test_ticks_are_figures_and_no_powers() -> None:
    assert [plain_number(value) for value in (0.001, 1, 10_000)] == ["0.001", "1", "10,000"]
    assert plain_percent(0.001) == "0.1 %"


def test_letters_that_the_font_lacks_are_no_warning() -> None:
    from hw2.figures.style import new_figure, png, with_style

    @with_style
    def draw() -> Figure:
        figure = new_figure(2, 1)
        figure.text(0, 0, "手書き").get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
        return figure

    assert png(draw()).startswith(b"\x89PNG")
