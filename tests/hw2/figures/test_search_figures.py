"""The figures of a search: drawn from their tables alone, also from a search in which little happened."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hw2.figures import png, search_curves, search_importance, search_parameters, search_spending

CURVES = pd.DataFrame(
    [(1, 1, 0.9, "stopped"), (2, 1, 0.95, "complete"), (2, 2, 0.99, "complete"), (2, 3, 1.0, "complete"),
     (3, 1, 0.1, "failed")],
    columns=["trial", "epoch", "validation_accuracy", "end"],
)  # fmt: skip
PARAMETERS = pd.DataFrame(
    {
        "trial": [1, 2],
        "lr": [0.01, 0.1],
        "momentum": [0.0, 0.9],
        "epochs": [1, 3],
        "validation_accuracy": [0.1, 1.0],
    }
)
SPENDING = pd.DataFrame(
    {"epochs": [1, 3], "trials": [3, 1], "epochs_trained": [3, 2], "seconds": [30.0, 21.5]}
)
IMPORTANCE = pd.DataFrame({"parameter": ["lr", "momentum"], "importance": [0.8, 0.2]})


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_each_title_says_what_is_seen() -> None:
    assert texts(search_curves(CURVES)) == ["3 trials; the best has 100 % of the validation images"]
    assert texts(search_parameters(PARAMETERS)) == [
        "Validation accuracy against each parameter; the best has lr 0.1, momentum 0.9"
    ]
    assert texts(search_importance(IMPORTANCE))[0] == "Most depends on lr"
    assert texts(search_spending(SPENDING)) == ["5 epochs in 52 s of training"]


def test_a_trial_without_a_mistake_is_drawn_on_the_logarithmic_axis() -> None:
    (axes,) = search_curves(CURVES).axes
    assert min(float(min(line.get_ydata())) for line in axes.lines) > 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("draw", "table"),
    [
        (search_curves, CURVES[:1]),
        (search_parameters, PARAMETERS[:1][["trial", "lr", "epochs", "validation_accuracy"]]),
        (search_importance, IMPORTANCE[:1]),
        (search_spending, SPENDING[:1]),
    ],
)
def test_one_row_is_enough_and_gives_the_same_bytes_again(draw: object, table: pd.DataFrame) -> None:
    assert callable(draw)
    assert png(draw(table)) == png(draw(table))
