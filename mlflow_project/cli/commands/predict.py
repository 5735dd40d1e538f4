"""`predict`: images in; label, probability and "not a digit" or "none of these classes" out."""

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.cli.shared.options import migrate_option, name_option, option
from mlflow_project.cli.shared.output import format_option, print_rows, results_alone_on_stdout

if TYPE_CHECKING:
    from hw2.data.image_files import PreparedImage, SpecOf
    from hw2.outliers.detector import OutlierDetector
    from mlflow_project.registry.registered_model import LoadedModel

_TABLE_COLUMNS = ("image", "answer", "probability", "outlier_score", "in_words", "notes")


@click.command(short_help="Predict image files with a registered model.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@option(
    "--model",
    default="champion",
    show_default=True,
    help='An alias, a number, "lr=0.1 epochs=8", a models:/ or runs:/ URI.',
)
@name_option
@migrate_option
@format_option
def predict(files: tuple[Path, ...], model: str, name: str, format_: str) -> int:
    """What a registered model says to images: PNG, JPEG, WebP, BMP, GIF, TIFF, PGM or IDX, of any size and color.

    An image is made into what the model saw in training, and what was guessed for that is noted. For a model of digits,
    28 x 28 grey values with a dark border are taken as they are. Exit status 1 where a file is not an image; the
    others are answered all the same.

    \b
    mlflow-project predict digit.png scan.jpg --model m1
    cat digit.png | mlflow-project predict -
    """
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    @functools.cache
    def load() -> "LoadedModel":
        registry = RegisteredModel(connect(), name)
        return registry.load(registry.resolve(model))

    with results_alone_on_stdout():
        images, bad = _read(files, lambda: load().model.spec)
        rows = answers(load(), images) if images else []
    if rows and format_ == "table":
        _print_table(rows)
    elif rows:
        print_rows([row | {"notes": _notes(row, format_)} for row in rows], format_)
    return 1 if bad else 0


def _read(files: Iterable[Path], spec_of: "SpecOf") -> "tuple[list[PreparedImage], int]":
    """All images that can be read, and how many files can't; a line on stderr for each of these."""
    from hw2.common.errors import DataError
    from hw2.data.image_files import read_images

    images: list[PreparedImage] = []
    bad = 0
    for file in files:
        try:
            images += read_images(file, spec_of)
        except DataError as error:
            click.echo(f"Error: {error}", err=True)
            bad += 1
    return images, bad


def answers(loaded: "LoadedModel", images: "list[PreparedImage]") -> list[dict[str, Any]]:
    """One row an image, with the columns that the model answers with over HTTP, and what explains them."""
    import numpy as np

    from mlflow_project.packaging.pyfunc_model import PyfuncModel

    table = PyfuncModel(loaded.model, loaded.detector).predict(np.stack([p.image.numpy() for p in images]))
    noun = "digit" if loaded.model.spec.is_digits else "image"
    return [
        {
            "image": image.name,
            **{str(column): value for column, value in answer.items()},
            **_explain(loaded.detector, answer, noun),
            "notes": list(image.notes),
        }
        for image, answer in zip(images, table.to_dict("records"), strict=True)
    ]


def _explain(detector: "OutlierDetector | None", answer: "Mapping[Any, Any]", noun: str) -> dict[str, Any]:
    if detector is None:
        return {"in_words": "no outlier score: the model had too few images to fit one on"}
    score = answer["outlier_score"]
    return {"p_value": float(detector.p_value(score)), "in_words": detector.describe(score, noun)}


def _print_table(rows: list[dict[str, Any]]) -> None:
    shown = [row | {"answer": _answer(row), "notes": _notes(row, "table")} for row in rows]
    print_rows(shown, "table", _TABLE_COLUMNS)


def _answer(row: dict[str, Any]) -> str:
    if row.get("not_a_digit"):
        return "not a digit"
    if row.get("none_of_these_classes"):
        return "none of these classes"
    return str(row.get("class", row["label"]))


def _notes(row: dict[str, Any], format_: str) -> Any:
    return row["notes"] if format_ == "json" else "; ".join(row["notes"])
