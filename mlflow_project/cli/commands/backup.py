"""`backup` and `restore`: a copy of store and artifacts, made while people write to them, and put back."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hw2.common.formatting import plural
from mlflow_project.cli.shared.argv_secrets import reexec_without_password
from mlflow_project.cli.shared.options import option
from mlflow_project.cli.shared.output import format_option, print_rows
from mlflow_project.common.store_uri import STORE_VARIABLE

if TYPE_CHECKING:
    from mlflow_project.server.backup import Manifest


@click.command(short_help="Copy store and artifacts while they are being written to.")
@click.argument("target", type=click.Path(path_type=Path))
@option(
    "--store",
    metavar="URL",
    envvar=STORE_VARIABLE,
    help=f"sqlite:///... or postgresql://..., not the server's address; also from {STORE_VARIABLE}.",
)
@option(
    "--artifacts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="An artifact folder; may be given several times. Those that the store names by their paths are found in it."
    "  [default: mlruns and mlartifacts beside a SQLite store, or here]",
)
@format_option
def backup(target: Path, store: str | None, artifacts: tuple[Path, ...], format_: str) -> int:
    """Copy the whole service into the new folder TARGET, as of one moment, with a SHA-256 of every file.

    \b
    mlflow-project backup backups/monday --store sqlite:///mlflow.db
    mlflow-project backup backups/monday --store sqlite:///mlflow.db --artifacts mlruns --artifacts mlartifacts
    """
    reexec_without_password(store or "")
    from mlflow_project.common.errors import BackupError
    from mlflow_project.common.store_uri import tracking_uri
    from mlflow_project.server import backup as backups

    made = backups.backup(store or tracking_uri(), artifacts, target)
    print_rows([_row(target, made)], format_)
    if made.missing:
        raise BackupError(
            f"the backup lacks the files of {plural(len(made.missing), 'model or run', 'models or runs')}, the first "
            f"is {made.missing[0]}; name the folder that has them, too, by --artifacts, or restore them from an "
            "earlier backup; it holds everything else"
        )
    return 0


@click.command(short_help="Restore a backup into an empty store.")
@click.argument("source", type=click.Path(path_type=Path))
@option(
    "--store",
    metavar="URL",
    required=True,
    envvar=STORE_VARIABLE,
    help=f"A store that doesn't exist yet or has no tables; also from {STORE_VARIABLE}.",
)
@option("--artifacts", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@format_option
def restore(source: Path, store: str, artifacts: Path, format_: str) -> int:
    """Check every file of the backup SOURCE by its SHA-256, then put it back.

    \b
    mlflow-project restore backups/monday --store sqlite:///new/mlflow.db --artifacts new/mlruns
    """
    reexec_without_password(store)
    from mlflow_project.server import backup as backups

    print_rows([_row(source, backups.restore(source, store, artifacts))], format_)
    return 0


def _row(folder: Path, manifest: "Manifest") -> dict[str, object]:
    return {
        "backup": str(folder),
        "store": manifest.store,
        "created": manifest.created,
        "runs": manifest.runs,
        "versions": manifest.versions,
        "files": len(manifest.files),
        "size": f"{manifest.size / 1e6:,.1f} MB",
    }
