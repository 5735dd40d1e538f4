"""What a person reads when something answers that is no MLflow, or lets nobody in."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_project.common.errors import StoreError
from mlflow_project.common.store_uri import is_missing_sqlite, tracking_uri
from mlflow_project.tracking import start_run
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.delivery.client import connect, mlflow_errors
from mlflow_project.tracking.journal.entities import Metric, RunEnded
from mlflow_project.tracking.journal.writer import Journal

PAGE = "<!doctype html><title>Log in</title>"
NO_MLFLOW = {
    "a server under another prefix": lambda path: (404, "text/html", PAGE),
    "another application": lambda path: (404, "application/json", '{"detail": "Not Found"}'),
    "a login page": lambda path: (200, "text/html", PAGE),
    "a redirect": lambda path: (
        (200, "text/html", PAGE) if path == "/login" else (302, "text/plain", "/login")
    ),
}


@pytest.mark.parametrize("kind", NO_MLFLOW)
def test_what_answers_but_is_no_mlflow_is_said_in_one_line(kind: str, answering: Callable[..., str]) -> None:
    uri = answering(NO_MLFLOW[kind])
    journal = Journal.create(uri, "experiment", "n")
    journal.append(Metric("m", 1.0), RunEnded())
    journal.close()
    problem = str(deliver(journal.folder).problem)
    assert problem.startswith(f"something answers at {uri}, but no MLflow (")
    assert problem.endswith("; check the address and its path prefix")
    assert ("status 404" in problem) == (kind == "a server under another prefix")
    assert "html" not in problem


def test_an_unknown_user_is_told_to_check_the_password(denying: str) -> None:
    with (
        pytest.raises(StoreError, match="access denied; check MLFLOW_TRACKING_USERNAME"),
        mlflow_errors(denying),
    ):
        connect(denying).search_experiments()


@pytest.mark.parametrize(
    ("path", "permission"),
    [
        ("runs/create", "EDIT on the experiment"),
        ("runs/get", "READ on the experiment"),
        ("experiments/delete", "MANAGE on the experiment"),
        ("registered-models/alias", "EDIT on the registered model"),
    ],
)
def test_a_user_without_permission_reads_which_one_is_lacking(
    path: str, permission: str, answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret word")
    uri = answering(lambda path: (403, "text/plain", "Permission denied"))
    endpoint = f"/api/2.0/mlflow/{path}"
    with pytest.raises(StoreError) as caught, mlflow_errors(uri):
        verify_rest_response(http_request(get_default_host_creds(uri), endpoint, "POST"), endpoint)  # type: ignore[no-untyped-call]
    assert str(caught.value) == (
        f"{uri}: reader lacks the permission {permission}; its owner or the server's administrator grants it"
    )


@pytest.mark.parametrize("name", ["a%41b", "a?b", "a#b", "50% of it"])
def test_a_folder_with_an_odd_name_is_the_one_that_is_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd" / name
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    table = tmp_path / "table.csv"
    table.write_text("a\n", encoding="utf-8")
    with start_run("n", "experiment") as run:
        run.log_artifact(table)
    assert run.delivery is not None
    assert run.delivery.complete
    assert (folder / "mlflow.db").stat().st_size > 0
    (stored,) = folder.glob("mlruns/**/table.csv")
    assert os.listdir(folder.parent) == [name]
    # Read by the same address from another folder.
    monkeypatch.chdir(tmp_path)
    client = connect(run.journal.header.tracking_uri)
    assert [artifact.path for artifact in client.list_artifacts(run.name)] == ["table.csv"]
    assert Path(client.download_artifacts(run.name, "table.csv")).read_text(encoding="utf-8") == "a\n"
    assert stored.read_text(encoding="utf-8") == "a\n"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("folder.db", "it is no file"),
        ("text.db", "file is not a database"),
        ("gone/mlflow.db", "there is not a folder"),
    ],
)
def test_a_sqlite_file_that_cannot_be_opened_is_said_without_asking_mlflow(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "text.db").write_text("no database at all\n" * 100, encoding="utf-8")
    # That one tries again for minutes.
    monkeypatch.setattr(
        "mlflow.store.db.utils.create_sqlalchemy_engine_with_retry", lambda *_: pytest.fail("MLflow opens it")
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{name}")
    with pytest.raises(StoreError, match=rf"the store {tmp_path}/{name} can't be opened.*{reason}"):
        connect(tracking_uri(), create=True)
    assert not (tmp_path / "gone").exists()


def test_a_folder_that_may_not_be_read_is_no_absence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", stat)
        missing = is_missing_sqlite(f"sqlite:///{tmp_path}/mlflow.db")
    assert not missing
