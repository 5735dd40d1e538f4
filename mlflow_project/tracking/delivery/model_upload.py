"""A saved model becomes a logged model of its run and one registered version, each step remembered.

Whatever fails, the steps before it aren't repeated: even a network that fails every second request lets a model
through.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from mlflow_project.common.errors import DeliveryError
from mlflow_project.tracking.delivery.session import DeliverySession, parent_folder
from mlflow_project.tracking.journal.entities import ModelArtifact
from mlflow_project.tracking.journal.spool import file_sha256, tree_sha256


def send_model(session: DeliverySession, model: ModelArtifact) -> None:
    """Upload files, logged model and version.

    Raises:
        DeliveryError: The spooled files aren't what was journaled.
    """
    once, remote, run_id = session.once, session.remote, session.open_run()
    experiment_id = session.experiment_id
    if model.directory.is_dir():
        if tree_sha256(model.directory) != model.directory.name:
            raise DeliveryError("the spooled folder isn't what was journaled any more")
        model_id = once("model", lambda: remote.model(experiment_id, run_id, model))
        once("output", lambda: remote.link_to_run(run_id, model_id, model.step))
        location = once("location", lambda: session.client.get_logged_model(model_id).artifact_location)
        _send_files(session, model_id, model.directory, location)
        once("ready", lambda: session.client.finalize_logged_model(model_id, "READY"))
    else:
        # Uploaded before the cursor was lost: the spooled files are gone.
        model_id = once("model", lambda: _delivered_model(session, model))
    session.cursor.models[model.name] = model_id
    if model.registered_name:
        name = model.registered_name
        once("name", lambda: remote.ensure_registered(name, model.registered_description))
        number = once("version", lambda: remote.version(run_id, model_id, model))
        if model.description:
            card = model.description
            once("description", lambda: remote.describe_version(name, number, card))
        once("tags", lambda: remote.tag_version(name, number, model.version_tags))
        once("aliases", lambda: remote.set_aliases(name, number, model.aliases))
        once("link", lambda: remote.link_to_version(model_id, name, number))
        session.cursor.versions[model.name] = f"{name}/{number}"


def model_card(path: Path, model_id: str, run_id: str, location: str) -> str:
    """Return the `MLmodel` of a saved model with what only the logged model knows; always the same text."""
    import yaml  # type: ignore[import-untyped]

    content = yaml.safe_load(path.read_text())
    # The keys are those that `packaging` leaves out of the card's SHA-256.
    content |= {"model_id": model_id, "model_uuid": model_id, "run_id": run_id, "artifact_path": location}
    text: str = yaml.safe_dump(content, default_flow_style=False, sort_keys=True, allow_unicode=True)
    return text


def _send_files(session: DeliverySession, model_id: str, folder: Path, location: str) -> None:
    for file, path in _files(folder):
        _send_file(session, model_id, file, path)
    with tempfile.TemporaryDirectory(prefix=".model-", dir=session.folder) as name:
        # Last, because a model can be loaded from the moment at which it has this file.
        card = Path(name) / "MLmodel"
        card.write_text(model_card(folder / "MLmodel", model_id, session.open_run(), location))
        _send_file(session, model_id, card, "MLmodel")


def _send_file(session: DeliverySession, model_id: str, file: Path, path: str) -> None:
    def send() -> None:
        session.client.log_model_artifact(model_id, str(file), parent_folder(path))

    session.upload(f"models:/{model_id}/{path}", file_sha256(file), send)


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
