"""Promote a version to an alias after checks, and record the change.

`champion` is chosen on validation accuracy. The test images don't choose: they can only object, by a paired
test that says that the present champion is better.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from hw2.common.errors import Hw2Error
from mlflow_project.common.errors import RegistryError, ServiceError, UsageError
from mlflow_project.common.names import CHAMPION
from mlflow_project.registry.stored_runs import RunRecord, stored_predictions
from mlflow_project.tracking.delivery.alias_log import AliasChange, record_change
from mlflow_project.tracking.delivery.client import mlflow_errors

if TYPE_CHECKING:
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.registry.versions import Version

MAX_REASON = 1000  # characters of a reason


def promote(
    registry: "RegisteredModel", version: "Version | str", alias: str = CHAMPION, reason: str = ""
) -> AliasChange | None:
    """Assign the alias to the version after checks, and record the change.

    Args:
        registry: The registered model.
        version: A version, or a query as `RegisteredModel.resolve` takes it.
        alias: What to assign.
        reason: Why to override failed checks.

    Returns:
        The change; None if the version has the alias already.

    Raises:
        RegistryError: A check failed and no reason is given; or, whatever the reason, files or weights are not
            those that were registered.
    """
    _refuse_bad_names(alias, reason)
    if isinstance(version, str):
        version = registry.resolve(version)
    if alias in version.aliases:
        return None
    holder = registry.version_with_alias(alias)
    registry.verify(version)
    checks = [_check_run(registry, version), _check_not_worse(registry, version, holder, alias)]
    best_validated = None
    if alias == CHAMPION:
        best_validated = _check_best_validated(registry, version)
        checks.insert(1, best_validated)
    passed = {"weights": f"weights verified ({version.tags['weights_sha256'][:12]})"}
    passed |= {check.topic: check.text for check in checks if check.passed}
    failed = tuple(check.text for check in checks if not check.passed)
    if failed and not reason:
        # What is the best validated version isn't advised to be chosen by --best.
        hint = (
            ""
            if best_validated is None or best_validated.passed
            else " (--best takes the best validated one)"
        )
        raise RegistryError(
            f"version {version.number} doesn't become {alias}: {'; '.join(failed)}; choose another{hint}, "
            'or give a reason: --reason "..."'
        )
    change = AliasChange(
        alias,
        None if holder is None else holder.number,
        version.number,
        evidence=passed,
        objections=failed,
        because=reason,
    )
    _refuse_moved(registry, alias, holder)
    with mlflow_errors():
        # The record first: a change without its reason is worse than a reason without its change.
        record_change(registry.client, registry.name, change)
        registry.client.set_registered_model_alias(registry.name, alias, str(version.number))
    return change


def best(registry: "RegisteredModel", dataset_sha256: str | None = None) -> "Version":
    """Find the completed version with the best validation accuracy on one data set; of equal ones, the oldest.

    Args:
        registry: The registered model.
        dataset_sha256: Of the data set, or its beginning; None for that of the champion, or of the newest version
            with one where there is no champion.

    Raises:
        RegistryError: There is none, or the versions were validated on different images.
    """
    versions = registry.versions()
    if not versions:
        return registry.resolve(CHAMPION)  # says what to do
    if dataset_sha256 is None:
        known = [v for v in versions if v.tags.get("dataset_sha256")]
        if not known:
            raise RegistryError(
                f"no version of {registry.name} says which data it was trained on (no tag dataset_sha256); "
                "name a version instead of --best"
            )
        champion = next((v for v in known if CHAMPION in v.aliases), known[0])
        dataset_sha256 = champion.tags["dataset_sha256"]
    fitting = [v for v in versions if v.tags.get("dataset_sha256", "").startswith(dataset_sha256.lower())]
    validated = [v for v in fitting if _validated(v) is not None]
    images = {_validation_images(v) for v in validated}
    if len(images) > 1:
        sets = ", ".join(sorted(f"{data[:12]} with {size}" for data, size in images))
        raise RegistryError(
            f"the versions of {registry.name} were validated on different images ({sets} of them), which tells "
            "nothing of which is best; name a version instead of --best"
        )
    version = _best_completed(registry, validated)
    if version is not None:
        return version
    raise RegistryError(
        f"no completed version of {registry.name} has a validation accuracy on data {dataset_sha256[:12]}; "
        "train one with validation images, or name a version instead of --best"
    )


class Check(NamedTuple):
    """One promotion check: its topic, its result in words, and whether it passed."""

    topic: str
    text: str
    passed: bool


def _check_run(registry: "RegisteredModel", version: "Version") -> Check:
    problem = registry.run_problem(version)
    return Check("run", problem or f"run {version.run_id} completed", not problem)


def _check_best_validated(registry: "RegisteredModel", version: "Version") -> Check:
    topic, accuracy = "validation_accuracy", _validated(version)
    if accuracy is None:
        text = f"version {version.number} has no validation accuracy, by which a champion is chosen"
        return Check(topic, text, False)
    rivals = [v for v in registry.versions() if _validation_images(v) == _validation_images(version)]
    better = [v for v in rivals if (_validated(v) or 0.0) > accuracy]
    first = _best_completed(registry, better)
    if first is not None:
        text = (
            f"its validation accuracy is {accuracy:.4f}, version {first.number} has {_validated(first):.4f}"
        )
        return Check(topic, text, False)
    compared = sum(_validated(v) is not None for v in rivals) - len(better)
    return Check(topic, f"best validation accuracy, {accuracy:.4f}, of {compared}", True)


def _check_not_worse(
    registry: "RegisteredModel", version: "Version", holder: "Version | None", alias: str
) -> Check:
    topic = "test"
    if holder is None:
        return Check(topic, f"no {alias} before", True)
    from hw2.comparison.compare import compare

    names = f"version {version.number}", f"version {holder.number} ({alias} now)"
    try:
        runs = [_stored(registry, v, name) for v, name in zip((version, holder), names, strict=True)]
        comparison = compare(stored_predictions(registry.client, runs))
    except (Hw2Error, ServiceError) as error:
        return Check(topic, f"it can't be compared with version {holder.number}: {error}", False)
    pair = comparison.pair(*names)
    images = comparison.models[0].n
    text = f"on {images:,} test images against version {holder.number}: {pair['verdict']}"
    return Check(topic, text, pair["better"] != names[1])


def _stored(registry: "RegisteredModel", version: "Version", name: str) -> RunRecord:
    with mlflow_errors():
        return replace(RunRecord.from_mlflow(registry.client.get_run(version.run_id)), name=name)


def _best_completed(registry: "RegisteredModel", versions: "Sequence[Version]") -> "Version | None":
    ranked = sorted(versions, key=lambda v: (-(_validated(v) or 0.0), v.number))
    return next((version for version in ranked if not registry.run_problem(version)), None)


def _validated(version: "Version") -> float | None:
    return version.numeric_tag("validation_accuracy")


def _validation_images(version: "Version") -> tuple[str, str]:
    """Identify the validation images: the choice among a data set's training images is fixed by their number."""
    return version.tags.get("dataset_sha256", ""), version.tags.get("validation_size", "")


def _refuse_moved(registry: "RegisteredModel", alias: str, holder: "Version | None") -> None:
    """Raise RegistryError if the alias was moved since `holder` was compared with."""
    now = registry.version_with_alias(alias)
    before, after = (None if version is None else version.number for version in (holder, now))
    if before != after:
        raise RegistryError(
            f"{alias} was moved meanwhile, to {'no version' if after is None else f'version {after}'}; "
            "see `models history`, and promote again if it shall move"
        )


def _refuse_bad_names(alias: str, reason: str) -> None:
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|[vV]?\d+", alias):
        raise UsageError(
            f"{alias!r} can't be an alias: letters, digits, - and _, and neither `latest` nor a number"
        )
    if len(reason) > MAX_REASON:
        raise UsageError(f"a reason has at most {MAX_REASON} characters, this one {len(reason):,}")
