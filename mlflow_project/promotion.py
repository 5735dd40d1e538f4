"""Who may have an alias: a version moves there on evidence, and every move is kept.

`champion` is chosen on validation accuracy. The test pictures don't choose: they can only object, by a paired
test that says that the present champion is better.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hw2.errors import ExperimentError
from mlflow_project.alias_history import Change, keep
from mlflow_project.connection import translated
from mlflow_project.errors import RegistryError, ServiceError, UsageError
from mlflow_project.names import CHAMPION
from mlflow_project.stored_runs import StoredRun, stored_predictions

if TYPE_CHECKING:
    from mlflow_project.registry import Registry
    from mlflow_project.versions import Version

MOST_REASON = 1000  # characters of a reason


def promote(
    registry: "Registry", version: "Version | str", alias: str = CHAMPION, because: str = ""
) -> Change | None:
    """Gives the alias to the version on evidence, and keeps the change; None if the version has it already.

    version: Or what a person says of it, as `Registry.look_up` takes it.

    `RegistryError` where the evidence is lacking and `because` doesn't say why that doesn't matter; also, whatever
    it says, where files or weights are not those that were registered.
    """
    _refuse_bad_names(alias, because)
    if isinstance(version, str):
        version = registry.look_up(version)
    if alias in version.aliases:
        return None
    holder = registry.holder(alias)
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
    change = Change(
        alias,
        None if holder is None else holder.number,
        version.number,
        evidence=evidence,
        objections=tuple(objections),
        because=because,
    )
    _refuse_moved(registry, alias, holder)
    with translated():
        # First what is said of it: a move that nobody has explained is worse than an explanation of none.
        keep(registry.client, registry.name, change)
        registry.client.set_registered_model_alias(registry.name, alias, str(version.number))
    return change


def best(registry: "Registry", dataset_sha256: str | None = None) -> "Version":
    """The completed version with the best validation accuracy on one data set; of equal ones, the oldest.

    dataset_sha256: or its beginning; None for that of the champion, or of the newest version where there is none.
    """
    versions = registry.versions()
    if not versions:
        return registry.look_up(CHAMPION)  # says what to do
    if dataset_sha256 is None:
        known = next((v for v in versions if CHAMPION in v.aliases), versions[0])
        dataset_sha256 = known.tags.get("dataset_sha256", "")
    fitting = [v for v in versions if v.tags.get("dataset_sha256", "").startswith(dataset_sha256.lower())]
    validated = [v for v in fitting if _validated(v) is not None]
    pictures = {_validation_pictures(v) for v in validated}
    if len(pictures) > 1:
        said = ", ".join(sorted(f"{data[:12]} with {size}" for data, size in pictures))
        raise RegistryError(
            f"the versions of {registry.name} were validated on different pictures ({said} of them), which tells "
            "nothing of which is best; name a version instead of --best"
        )
    version = _best_completed(registry, validated)
    if version is not None:
        return version
    raise RegistryError(
        f"no completed version of {registry.name} has a validation accuracy on data {dataset_sha256[:12]}; "
        "train one with validation pictures, or name a version instead of --best"
    )


Look = tuple[str, str, bool]
"""What a look at a version is about, what was found, and whether that speaks for it."""


def _completed(registry: "Registry", version: "Version") -> Look:
    from mlflow.exceptions import MlflowException

    about = "run"
    if not version.run_id:
        return about, f"version {version.number} names no run", False
    with translated():
        try:
            run = registry.client.get_run(version.run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return about, f"run {version.run_id} is gone", False
            raise
    if run.info.lifecycle_stage != "active":
        return about, f"run {version.run_id} was deleted", False
    status = run.data.tags.get("status", run.info.status)
    if run.info.status == "FINISHED" and status in ("completed", "FINISHED"):
        return about, f"run {version.run_id} completed", True
    return about, f"run {version.run_id} is not completed but {run.info.status}", False


def _best_validated(registry: "Registry", version: "Version") -> Look:
    about, accuracy = "validation_accuracy", _validated(version)
    if accuracy is None:
        return (
            about,
            f"version {version.number} has no validation accuracy, by which a champion is chosen",
            False,
        )
    rivals = [v for v in registry.versions() if _validation_pictures(v) == _validation_pictures(version)]
    better = [v for v in rivals if (_validated(v) or 0.0) > accuracy]
    first = _best_completed(registry, better)
    if first is not None:
        said = (
            f"its validation accuracy is {accuracy:.4f}, version {first.number} has {_validated(first):.4f}"
        )
        return about, said, False
    compared = sum(_validated(v) is not None for v in rivals) - len(better)
    return about, f"best validation accuracy, {accuracy:.4f}, of {compared}", True


def _not_worse(registry: "Registry", version: "Version", holder: "Version | None", alias: str) -> Look:
    about = "test"
    if holder is None:
        return about, f"no {alias} before", True
    from hw2.comparison import compare

    names = f"version {version.number}", f"version {holder.number} ({alias} now)"
    try:
        runs = [_stored(registry, v, name) for v, name in zip((version, holder), names, strict=True)]
        found = compare(stored_predictions(registry.client, runs))
    except (ExperimentError, ServiceError) as error:
        return about, f"it can't be compared with version {holder.number}: {error}", False
    pair = found.pair(*names)
    return (
        about,
        f"on {found.models[0].n:,} test pictures against version {holder.number}: {pair['verdict']}",
        (pair["better"] != names[1]),
    )


def _stored(registry: "Registry", version: "Version", name: str) -> StoredRun:
    with translated():
        place = registry.client.get_run(version.run_id).info.artifact_uri
    return StoredRun(
        name=name, run_id=version.run_id, artifact_uri=place, parameters=version.tags, metrics={}, tags={}
    )


def _best_completed(registry: "Registry", versions: "Sequence[Version]") -> "Version | None":
    ranked = sorted(versions, key=lambda v: (-(_validated(v) or 0.0), v.number))
    return next((version for version in ranked if _completed(registry, version)[2]), None)


def _validated(version: "Version") -> float | None:
    return version.figure("validation_accuracy")


def _validation_pictures(version: "Version") -> tuple[str, str]:
    """Which they are: the choice among a data set's training pictures is fixed by their number."""
    return version.tags.get("dataset_sha256", ""), version.tags.get("validation_size", "")


def _refuse_moved(registry: "Registry", alias: str, holder: "Version | None") -> None:
    """`RegistryError` if somebody else has given the alias since `holder` was compared with."""
    now = registry.holder(alias)
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
    if len(because) > MOST_REASON:
        raise UsageError(f"a reason has at most {MOST_REASON} characters, this one {len(because):,}")
