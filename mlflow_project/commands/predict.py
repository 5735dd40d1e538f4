"""`predict`: pictures in; label, probability and "not a digit" out."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.options import name_option, option
from mlflow_project.output import format_option, print_rows

if TYPE_CHECKING:
    from hw2.pictures import Picture
    from mlflow_project.registry import LoadedModel

_TABLE_COLUMNS = ("picture", "answer", "probability", "outlier_score", "in_words", "notes")


@click.command(short_help="What a registered model says to pictures.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@option(
    "--model",
    default="champion",
    show_default=True,
    help='An alias, a number, "lr=0.1 epochs=8", a models:/ or runs:/ URI.',
)
@name_option
@format_option
def predict(files: tuple[Path, ...], model: str, name: str, format_: str) -> int:
    """What a registered model says to pictures: PNG, JPEG or IDX, of any size and colour.

    A picture is made into what the model saw in training, and what was guessed for that is said; 28 x 28 grey
    values with a dark border are taken as they are. Exit status 1 where a file is no picture; the others are
    answered all the same.

    \b
    mlflow-project predict digit.png scan.jpg --model m1
    """
    pictures, bad = _read(files)
    if pictures:
        from mlflow_project.connection import client
        from mlflow_project.registry import Registry

        registry = Registry(client(), name)
        rows = answers(registry.load(registry.look_up(model)), pictures)
        if format_ == "table":
            _print_table(rows)
        else:
            print_rows([row | {"notes": _notes(row, format_)} for row in rows], format_)
    return 1 if bad else 0


def _read(files: Iterable[Path]) -> "tuple[list[Picture], int]":
    """All pictures that can be read, and how many files can't; a line on stderr for each of these."""
    from hw2.errors import DataError
    from hw2.pictures import read_pictures

    pictures: list[Picture] = []
    bad = 0
    for file in files:
        try:
            pictures += read_pictures(file)
        except DataError as error:
            click.echo(f"Error: {error}", err=True)
            bad += 1
    return pictures, bad


def answers(loaded: "LoadedModel", pictures: "list[Picture]") -> list[dict[str, Any]]:
    """One row a picture, with the columns that the model answers with over HTTP, and what explains them."""
    import numpy as np

    from mlflow_project.served import ServedModel

    table = ServedModel(loaded.model, loaded.detector).predict(np.stack([p.image.numpy() for p in pictures]))
    shares = loaded.detector.p_value(table["outlier_score"].to_numpy())
    return [
        {
            "picture": picture.name,
            **{str(column): value for column, value in said.items()},
            "p_value": float(share),
            "in_words": loaded.detector.describe(said["outlier_score"]),
            "notes": list(picture.notes),
        }
        for picture, said, share in zip(pictures, table.to_dict("records"), shares, strict=True)
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
