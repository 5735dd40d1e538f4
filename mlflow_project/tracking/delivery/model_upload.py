"""A saved model becomes a logged model of its run and one registered version, each step remembered.

Where the server has no logged models (MLflow 2, some hosted ones), its files are artifacts of the run, and the version
is registered from there.

Whatever fails, the steps before it aren't repeated: even a network that fails half of the requests lets a model
through.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from mlflow_project.common.errors import DeliveryError, RunBusyError
from mlflow_project.tracking.delivery.client import artifact_exists
from mlflow_project.tracking.delivery.session import DeliverySession, parent_folder
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import ModelArtifact
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.spool import file_sha256, tree_sha256


def send_model(session: DeliverySession, model: ModelArtifact) -> None:
    """Upload files, logged model and version.

    Raises:
        DeliveryError: The spooled files aren't what was journaled.
    """
    if model.directory.is_dir() and tree_sha256(model.directory) != model.directory.name:
        raise DeliveryError("the spooled folder isn't what was journaled any more")
    run_id, experiment_id = session.open_run(), session.experiment_id
    # Decided once: half of a model in each place would be none.
    place = session.once(
        "place",
        lambda: "logged model" if session.remote.keeps_logged_models(experiment_id) else "artifacts",
    )
    if place == "artifacts":
        note = f"the server keeps no logged models: the files of {model.name!r} are among the run's artifacts"
        if note not in session.cursor.notes:
            session.cursor.notes.append(note)
        number = _send_as_artifacts(session, run_id, model)
    else:
        number = _send_as_logged_model(session, run_id, model)
    if number is not None:
        session.cursor.versions[model.name] = f"{model.registered_name}/{number}"


def register_uploaded_model(folder: Path, change: Callable[[ModelArtifact], ModelArtifact]) -> str:
    """Register the model of a run that was uploaded without a version; return its number. Twice is harmless.

    Args:
        folder: Of the run, which has ended.
        change: Returns the model with the name, and what else the version gets.

    Raises:
        RunBusyError: Another process is uploading it.
        DeliveryError: The run has no model in MLflow.
    """
    lock = FileLock(folder / format.SENDING_LOCK)
    if not lock.acquire_patiently():
        raise RunBusyError(f"another process is uploading the run in {folder}; try again later")
    try:
        session = DeliverySession(folder)
        values = (item.value for item in format.read_entries(folder) if isinstance(item, format.Entry))
        models = [value for value in values if isinstance(value, ModelArtifact)]
        if not models:
            raise DeliveryError(f"the run in {folder} has no model; train it again")
        model = change(models[-1])
        session.cursor.parts = {}
        send_model(session, model)
        session.cursor.parts = {}
        session.save()
        return session.cursor.versions[model.name].rpartition("/")[2]
    finally:
        lock.release()


def _send_as_logged_model(session: DeliverySession, run_id: str, model: ModelArtifact) -> str | None:
    once, remote, experiment_id = session.once, session.remote, session.experiment_id
    if model.directory.is_dir():
        model_id = once("model", lambda: remote.model(experiment_id, run_id, model))
        once("output", lambda: remote.link_to_run(run_id, model_id, model.step))
        location = once("location", lambda: session.client.get_logged_model(model_id).artifact_location)
        keys = {"model_id": model_id, "model_uuid": model_id, "run_id": run_id, "artifact_path": location}

        def send(file: Path, path: str) -> None:
            session.upload(
                f"models:/{model_id}/{path}",
                file_sha256(file),
                lambda: session.client.log_model_artifact(model_id, str(file), parent_folder(path)),
            )

        _send_files(session, model.directory, keys, send)
        once("ready", lambda: session.client.finalize_logged_model(model_id, "READY"))
    else:
        # Uploaded before the cursor was lost: the spooled files are gone.
        model_id = once("model", lambda: _delivered_model(session, model))
    session.cursor.models[model.name] = model_id
    number = _register(session, run_id, model, f"models:/{model_id}", model_id)
    if number is not None:
        name = str(model.registered_name)
        once("link", lambda: remote.link_to_version(model_id, name, number))
    return number


def _send_as_artifacts(session: DeliverySession, run_id: str, model: ModelArtifact) -> str | None:
    location = session.once(
        "source", lambda: f"{session.client.get_run(run_id).info.artifact_uri}/{model.name}"
    )
    if not model.directory.is_dir():
        if not artifact_exists(session.client, location, "MLmodel"):
            raise DeliveryError("the spooled folder is gone")
        return _register(session, run_id, model, location)

    def send(file: Path, path: str) -> None:
        place = f"{model.name}/{path}"
        session.upload(
            place,
            file_sha256(file),
            lambda: session.client.log_artifact(run_id, str(file), parent_folder(place)),
        )

    _send_files(session, model.directory, {"run_id": run_id, "artifact_path": model.name}, send)
    return _register(session, run_id, model, location)


def _register(
    session: DeliverySession, run_id: str, model: ModelArtifact, source: str, model_id: str | None = None
) -> str | None:
    """Make the version and all that belongs to it; return its number, or None where none is wanted."""
    name, once, remote = model.registered_name, session.once, session.remote
    if not name:
        return None
    once("name", lambda: remote.ensure_registered(name, model.registered_description))
    number = once("version", lambda: remote.version(run_id, model, source, model_id))
    if model.description:
        card = model.description
        once("description", lambda: remote.describe_version(name, number, card))
    once("tags", lambda: remote.tag_version(name, number, model.version_tags))
    for alias in model.aliases:
        once(f"alias {alias}", partial(_set_alias, session, name, number, alias))
    return number


def _set_alias(session: DeliverySession, name: str, number: str, alias: str) -> None:
    """Set an alias, unless a newer version has it: a late upload takes none back."""
    remote = session.remote
    before = remote.alias_holder(name, alias)
    if before < int(number):
        created = session.once("created", lambda: remote.creation_time(name, number))
        # Recorded anew where another has moved the alias since.
        session.once(
            f"alias {alias} from {before}",
            lambda: remote.record_alias(name, alias, before, number, created),
        )
        session.client.set_registered_model_alias(name, alias, number)


def model_card(path: Path, keys: Mapping[str, str]) -> str:
    """Return the `MLmodel` of a saved model with `keys`, which only its delivery knows; always the same text."""
    import yaml  # type: ignore[import-untyped]

    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # The keys are among those that `packaging` leaves out of the card's SHA-256.
    text: str = yaml.safe_dump(content | keys, default_flow_style=False, sort_keys=True, allow_unicode=True)
    return text


def _send_files(
    session: DeliverySession, folder: Path, keys: Mapping[str, str], send: Callable[[Path, str], None]
) -> None:
    for file, path in _files(folder):
        send(file, path)
    with tempfile.TemporaryDirectory(prefix=".model-", dir=session.folder) as name:
        # Last, because a model can be loaded from the moment at which it has this file.
        card = Path(name) / "MLmodel"
        card.write_text(model_card(folder / "MLmodel", keys), encoding="utf-8")
        send(card, "MLmodel")


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted(folder.rglob("*")):
        path = file.relative_to(folder).as_posix()
        if file.is_file() and path != "MLmodel" and "__pycache__" not in path.split("/"):
            yield file, path


def _delivered_model(session: DeliverySession, model: ModelArtifact) -> str:
    models = session.remote.find_models(session.experiment_id, model.name)
    if not models or str(models[0].status) != "READY":
        raise DeliveryError("the spooled folder is gone")
    return str(models[0].model_id)
