"""`outliers`: evaluate registered models on outlier images."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlflow_project.analysis.outlier_result import EXAMPLES, SETS
from mlflow_project.cli.shared.options import IntLike, data_options, migrate_option, name_option, option
from mlflow_project.cli.shared.output import format_option, print_rows

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_project.analysis.outlier_result import OutlierTest
    from mlflow_project.common.signals import GracefulShutdown

MODELS = "champion"
INSTEAD = "max_softmax"
"""Of the published scores, the one that is shown of a model without a score of its own."""
MOST_EXAMPLES = 100  # one figure shows them all
_THRESHOLD_COLUMNS = ("digits_kept", "accuracy_on_kept", "outliers_rejected")
_MATCHED = "matched"
_SUMMARY_COLUMNS = ("outliers", "model", "auroc", "outliers_accepted")
_TABLE_COLUMNS = (*_SUMMARY_COLUMNS, "inliers_kept", *_THRESHOLD_COLUMNS[1:], _MATCHED)


@click.command(short_help="Evaluate registered models on outlier images.")
@option(
    "--models",
    default=MODELS,
    show_default=True,
    help='Several with commas: champion,m1,3,"lr=0.1 epochs=8", models:/ and runs:/ URIs.',
)
@option(
    "--outliers",
    "sets",
    default=None,
    help="Several with commas: fashion-mnist, letters, rotated, inverted, noise, patches, another data set's name, "
    f"or a folder of images or IDX files.  [default: {','.join(SETS)}; inverted,noise,patches for images of another "
    "size or in color]",
)
@option(
    "--examples",
    type=IntLike(),
    default=EXAMPLES,
    show_default=True,
    help=f"Images that are shown one by one, {MOST_EXAMPLES} at most.",
)
@name_option
@data_options
@migrate_option
@format_option
@click.pass_obj
def outliers(
    shutdown: "GracefulShutdown",
    /,
    models: str,
    sets: str | None,
    examples: int,
    name: str,
    data_dir: Path | None,
    download: bool,
    format_: str,
) -> int:
    """Evaluate registered models on outlier images, all of them, as one MLflow run.

    Each model is verified before. Its default score and threshold are evaluated against all images that it was
    tested on, and every other score beside them.

    \b
    mlflow-project outliers --models m1,m2,m3 --outliers fashion-mnist,letters --data-dir data
    """
    from mlflow_project.analysis.outlier_test import run_outlier_test
    from mlflow_project.cli.shared.console import Console
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.registry.versions import split_models
    from mlflow_project.tracking.delivery.client import connect

    if not 1 <= examples <= MOST_EXAMPLES:
        raise click.UsageError(
            f"--examples is {examples}; it must be a whole number from 1 to {MOST_EXAMPLES}"
        )
    with Console() as console:
        result = run_outlier_test(
            RegisteredModel(connect(), name),
            split_models(models),
            None if sets is None else [name.strip() for name in sets.split(",") if name.strip()],
            examples,
            data_dir,
            console,
            download=download,
            run_id=os.environ.get("MLFLOW_RUN_ID"),
            params={
                "models": models,
                "examples": str(examples),
                **({} if sets is None else {"outliers": sets}),
            },
            shutdown=shutdown,
        )
    return _report(result, format_)


def _report(result: "OutlierTest", format_: str) -> int:
    from hw2.outliers.tables import disagreements
    from mlflow_project.cli.shared.hints import run_command
    from mlflow_project.tracking.journal.delivery_status import pending_warning, require_taken

    if format_ == "table":
        rows = _summary(result)
        columns = [name for name in _TABLE_COLUMNS if name != _MATCHED or any(name in row for row in rows)]
        print_rows(rows, format_, columns)
    else:
        print_rows(_all(result), format_)
    if result.matches is not None:
        click.echo(f"{result.matches}", err=True)
    if len(result.models) > 1:
        for name, table in result.examples.items():
            indices = disagreements(table)
            listed = f": {', '.join(map(str, indices))}" if indices else ""
            count = table["index"].nunique()
            click.echo(f"{name}: the models disagree on {len(indices)} of {count} images{listed}", err=True)
    assert result.folder is not None
    warning = pending_warning(result.delivery, result.folder)
    if warning is not None:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(run_command(result.folder, result.run_id), err=True)
    require_taken(result.delivery)
    return 0


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _all(result: "OutlierTest") -> list[dict[str, Any]]:
    """Every score's measures; beside the registered one's, what its threshold does, with intervals."""
    from hw2.outliers.tables import DEFAULT_SCORE

    thresholds = result.thresholds.assign(score=DEFAULT_SCORE)
    return _rows(result.measures.merge(thresholds, how="left"))


def _summary(result: "OutlierTest") -> list[dict[str, Any]]:
    """A row for each set and model, of the score that is registered with it, then the scores of all together."""
    from hw2.common.formatting import format_ci, format_ratio
    from hw2.outliers.tables import DEFAULT_SCORE, ENSEMBLE

    rows = []
    thresholds = result.thresholds.set_index(["outliers", "model"])
    for row in _rows(result.measures):
        if row["score"] == DEFAULT_SCORE:
            examples = result.examples[row["outliers"]]
            examples = examples[examples["model"] == row["model"]]
            at_threshold = thresholds.loc[(row["outliers"], row["model"])]
            row |= {
                name: format_ci(*(at_threshold[f"{name}{end}"] for end in ("", "_low", "_high")))
                for name in _THRESHOLD_COLUMNS
            }
            row["inliers_kept"] = row.pop("digits_kept")  # to people; to programs it keeps its name
            if "matches" in examples and len(result.outlier_sets[row["outliers"]].classes) == 10:
                row[_MATCHED] = f"{int(examples['matches'].sum())} of {len(examples)}"
        elif row["model"] == ENSEMBLE:
            row["model"] = f"together: {row['score']}"
        elif row["score"] == INSTEAD and result.models[row["model"]].detector is None:
            row["model"] += f" (no score of its own; {INSTEAD})"
        else:
            continue
        rows.append(row | {"auroc": format_ratio(row["auroc"])})
    return rows
