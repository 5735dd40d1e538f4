"""Resolve registered models from queries, verify them, and load them without pickle."""

import difflib
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import RegistryError, UsageError
from mlflow_project.common.names import CHAMPION, DEFAULT_NAME
from mlflow_project.registry.stored_runs import GONE, NO_ID, fetch_or_none
from mlflow_project.registry.versions import (
    OF_RUN,
    SEARCHABLE,
    Version,
    VersionFilter,
    parse_tags,
    stored_text,
)
from mlflow_project.tracking.delivery.client import connect as open_store
from mlflow_project.tracking.delivery.client import import_mlflow, mlflow_errors, pages

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.models.net import Net
    from hw2.outliers.detector import OutlierDetector

_PAGE = 1000
_DIGITS = 9  # of a version's number; a longer one can't be looked up in a store


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A verified version as its class, with the detector that was registered with it; None where it has none."""

    version: Version
    model: "Net"
    detector: "OutlierDetector | None"


class RegisteredModel:
    """One registered model of a store."""

    def __init__(self, client: "MlflowClient | None" = None, name: str = DEFAULT_NAME) -> None:
        self.client = client or open_store()
        self.name = name

    def versions(self, criteria: VersionFilter | None = None, run_id: str | None = None) -> list[Version]:
        """List the versions that fit, newest first; none where the model isn't registered yet.

        Args:
            criteria: Which versions; None for all.
            run_id: Of the run that made them; None for any.
        """
        criteria = criteria or VersionFilter()
        conditions = [f"name = '{self.name}'"]
        if run_id is not None:
            conditions.append(f"run_id = '{run_id}'")
        # Tags are stored as text that Python made of a number, so equal numbers are equal texts in the store.
        conditions += [
            f"tags.`{key}` = '{stored_text(key, value)}'"
            for key, value in criteria.tags.items()
            if key in SEARCHABLE
        ]
        with mlflow_errors():
            aliases = self._aliases()
        condition = " and ".join(conditions)
        entities = pages(
            lambda token: self.client.search_model_versions(condition, max_results=_PAGE, page_token=token)
        )
        versions = [_version(entity, aliases) for entity in entities]
        if any(key in OF_RUN for key in criteria.tags):
            versions = [self.with_run(version) for version in versions]
        return sorted(filter(criteria.match, versions), key=lambda version: -version.number)

    def with_run(self, version: Version) -> Version:
        """Add what the version doesn't repeat of its run, where that still has it."""
        if not version.run_id or all(key in version.tags for key in OF_RUN):
            return version
        run = fetch_or_none(lambda: self.client.get_run(version.run_id))
        if run is None:
            return version
        known = {**run.data.tags, **run.data.params}
        of_run = {key: known[name] for key, name in OF_RUN.items() if name in known}
        return replace(version, tags={**of_run, **version.tags})

    def resolve(self, query: str) -> Version:
        """Find the version that a query names.

        Args:
            query: An alias, a number, `lr=0.1 epochs=8`, a models:/ or a runs:/ URI. Of several versions that fit, the
                newest is meant; of those that fit a configuration, the newest on full data, if any is.

        Raises:
            RegistryError: There is none; the message has names near it.
        """
        query = query.strip()
        if query.startswith("models:/"):
            return self._by_uri(query)
        if query.startswith("runs:/"):
            return self._first(self._of_run(query.removeprefix("runs:/").split("/")[0]), query)
        if "=" in query:
            fitting = self.versions(VersionFilter(parse_tags(query)))
            # Stable: newest first also among those on full data.
            return self._first(sorted(fitting, key=lambda version: version.is_of_sample), query)
        version: Version | None
        if query.isdecimal():
            version = None
            if len(query) <= _DIGITS:
                version = self._get(lambda: self.client.get_model_version(self.name, str(int(query))))
            if version is None:
                numbers = [str(other.number) for other in self.versions()]
                raise RegistryError(self._missing(f"version {query}", query, numbers))
            return version
        version = self.version_with_alias(query)
        if version is None:
            with mlflow_errors():
                known = sorted(alias for names in self._aliases().values() for alias in names)
            if query == CHAMPION and self.versions():
                raise RegistryError(
                    f"{self.name} has no {CHAMPION} yet; choose the best validated version: "
                    f"mlflow-project models promote --best --alias {CHAMPION}{self._option}"
                )
            raise RegistryError(self._missing(f"alias {query!r}", query, known))
        return version

    def version_with_alias(self, alias: str) -> Version | None:
        """Return the version that has the alias; None where none has it."""
        version = self._get(lambda: self.client.get_model_version_by_alias(self.name, alias))
        # MLflow answers `latest` too, which nobody has set.
        return version if version is not None and alias in version.aliases else None

    def require(self) -> None:
        """Raise RegistryError, with the names that there are, where no model is registered as this."""
        if not self.versions():
            raise RegistryError(self._missing("version", self.name, ()))

    def resolve_all(
        self, queries: Sequence[str], on_repeated: Callable[[str], None] | None = None
    ) -> dict[str, Version]:
        """Resolve several queries, each version once.

        Args:
            on_repeated: Called with one line for a query that names a version a second time.

        Returns:
            The versions by a short name: the alias in the query, else another alias, else the number.
        """
        if not queries:
            raise UsageError("no model is named; give --models champion, or several: --models m1,m2,m3")
        versions: dict[str, Version] = {}
        for query in queries:
            version = self.resolve(query)
            same = next((short for short, known in versions.items() if known.uri == version.uri), None)
            if same is not None:
                if on_repeated is not None:
                    text = f"{query} names {version.name} version {version.number}, "
                    on_repeated(f"{text}which is among the others as {same}; it counts once")
                continue
            aliases = [query, *version.aliases] if query in version.aliases else version.aliases
            name = aliases[0] if aliases else f"v{version.number}"
            versions[name if name not in versions else f"{version.name}-v{version.number}"] = version
        return versions

    def load(self, version: Version) -> LoadedModel:
        """Load the version's class and detector, after its files' and weights' SHA-256 are verified."""
        from mlflow_project.packaging import model_files

        with tempfile.TemporaryDirectory() as scratch:
            folder = self._verified(version, Path(scratch))
            model, detector = model_files.read_model(folder, f"{version.name} version {version.number}")
        return LoadedModel(version, model, detector)

    def verify(self, version: Version) -> None:
        """Check the version's files and weights.

        Raises:
            RegistryError: They are not those that were registered, or are gone.
        """
        with tempfile.TemporaryDirectory() as scratch:
            self._verified(version, Path(scratch))

    def _verified(self, version: Version, scratch: Path) -> Path:
        mlflow = import_mlflow()
        from mlflow_project.packaging import model_files

        label = f"{version.name} version {version.number}"
        lost = RegistryError(f"{label} has lost its files; restore them from a backup")
        with mlflow_errors():
            try:
                folder = Path(mlflow.artifacts.download_artifacts(version.uri, dst_path=str(scratch)))
            except (mlflow.exceptions.MlflowException, FileNotFoundError) as error:
                if getattr(error, "error_code", GONE) != GONE and "No such" not in str(error):
                    raise
                raise lost from error
        # Some stores answer with an empty folder where nothing is left.
        if not any(path.is_file() for path in folder.rglob("*")):
            raise lost
        model_files.verify(folder, dict(version.tags), label)
        return folder

    def run_problem(self, version: Version) -> str:
        """Return what is wrong with the run that made a version, as in "run ID was deleted"; empty where nothing is."""
        if not version.run_id:
            return f"version {version.number} names no run"
        run = fetch_or_none(lambda: self.client.get_run(version.run_id))
        if run is None:
            return f"run {version.run_id} is gone"
        if run.info.lifecycle_stage != "active":
            return f"run {version.run_id} was deleted"
        status = run.data.tags.get("status", run.info.status)
        if run.info.status == "FINISHED" and status in ("completed", "FINISHED"):
            return ""
        return f"run {version.run_id} is not completed but {run.info.status}"

    def _get(self, fetch: Callable[[], Any]) -> Version | None:
        """Fetch one version without a look at the others: there may be thousands. None where there is none."""
        entity = fetch_or_none(fetch, (GONE, NO_ID))
        return entity and _version(entity, {int(entity.version): tuple(sorted(entity.aliases))})

    def _by_uri(self, uri: str) -> Version:
        match = re.fullmatch(r"models:/([^/@]+)(?:/(\d+)|@([^/]+))", uri)
        if match is None:
            raise UsageError(
                f"{uri!r} names no registered version; write models:/NAME/NUMBER or models:/NAME@ALIAS"
            )
        name, number, alias = match.groups()
        return RegisteredModel(self.client, name).resolve(number or alias)

    def _of_run(self, run_id: str) -> list[Version]:
        """List the versions that a run has made, under this name or else under any."""
        if not re.fullmatch(r"\w+", run_id):
            return []
        own = self.versions(run_id=run_id)
        if own:
            return own
        with mlflow_errors():
            names = {str(v.name) for v in self.client.search_model_versions(f"run_id = '{run_id}'")}
        return RegisteredModel(self.client, min(names)).versions(run_id=run_id) if names else []

    def _first(self, versions: Sequence[Version], query: str) -> Version:
        if not versions:
            known = [f"lr={v.tags.get('lr')} epochs={v.tags.get('epochs')}" for v in self.versions()]
            raise RegistryError(self._missing(query, query, known))
        return versions[0]

    def _missing(self, what: str, query: str, known: Iterable[str]) -> str:
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
        near = difflib.get_close_matches(query, choices, n=3) or choices[:5]
        hint = f"; did you mean {', '.join(near)}?" if near else "; `models list` shows what there is"
        return f"{self.name} has no {what}{hint}"

    @property
    def _option(self) -> str:
        return "" if self.name == DEFAULT_NAME else f" --name {self.name}"

    def _aliases(self) -> dict[int, tuple[str, ...]]:
        # By its name, MLflow would read every version of it.
        models = self.client.search_registered_models(f"name = '{self.name}'")
        pairs: dict[str, Any] = models[0].aliases if models else {}
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
    """Return the logged model's id, which a SQL store tells by the source alone."""
    match = re.fullmatch(r"models:/(m-\w+)", entity.source or "")
    return entity.model_id or (match[1] if match else None)
