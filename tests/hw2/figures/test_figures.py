"""Figures say what their tables say, can be drawn again from the saved table, and hide nothing."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from hw2 import figures
from hw2.comparison.compare import compare
from hw2.comparison.model_predictions import ModelPredictions
from hw2.evaluation.metrics import confusion_matrix, confusion_table, coverage_table, reliability_table
from hw2.evaluation.result import Evaluation

GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Images:
    """As much of an image set as a figure needs."""

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    name: str
    split: str = "test"

    def __len__(self) -> int:
        return len(self.labels)


@pytest.fixture(scope="module")
def garments() -> Images:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (80, 28, 28), dtype=torch.uint8, generator=generator)
    return Images(images, torch.arange(80) % 10, GARMENTS, "fashion-mnist")


def evaluation(seed: int, labels: np.ndarray, bonus: float) -> Evaluation:
    """Random logits, with `bonus` for the label."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), 10)) + bonus * np.eye(10)[labels]
    n = len(labels)
    return Evaluation(
        "x", "f" * 64, labels, logits.astype(np.float32), np.zeros((n, 32)), np.zeros((n, 64)), 1.0
    )


@pytest.fixture(scope="module")
def digits_evaluation() -> Evaluation:
    return evaluation(1, np.arange(600) % 10, 6.0)


@pytest.fixture(scope="module")
def garments_evaluation(garments: Images) -> Evaluation:
    return evaluation(2, garments.labels.numpy(), 0.0)


HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "train_loss": [0.3, 0.1, 0.02],
        "train_accuracy": [0.9, 0.97, 0.99],
        "validation_loss": [0.2, 0.12, 0.09],
        "validation_accuracy": [0.94, 0.96, 0.97],
        "epoch_seconds": [1.0, 1.0, 1.0],
        "images_per_second": [5000.0, 5000.0, 5000.0],
    }
)

Drawing = tuple[pd.DataFrame, Callable[[pd.DataFrame], Figure]]


@pytest.fixture(scope="module")
def drawings(
    garments: Images, digits_evaluation: Evaluation, garments_evaluation: Evaluation
) -> dict[str, Drawing]:
    """Each figure's table and how it is drawn from it."""
    seen = digits_evaluation
    outliers = figures.outlier_table(
        {"m1": garments_evaluation, "m2": evaluation(3, garments.labels.numpy(), 2.0)},
        garments,  # type: ignore[arg-type]
        rejected={"m1": np.arange(80) % 2 == 0, "m2": np.arange(80) % 3 == 0},
    )
    models = [
        ModelPredictions("m1", {}, seen.labels, seen.predicted, "a", 10.0, 579_000),
        ModelPredictions("m2", {}, seen.labels, seen.labels, "a", 20.0, 300_000),
    ]
    accuracies = compare(models).accuracy.assign(study_accuracy=[0.93, 0.98])
    scores = {"digits": -seen.confidence, "garments": -garments_evaluation.confidence}
    drawn: dict[str, Drawing] = {
        "loss_curve": (HISTORY, figures.loss_curve),
        "confusion_matrix": (
            confusion_table(confusion_matrix(seen.labels, seen.predicted)),
            figures.confusion_matrix,
        ),
        "reliability": (reliability_table(seen.confidence, seen.correct), figures.reliability),
        "dataset_examples": (
            figures.examples_table(garments),  # type: ignore[arg-type]
            lambda table: figures.dataset_examples(table, garments),  # type: ignore[arg-type]
        ),
        "outlier_predictions": (
            outliers[outliers["model"] == "m1"],
            lambda table: figures.outlier_predictions(table, garments),  # type: ignore[arg-type]
        ),
        "probability_vectors": (outliers, figures.probability_vectors),
        "outlier_matrix": (
            figures.outlier_matrix_table(garments_evaluation, garments),  # type: ignore[arg-type]
            figures.outlier_matrix,
        ),
        "outlier_scores": (figures.outlier_scores_table(scores, -0.7), figures.outlier_scores),
        "roc_curves": (
            figures.roc_table({"max softmax": (scores["digits"], scores["garments"])}),
            figures.roc_curves,
        ),
        "accuracy_against_coverage": (
            coverage_table(seen.confidence, seen.correct),
            lambda table: figures.accuracy_against_coverage({"m1": table}),
        ),
        "accuracy_intervals": (accuracies, figures.accuracy_intervals),
        "pareto": (accuracies, figures.pareto),
        "seed_accuracies": (SEEDS, figures.seed_accuracies),
    }
    return drawn


