"""Registered models: found by what a person says of them, verified, and loaded without pickle."""

import difflib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RegistryError, UsageError
from mlflow_project.common.names import CHAMPION, DEFAULT_NAME
from mlflow_project.registry.versions import Version, VersionFilter, parse_tags, stored_text
from mlflow_project.tracking.delivery.client import connect as open_store
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors, pages

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.models.net import Net
    from hw2.outliers.detector import OutlierDetector

_PAGE = 1000
_DIGITS = 9  # of a version's number; a longer one can't be asked of a store
_GONE = "RESOURCE_DOES_NOT_EXIST"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A verified version as its class, with the detector that was registered with it."""

    version: Version
    model: "Net"
    detector: "OutlierDetector"


class RegisteredModel:
    """One registered model of a store."""

    def __init__(self, client: "MlflowClient | None" = None, name: str = DEFAULT_NAME) -> None:
        self.client = client or open_store()
        self.name = name

    def versions(self, criteria: VersionFilter | None = None, run_id: str | None = None) -> list[Version]:
        """All versions that fit, newest first; none where the model isn't registered yet.

        run_id: of the run that made them; None for any.
        """
        criteria = criteria or VersionFilter()
        conditions = [f"name = '{self.name}'"]
        if run_id is not None:
            conditions.append(f"run_id = '{run_id}'")
        # Tags are kept as text that Python made of a number, so equal numbers are equal texts in the store.
        conditions += [f"tags.`{key}` = '{stored_text(key, value)}'" for key, value in criteria.tags.items()]
        with mlflow_errors():
            aliases = self._aliases()
        condition = " and ".join(conditions)
        entities = pages(
            lambda token: self.client.search_model_versions(condition, max_results=_PAGE, page_token=token)
        )
        found = [_version(entity, aliases) for entity in entities]
        return sorted(filter(criteria.match, found), key=lambda version: -version.number)

    def resolve(self, said: str) -> Version:
        """The version that a person means: an alias, a number, `lr=0.1 epochs=8`, a models:/ or a runs:/ URI.

        Of several that fit, the newest; of those that fit a configuration, the newest on full data, if any is.
        RegistryError where there is none, with names near it.
        """
        said = said.strip()
        if said.startswith("models:/"):
            return self._by_uri(said)
        if said.startswith("runs:/"):
            return self._first(self._of_run(said.removeprefix("runs:/").split("/")[0]), said)
        if "=" in said:
            fitting = self.versions(VersionFilter(parse_tags(said)))
            # Stable: newest first also among those on full data.
            return self._first(sorted(fitting, key=lambda version: version.is_of_sample), said)
        if said.isdecimal():
            found = None
            if len(said) <= _DIGITS:
                found = self._asked(lambda: self.client.get_model_version(self.name, str(int(said))))
            return found or self._first([], f"version {said}")
        version = self.version_with_alias(said)
        if version is None:
            with mlflow_errors():
                known = sorted(alias for names in self._aliases().values() for alias in names)
            if said == CHAMPION and self.versions():
                raise RegistryError(
                    f"{self.name} has no {CHAMPION} yet; choose the best validated version: "
                    f"mlflow-project models promote --best --alias {CHAMPION}{self._option}"
                )
            raise RegistryError(self._missing(f"alias {said!r}", said, known))
        return version

    def version_with_alias(self, alias: str) -> Version | None:
        """The version that has the alias."""
        version = self._asked(lambda: self.client.get_model_version_by_alias(self.name, alias))
        # MLflow answers `latest` too, which nobody has given.
        return version if version is not None and alias in version.aliases else None

    def resolve_all(self, said: Sequence[str]) -> dict[str, Version]:
        """By a short name: the alias that was said, else another alias, else the number. Each version once."""
        if not said:
            raise UsageError("no model is named; give --models champion, or several: --models m1,m2,m3")
        versions: dict[str, Version] = {}
        for one in said:
            version = self.resolve(one)
            if any(
                (known.name, known.number) == (version.name, version.number) for known in versions.values()
            ):
                continue
            aliases = [one, *version.aliases] if one in version.aliases else version.aliases
            name = aliases[0] if aliases else f"v{version.number}"
            versions[name if name not in versions else f"{version.name}-v{version.number}"] = version
        return versions

    def load(self, version: Version) -> LoadedModel:
        """The version's class and detector, after its files' and weights' SHA-256 are verified."""
        from mlflow_project.packaging import model_files

        with tempfile.TemporaryDirectory() as scratch:
            folder = self._verified(version, Path(scratch))
            model, detector = model_files.read_model(folder, f"{version.name} version {version.number}")
        return LoadedModel(version, model, detector)

    def verify(self, version: Version) -> None:
        """`RegistryError` unless its files and weights are those that were registered."""
        with tempfile.TemporaryDirectory() as scratch:
            self._verified(version, Path(scratch))

    def _verified(self, version: Version, scratch: Path) -> Path:
        mlflow = import_mlflow()
        from mlflow_project.packaging import model_files

        said = f"{version.name} version {version.number}"
        with mlflow_errors():
            try:
                folder = Path(mlflow.artifacts.download_artifacts(version.uri, dst_path=str(scratch)))
            except (mlflow.exceptions.MlflowException, FileNotFoundError) as error:
                if getattr(error, "error_code", _GONE) != _GONE and "No such" not in str(error):
                    raise
                raise RegistryError(f"{said} has lost its files; restore them from a backup") from error
        model_files.verify(folder, dict(version.tags), said)
        return folder

    def _asked(self, ask: Callable[[], Any]) -> Version | None:
        """One version, without a look at the others: there may be thousands. None where there is none."""
        with mlflow_errors():
            try:
                entity = ask()
            except import_mlflow().exceptions.MlflowException as error:
                if error.error_code in (_GONE, "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _version(entity, {int(entity.version): tuple(sorted(entity.aliases))})

    def _by_uri(self, uri: str) -> Version:
        match = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/]+))", uri)
        if match is None:
            raise UsageError(
                f"{uri!r} names no registered version; write models:/NAME/NUMBER or models:/NAME@ALIAS"
            )
        name, number, alias = match.groups()
        return RegisteredModel(self.client, name).resolve(number or alias)

    def _of_run(self, run_id: str) -> list[Version]:
        """The versions that a run has made, under this name or else under any."""
        if not re.fullmatch(r"\w+", run_id):
            return []
        own = self.versions(run_id=run_id)
        if own:
            return own
        with mlflow_errors():
            names = {str(found.name) for found in self.client.search_model_versions(f"run_id = '{run_id}'")}
        return RegisteredModel(self.client, min(names)).versions(run_id=run_id) if names else []

    def _first(self, versions: Sequence[Version], said: str) -> Version:
        if not versions:
            known = [f"lr={v.tags.get('lr')} epochs={v.tags.get('epochs')}" for v in self.versions()]
            raise RegistryError(self._missing(said, said, known))
        return versions[0]

    def _missing(self, what: str, said: str, known: Iterable[str]) -> str:
        choices = list(dict.fromkeys(known))
        if not choices and not self.versions():
            with mlflow_errors():
                names = [model.name for model in self.client.search_registered_models(max_results=100)]
            near = difflib.get_close_matches(self.name, names, n=3)
            hint = (
                f"registered are {', '.join(near or names)}"
                if names
                else "train one first: mlflow-project train"
            )
            return f"no model is registered as {self.name}; {hint}"
        near = difflib.get_close_matches(said, choices, n=3) or choices[:5]
        hint = f"; did you mean {', '.join(near)}?" if near else "; `models list` shows what there is"
        return f"{self.name} has no {what}{hint}"

    @property
    def _option(self) -> str:
        return "" if self.name == DEFAULT_NAME else f" --name {self.name}"

    def _aliases(self) -> dict[int, tuple[str, ...]]:
        # Asked by its name, MLflow would read every version of it.
        found = self.client.search_registered_models(f"name = '{self.name}'")
        pairs: dict[str, Any] = found[0].aliases if found else {}
        by_number: dict[int, tuple[str, ...]] = {}
        for alias in sorted(pairs):
            by_number[int(pairs[alias])] = (*by_number.get(int(pairs[alias]), ()), alias)
        return by_number


def _version(entity: Any, aliases: Mapping[int, tuple[str, ...]]) -> Version:
    number = int(entity.version)
    return Version(
        name=entity.name,
        number=number,
        run_id=entity.run_id,
        created_ms=entity.creation_timestamp,
        tags=dict(entity.tags),
        aliases=aliases.get(number, ()),
        model_id=_model_id(entity),
    )


def _model_id(entity: Any) -> str | None:
    """A SQL store tells it by the source alone."""
    match = re.fullmatch(r"models:/(m-\w+)", entity.source or "")
    return entity.model_id or (match[1] if match else None)
