"""`predict`: images in; label, probability and "not a digit" out."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.cli.shared.options import migrate_option, name_option, option
from mlflow_project.cli.shared.output import format_option, print_rows, results_alone_on_stdout

if TYPE_CHECKING:
    from hw2.data.image_files import PreparedImage
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
    """What a registered model says to images: PNG, JPEG or IDX, of any size and color.

    An image is made into what the model saw in training, and what was guessed for that is noted; 28 x 28 grey
    values with a dark border are taken as they are. Exit status 1 where a file is not an image; the others are
    answered all the same.

    \b
    mlflow-project predict digit.png scan.jpg --model m1
    cat digit.png | mlflow-project predict -
    """
    images, bad = _read(files)
    if images:
        from mlflow_project.registry.registered_model import RegisteredModel
        from mlflow_project.tracking.delivery.client import connect

        registry = RegisteredModel(connect(), name)
        with results_alone_on_stdout():
            rows = answers(registry.load(registry.resolve(model)), images)
        if format_ == "table":
            _print_table(rows)
        else:
            print_rows([row | {"notes": _notes(row, format_)} for row in rows], format_)
    return 1 if bad else 0


def _read(files: Iterable[Path]) -> "tuple[list[PreparedImage], int]":
    """All images that can be read, and how many files can't; a line on stderr for each of these."""
    from hw2.common.errors import DataError
    from hw2.data.image_files import read_images

    images: list[PreparedImage] = []
    bad = 0
    for file in files:
        try:
            images += read_images(file)
        except DataError as error:
            click.echo(f"Error: {error}", err=True)
            bad += 1
    return images, bad


def answers(loaded: "LoadedModel", images: "list[PreparedImage]") -> list[dict[str, Any]]:
    """One row an image, with the columns that the model answers with over HTTP, and what explains them."""
    import numpy as np

    from mlflow_project.packaging.pyfunc_model import PyfuncModel

    table = PyfuncModel(loaded.model, loaded.detector).predict(np.stack([p.image.numpy() for p in images]))
    shares = loaded.detector.p_value(table["outlier_score"].to_numpy())
    return [
        {
            "image": image.name,
            **{str(column): value for column, value in row.items()},
            "p_value": float(share),
            "in_words": loaded.detector.describe(row["outlier_score"]),
            "notes": list(image.notes),
        }
        for image, row, share in zip(images, table.to_dict("records"), shares, strict=True)
    ]


def _print_table(rows: list[dict[str, Any]]) -> None:
    shown = [
        row
        | {
            "answer": "not a digit" if row["not_a_digit"] else str(row["label"]),
            "notes": _notes(row, "table"),
        }
        for row in rows
    ]
    print_rows(shown, "table", _TABLE_COLUMNS)


def _notes(row: dict[str, Any], format_: str) -> Any:
    return row["notes"] if format_ == "json" else "; ".join(row["notes"])