SEEDS = pd.DataFrame(
    [
        ("lr=0.1 epochs=5", 0, 0.985, 0.986, 0.98, 0.99),
        ("lr=0.1 epochs=5", 1, 0.987, 0.986, 0.98, 0.99),
        ("lr=0.1 epochs=5", 2, np.nan, 0.986, 0.98, 0.99),
        ("lr=0.01 epochs=8", 0, 0.97, 0.97, np.nan, np.nan),
        ("lr=9 epochs=8", 0, np.nan, np.nan, np.nan, np.nan),
    ],
    columns=["configuration", "seed", "accuracy", "mean", "low", "high"],
)

NAMES = (
    "loss_curve", "confusion_matrix", "reliability", "dataset_examples", "outlier_predictions",
    "probability_vectors", "outlier_matrix", "outlier_scores", "roc_curves", "accuracy_against_coverage",
    "accuracy_intervals", "pareto", "seed_accuracies",
)  # fmt: skip


def words(figure: Figure) -> list[str]:
    """All that is written on a figure."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def pngs(drawings: dict[str, Drawing]) -> dict[str, bytes]:
    return {name: figures.png(draw(table)) for name, (table, draw) in drawings.items()}


def test_every_figure_is_tested(drawings: dict[str, Drawing]) -> None:
    assert tuple(drawings) == NAMES
    assert set(NAMES) | {"confusion_matrices", "png"} == {
        name for name in figures.__all__ if not name.endswith("_table")
    }


def test_a_configuration_says_how_many_of_its_seeds_failed() -> None:
    written = words(figures.seed_accuracies(SEEDS))
    assert "98.60 %, 1 of 3 didn't train" in written
    assert "97.00 %" in written
    assert "1 of 1 didn't train" in written
    assert "Most accurate over its seeds: lr=0.1 epochs=5, 98.60 %" in written


@pytest.mark.parametrize("name", NAMES)
class TestEveryFigure:
    def test_is_drawn_again_from_the_saved_table_whatever_a_persons_own_settings(
        self, drawings: dict[str, Drawing], pngs: dict[str, bytes], name: str
    ) -> None:
        table, draw = drawings[name]
        again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
        with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "axes.facecolor": "black"}):
            assert figures.png(draw(again)) == pngs[name]

    def test_is_a_png_that_says_nothing_of_when_and_by_what(self, pngs: dict[str, bytes], name: str) -> None:
        with Image.open(io.BytesIO(pngs[name])) as image:
            assert image.format == "PNG"
            assert set(image.info) <= {"dpi"}
            assert 600 <= image.width <= 2000

    def test_writes_nothing_beyond_its_edge(self, drawings: dict[str, Drawing], name: str) -> None:
        table, draw = drawings[name]
        figure = draw(table)
        figures.png(figure)
        for text in figure.findobj(lambda thing: isinstance(thing, Text) and bool(thing.get_text())):
            assert isinstance(text, Text)
            if not text.get_visible() or (not text.axes and text.figure is not figure):
                continue
            box = text.get_window_extent()
            if text.get_clip_on() or box.width == 0:
                continue
            assert box.x0 >= 0, text.get_text()
            assert box.y0 >= 0, text.get_text()
            assert box.x1 <= figure.bbox.width, text.get_text()
            assert box.y1 <= figure.bbox.height, text.get_text()


class TestWhatFiguresSay:
    def test_a_history_without_validation_has_one_line_in_each_panel(self) -> None:
        figure = figures.loss_curve(HISTORY.drop(columns=["validation_loss", "validation_accuracy"]))
        assert [len(axes.lines) for axes in figure.axes] == [1, 1]
        assert "After 3 epochs: accuracy train 99.00 %" in words(figure)

    def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_scale_without_powers(self) -> None:
        scales = [
            figures.loss_curve(HISTORY.assign(train_loss=last)).axes[0].get_yscale() for last in (0.2, 0.001)
        ]
        assert scales == ["linear", "log"]

    def test_a_single_epoch_is_a_point(self) -> None:
        assert "After 1 epoch: accuracy train 90.00 %, validation 94.00 %" in words(
            figures.loss_curve(HISTORY[:1])
        )

    def test_a_confusion_matrix_prints_every_count_and_its_worst_mistake(self) -> None:
        matrix = np.eye(10, dtype=np.int64) * 100
        matrix[4, 9], matrix[7, 2] = 21, 1
        texts = words(figures.confusion_matrix(confusion_table(matrix)))
        assert texts.count("100") == 10
        assert texts.count("21") == 1
        assert "most frequent mistake: 4 taken for 9, 21 times; grey: right" in texts
        assert "1,000 of 1,022 right (97.85 %)" in texts
        assert "82.6 %" in texts

    def test_one_mistake_in_a_thousand_is_colored_though_the_diagonal_is_full(self) -> None:
        matrix = np.eye(10, dtype=np.int64) * 999
        matrix[3, 5] = 1
        image = figures.confusion_matrix(confusion_table(matrix)).axes[0].images[1]
        shown = image.to_rgba(image.get_array())[3, 5, :3]
        assert np.abs(shown - 1).max() > 0.1
        assert np.ma.getmaskarray(image.get_array()).sum() == 99

    def test_a_matrix_without_mistakes_and_an_absent_digit_are_drawn(self) -> None:
        matrix = np.eye(10, dtype=np.int64) * 5
        matrix[0, 0] = 0
        texts = words(figures.confusion_matrix(confusion_table(matrix)))
        assert "no mistake; grey: right" in texts
        assert "none" in texts

    def test_four_matrices_share_one_scale(self) -> None:
        tables = [(f"m{i}", confusion_table(np.eye(10, dtype=np.int64) * 10 + i)) for i in range(4)]
        figure = figures.confusion_matrices(tables)
        norms = {axes.images[1].norm for axes in figure.axes if len(axes.images) > 1}
        assert len(norms) == 1
        assert [axes.get_title(loc="left") for axes in figure.axes[:4]][1] == "m1: 110 of 200 right"

    def test_five_examples_of_each_class_are_chosen_and_shown(self, garments: Images) -> None:
        table = figures.examples_table(garments)  # type: ignore[arg-type]
        assert table.groupby("class").size().tolist() == [5] * 10
        assert (garments.labels.numpy()[table["index"]] == table["label"]).all()
        figure = figures.dataset_examples(table, garments)  # type: ignore[arg-type]
        shown = np.asarray(figure.axes[0].images[0].get_array())
        assert "fashion-mnist: 5 examples of each of 10 classes" in words(figure)
        np.testing.assert_allclose(shown[30:58, 0:28] * 255, garments.images[10])  # second shirt, second row

    def test_a_class_with_fewer_images_leaves_a_blank_and_no_other_image(self) -> None:
        images = torch.full((3, 28, 28), 200, dtype=torch.uint8)
        few = Images(images, torch.tensor([0, 1, 1]), ("$x_1$", "b"), "own")
        figure = figures.dataset_examples(figures.examples_table(few), few)  # type: ignore[arg-type]
        shown = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
        assert np.isnan(shown[30:, :28]).all()
        np.testing.assert_allclose(shown[30:, 30:], 200 / 255)
        assert {"$x_1$", "b"} <= set(words(figure))

    def test_many_classes_are_shown_in_bands(self) -> None:
        classes = tuple(f"c{i}" for i in range(26))
        letters = Images(torch.zeros(26, 28, 28, dtype=torch.uint8), torch.arange(26), classes, "letters")
        figure = figures.dataset_examples(figures.examples_table(letters), letters)  # type: ignore[arg-type]
        assert len(figure.axes) == 3
        assert set(classes) <= set(words(figure))

    def test_an_outlier_table_reads_a_digit_as_the_class_of_that_number(self, garments: Images) -> None:
        labels = garments.labels.numpy()
        certain = evaluation(5, (labels + 1) % 10, 50.0)
        seen = Evaluation(
            "x", "f", labels, certain.logits, certain.early_features, certain.late_features, 1.0
        )
        table = figures.outlier_table({"m": seen}, garments)  # type: ignore[arg-type]
        assert table["class"].tolist() == list(GARMENTS)
        assert table["predicted_class"].tolist() == [*GARMENTS[1:], GARMENTS[0]]
        assert table["matches"].sum() == 0
        figure = figures.outlier_predictions(table, garments)  # type: ignore[arg-type]
        assert "fashion-mnist shown to m: 0 of 10 predictions are the class's number" in words(figure)
        assert any(text.startswith("taken for 1 (Trouser)\n") for text in words(figure))

    def test_a_garment_matrix_counts_each_class_by_digit(self, garments: Images) -> None:
        seen = evaluation(5, np.full(80, 7), 50.0)
        shifted = Evaluation(
            "x", "f", garments.labels.numpy(), seen.logits, seen.early_features, seen.late_features, 1
        )
        table = figures.outlier_matrix_table(shifted, garments)  # type: ignore[arg-type]
        assert table["label"].tolist() == list(GARMENTS)
        assert table["predicted_7"].tolist() == [8] * 10

    def test_a_set_of_26_classes_has_26_rows_of_ten_digits(self) -> None:
        classes = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        labels = np.arange(52) % 26
        letters = Images(
            torch.zeros(52, 28, 28, dtype=torch.uint8), torch.from_numpy(labels), classes, "letters"
        )
        base = evaluation(1, np.zeros(52, np.int64), 50.0)
        seen = Evaluation("x", "f", labels, base.logits, base.early_features, base.late_features, 1.0)
        table = figures.outlier_matrix_table(seen, letters)  # type: ignore[arg-type]
        assert table.shape == (26, 11)
        assert table["predicted_0"].tolist() == [2] * 26


def test_pyplot_is_never_imported() -> None:
    source = Path(figures.__file__).parent
    assert not [path for path in source.glob("*.py") if "pyplot" in path.read_text(encoding="utf-8")]
