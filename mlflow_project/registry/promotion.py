"""Who may have an alias: a version moves there on evidence, and every move is kept.

`champion` is chosen on validation accuracy. The test images don't choose: they can only object, by a paired
test that says that the present champion is better.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hw2.common.errors import Hw2Error
from mlflow_project.common.errors import RegistryError, ServiceError, UsageError
from mlflow_project.common.names import CHAMPION
from mlflow_project.registry.stored_runs import RunRecord, stored_predictions
from mlflow_project.tracking.delivery.alias_log import AliasChange, record_change
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors

if TYPE_CHECKING:
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.registry.versions import Version

MAX_REASON = 1000  # characters of a reason


def promote(
    registry: "RegisteredModel", version: "Version | str", alias: str = CHAMPION, because: str = ""
) -> AliasChange | None:
    """Gives the alias to the version on evidence, and keeps the change; None if the version has it already.

    version: Or what a person says of it, as `RegisteredModel.resolve` takes it.

    `RegistryError` where the evidence is lacking and `because` doesn't say why that doesn't matter; also, whatever
    it says, where files or weights are not those that were registered.
    """
    _refuse_bad_names(alias, because)
    if isinstance(version, str):
        version = registry.resolve(version)
    if alias in version.aliases:
        return None
    holder = registry.version_with_alias(alias)
    registry.verify(version)
    evidence = {"weights": f"weights verified ({version.tags['weights_sha256'][:12]})"}
    objections: list[str] = []
    looks = [_completed(registry, version), _not_worse(registry, version, holder, alias)]
    if alias == CHAMPION:
        looks.insert(1, _best_validated(registry, version))
    for about, said, fits in looks:
        if fits:
            evidence[about] = said
        else:
            objections.append(said)
    if objections and not because:
        raise RegistryError(
            f"version {version.number} doesn't become {alias}: {'; '.join(objections)}; choose another "
            '(--best takes the best validated one), or say why: --because "..."'
        )
    change = AliasChange(
        alias,
        None if holder is None else holder.number,
        version.number,
        evidence=evidence,
        objections=tuple(objections),
        because=because,
    )
    _refuse_moved(registry, alias, holder)
    with mlflow_errors():
        # First what is said of it: a move that nobody has explained is worse than an explanation of none.
        record_change(registry.client, registry.name, change)
        registry.client.set_registered_model_alias(registry.name, alias, str(version.number))
    return change


def best(registry: "RegisteredModel", dataset_sha256: str | None = None) -> "Version":
    """The completed version with the best validation accuracy on one data set; of equal ones, the oldest.

    dataset_sha256: or its beginning; None for that of the champion, or of the newest version where there is none.
    """
    versions = registry.versions()
    if not versions:
        return registry.resolve(CHAMPION)  # says what to do
    if dataset_sha256 is None:
        known = next((v for v in versions if CHAMPION in v.aliases), versions[0])
        dataset_sha256 = known.tags.get("dataset_sha256", "")
    fitting = [v for v in versions if v.tags.get("dataset_sha256", "").startswith(dataset_sha256.lower())]
    validated = [v for v in fitting if _validated(v) is not None]
    images = {_validation_images(v) for v in validated}
    if len(images) > 1:
        said = ", ".join(sorted(f"{data[:12]} with {size}" for data, size in images))
        raise RegistryError(
            f"the versions of {registry.name} were validated on different images ({said} of them), which tells "
            "nothing of which is best; name a version instead of --best"
        )
    version = _best_completed(registry, validated)
    if version is not None:
        return version
    raise RegistryError(
        f"no completed version of {registry.name} has a validation accuracy on data {dataset_sha256[:12]}; "
        "train one with validation images, or name a version instead of --best"
    )


Check = tuple[str, str, bool]
"""What a look at a version is about, what was found, and whether that speaks for it."""


def _completed(registry: "RegisteredModel", version: "Version") -> Check:
    about = "run"
    if not version.run_id:
        return about, f"version {version.number} names no run", False
    with mlflow_errors():
        try:
            run = registry.client.get_run(version.run_id)
        except import_mlflow().exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return about, f"run {version.run_id} is gone", False
            raise
    if run.info.lifecycle_stage != "active":
        return about, f"run {version.run_id} was deleted", False
    status = run.data.tags.get("status", run.info.status)
    if run.info.status == "FINISHED" and status in ("completed", "FINISHED"):
        return about, f"run {version.run_id} completed", True
    return about, f"run {version.run_id} is not completed but {run.info.status}", False


def _best_validated(registry: "RegisteredModel", version: "Version") -> Check:
    about, accuracy = "validation_accuracy", _validated(version)
    if accuracy is None:
        return (
            about,
            f"version {version.number} has no validation accuracy, by which a champion is chosen",
            False,
        )
    rivals = [v for v in registry.versions() if _validation_images(v) == _validation_images(version)]
    better = [v for v in rivals if (_validated(v) or 0.0) > accuracy]
    first = _best_completed(registry, better)
    if first is not None:
        said = (
            f"its validation accuracy is {accuracy:.4f}, version {first.number} has {_validated(first):.4f}"
        )
        return about, said, False
    compared = sum(_validated(v) is not None for v in rivals) - len(better)
    return about, f"best validation accuracy, {accuracy:.4f}, of {compared}", True


def _not_worse(
    registry: "RegisteredModel", version: "Version", holder: "Version | None", alias: str
) -> Check:
    about = "test"
    if holder is None:
        return about, f"no {alias} before", True
    from hw2.comparison.compare import compare

    names = f"version {version.number}", f"version {holder.number} ({alias} now)"
    try:
        runs = [_stored(registry, v, name) for v, name in zip((version, holder), names, strict=True)]
        found = compare(stored_predictions(registry.client, runs))
    except (Hw2Error, ServiceError) as error:
        return about, f"it can't be compared with version {holder.number}: {error}", False
    pair = found.pair(*names)
    return (
        about,
        f"on {found.models[0].n:,} test images against version {holder.number}: {pair['verdict']}",
        (pair["better"] != names[1]),
    )


def _stored(registry: "RegisteredModel", version: "Version", name: str) -> RunRecord:
    with mlflow_errors():
        place = registry.client.get_run(version.run_id).info.artifact_uri
    return RunRecord(
        name=name, run_id=version.run_id, artifact_uri=place, parameters=version.tags, metrics={}, tags={}
    )


def _best_completed(registry: "RegisteredModel", versions: "Sequence[Version]") -> "Version | None":
    ranked = sorted(versions, key=lambda v: (-(_validated(v) or 0.0), v.number))
    return next((version for version in ranked if _completed(registry, version)[2]), None)


def _validated(version: "Version") -> float | None:
    return version.figure("validation_accuracy")


def _validation_images(version: "Version") -> tuple[str, str]:
    """Which they are: the choice among a data set's training images is fixed by their number."""
    return version.tags.get("dataset_sha256", ""), version.tags.get("validation_size", "")


def _refuse_moved(registry: "RegisteredModel", alias: str, holder: "Version | None") -> None:
    """`RegistryError` if somebody else has given the alias since `holder` was compared with."""
    now = registry.version_with_alias(alias)
    before, after = (None if version is None else version.number for version in (holder, now))
    if before != after:
        raise RegistryError(
            f"{alias} was moved meanwhile, to {'no version' if after is None else f'version {after}'}; "
            "see `models history`, and promote again if it shall move"
        )


def _refuse_bad_names(alias: str, because: str) -> None:
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|[vV]?\d+", alias):
        raise UsageError(
            f"{alias!r} can't be an alias: letters, digits, - and _, and neither `latest` nor a number"
        )
    if len(because) > MAX_REASON:
        raise UsageError(f"a reason has at most {MAX_REASON} characters, this one {len(because):,}")
