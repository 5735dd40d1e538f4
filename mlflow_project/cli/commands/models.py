"""`models`: what is registered, what it is worth, and whether it is still what was registered."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from hw2.common.formatting import plural
from hw2.train_step.options import OPTIMIZERS
from hw2.training.config import TrainingConfig
from hw2.training.schedule import SCHEDULES
from mlflow_project.cli.shared.options import IntLike, migrate_option, name_option, option
from mlflow_project.cli.shared.output import format_option, print_rows
from mlflow_project.common.errors import RegistryError, ServiceError

if TYPE_CHECKING:
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.registry.versions import Version
    from mlflow_project.tracking.identity.alias_log import AliasChange

_LISTED = ("lr", "epochs", "seed", "test_accuracy", "dataset")


@click.group(short_help="List, inspect, verify and promote registered models.")
def models() -> None:
    """List, inspect, verify and promote registered models.

    \b
    mlflow-project models find --lr 0.1 --epochs 8
    """


@models.command(name="list", short_help="All versions, newest first.")
@name_option
@option("--all", "all_", is_flag=True, help="Those of every registered model.")
@migrate_option
@format_option
def list_(name: str, all_: bool, format_: str) -> None:
    """All versions, newest first.

    \b
    mlflow-project models list
    mlflow-project models list --all
    """
    registry = _registry(name)
    versions = _every_version(registry) if all_ else registry.versions()
    if not all_ and not versions:
        registry.require()
    print_rows([_row(version) for version in versions], format_, _COLUMNS)


@models.command(short_help="Versions by configuration, accuracy or data.")
@name_option
@option("--lr", type=float, help="Learning rate.")
@option("--epochs", type=IntLike(), help="Epochs.")
@option("--batch-size", type=IntLike(), help="Batch size.")
@option("--seed", type=IntLike(), help="Seed.")
@option("--optimizer", type=click.Choice(OPTIMIZERS), help="Optimizer.")
@option("--momentum", type=float, help="Momentum.")
@option("--nesterov", type=click.BOOL, metavar="[yes|no]", help="Whether Nesterov's.")
@option("--weight-decay", type=float, help="Weight decay.")
@option("--label-smoothing", type=float, help="Label smoothing.")
@option("--clip-norm", type=float, help="Longest gradient.")
@option("--schedule", type=click.Choice(SCHEDULES), help="Schedule of the learning rate.")
@option("--augment", help="Random changes of the training images, all of them.")
@option("--precision", type=click.Choice(("float32", "bfloat16")), help="As it was trained in.")
@option("--device", type=click.Choice(("cpu", "cuda")), help="On which it was trained.")
@option("--min-test-accuracy", type=click.FloatRange(0, 1), help="At least this share of 1.")
@option("--dataset-sha256", help="Trained and tested on these images; its beginning will do.")
@migrate_option
@format_option
def find(
    name: str,
    min_test_accuracy: float | None,
    dataset_sha256: str | None,
    format_: str,
    **tags: float | int | str | None,
) -> None:
    """Versions by configuration, accuracy or data. Exit status 1 where there is none.

    \b
    mlflow-project models find --lr 0.1 --epochs 8 --min-test-accuracy 0.98
    """
    from mlflow_project.registry.versions import VersionFilter

    if isinstance(augment := tags["augment"], str):
        tags["augment"] = TrainingConfig(augment=augment).augment  # in the order in which it is stored
    wanted = {key: str(value) for key, value in tags.items() if value is not None}
    registry = _registry(name)
    versions = registry.versions(VersionFilter(wanted, min_test_accuracy, dataset_sha256))
    if not versions:
        registry.require()
        raise RegistryError(f"no version of {name} fits; `mlflow-project models list` shows what there is")
    print_rows([_row(version) for version in versions], format_, _COLUMNS)


@models.command(short_help="Show one model version.")
@click.argument("model")
@name_option
@migrate_option
@format_option
def show(model: str, name: str, format_: str) -> None:
    """Show one model version. MODEL: an alias, a number, "lr=0.1 epochs=8", a models:/ or runs:/ URI.

    \b
    mlflow-project models show champion
    """
    registry = _registry(name)
    version = registry.with_run(registry.resolve(model))
    problem = registry.run_problem(version)
    facts = {
        "model": version.name,
        "version": version.number,
        "aliases": ", ".join(version.aliases),
        "uri": version.uri,
        "run_id": version.run_id,
        **({"run_problem": problem} if problem else {}),
        "created": _when(version.created_ms),
        **dict(sorted(version.tags.items())),
    }
    if format_ == "table":
        print_rows([{"what": key, "value": str(value)} for key, value in facts.items()], format_)
    else:
        print_rows([facts], format_)


@models.command(short_help="Check files and weights against their recorded SHA-256.")
@click.argument("model", required=False)
@option("--all", "all_", is_flag=True, help="Every version of every registered model.")
@name_option
@migrate_option
@format_option
def verify(model: str | None, all_: bool, name: str, format_: str) -> int:
    """Check files and weights against their recorded SHA-256. Exit status 1 where one differs.

    \b
    mlflow-project models verify champion
    mlflow-project models verify --all
    """
    if bool(model) == all_:
        raise click.UsageError("name one MODEL, or --all")
    registry = _registry(name)
    versions = _every_version(registry) if all_ else [registry.resolve(model or "")]
    rows: list[dict[str, Any]] = []
    for version in versions:
        try:
            registry.verify(version)
            result = "verified"
        except ServiceError as error:
            result = str(error)
        rows.append({"model": version.name, "version": version.number, "result": result})
    print_rows(rows, format_, ("model", "version", "result"))
    bad = sum(row["result"] != "verified" for row in rows)
    if bad:
        raise RegistryError(
            f"{bad} of {plural(len(rows), 'version')} can't be verified: not what was registered, or not to be read; "
            "restore from a backup"
        )
    return 0


@models.command(short_help="Assign an alias after promotion checks.")
@click.argument("model", required=False)
@option("--alias", default="champion", show_default=True, help="What to give.")
@option("--best", is_flag=True, help="The completed version with the best validation accuracy.")
@option("--dataset-sha256", help="With --best: of these images; those of the champion by default.")
@option("--reason", default="", help="Required to override failed checks.")
@option("--because", default="", hidden=True)  # its name in earlier versions
@name_option
@migrate_option
@format_option
def promote(
    model: str | None,
    alias: str,
    best: bool,
    dataset_sha256: str | None,
    reason: str,
    because: str,
    name: str,
    format_: str,
) -> None:
    """Assign an alias after promotion checks.

    That is: a completed run, verified files and weights, and not worse than the version that has the alias now, by
    McNemar's exact test on the same test images. A champion is chosen on validation accuracy, never on test: it
    is the best by that, or --reason says why not. Each change is recorded; `models history` shows it.

    \b
    mlflow-project models promote --best
    mlflow-project models promote 4 --reason "smaller, and no worse for our images"
    """
    from mlflow_project.registry import promotion

    if bool(model) == best:
        raise click.UsageError("name one MODEL, or --best")
    registry = _registry(name)
    version = registry.resolve(model) if model else promotion.best(registry, dataset_sha256)
    change = promotion.promote(registry, version, alias, reason or because)
    if change is None:
        click.echo(f"version {version.number} is {alias} already", err=True)
        return
    print_rows([_change(change)], format_, _CHANGE_COLUMNS)


@models.command(short_help="Alias history: when, who, from, to, why.")
@option("--alias", help="Of this one alone.")
@name_option
@migrate_option
@format_option
def history(alias: str | None, name: str, format_: str) -> None:
    """Every change of an alias, oldest first: when, by whom, from and to which version, and on what evidence.

    What was changed by other means, as in MLflow's UI, is shown where it is known.

    \b
    mlflow-project models history --alias champion
    """
    from mlflow_project.tracking.delivery.client import mlflow_errors
    from mlflow_project.tracking.identity.alias_log import history as known_changes

    registry = _registry(name)
    if not registry.versions():
        registry.resolve("champion")  # says what is registered instead
    with mlflow_errors():
        changes = known_changes(registry.client, name)
    rows = [_change(change) for change in changes if alias in (None, change.alias)]
    print_rows(rows, format_, _CHANGE_COLUMNS)


_CHANGE_COLUMNS = ("when", "who", "alias", "from", "to", "why")


def _change(change: "AliasChange") -> dict[str, Any]:
    return {
        "when": change.when,
        "who": change.who,
        "alias": change.alias,
        "from": change.from_version,
        "to": change.to_version,
        "why": change.why,
    }


_COLUMNS = ("model", "version", "aliases", *_LISTED, "run_id", "created")


def _registry(name: str) -> "RegisteredModel":
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    return RegisteredModel(connect(), name)


def _every_version(registry: "RegisteredModel") -> "list[Version]":
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import pages

    models = pages(lambda token: registry.client.search_registered_models(page_token=token))
    names = [model.name for model in models]
    return [version for name in names for version in RegisteredModel(registry.client, name).versions()]


def _row(version: "Version") -> dict[str, Any]:
    return {
        "model": version.name,
        "version": version.number,
        "aliases": ", ".join(version.aliases),
        **{key: version.tags.get(key) for key in _LISTED},
        "run_id": version.run_id,
        "created": _when(version.created_ms),
    }


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
