"""Which stores `serve` takes, and what it refuses before anything is started."""

import socket
import sqlite3
import time
from pathlib import Path

import pytest

from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.server import store as server_store
from mlflow_project.tracking.delivery import store_check
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("no_schema_is_made")


class TestStores:
    """Which are served, and that the others are left as they were."""

    def test_a_store_of_ours_is_put_into_wal_mode(self, store: str) -> None:
        path = Path(store.removeprefix("sqlite:///"))
        assert server_store.prepare(store) == store
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()

    @pytest.mark.parametrize(
        ("version", "reason"), [("9fffffffffff", "newer MLflow"), ("df50e92ffc5e", "older MLflow")]
    )
    def test_a_store_of_another_version_is_refused_untouched(
        self, store: str, version: str, reason: str
    ) -> None:
        path = Path(store.removeprefix("sqlite:///"))
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.close()
        before = path.read_bytes()
        with pytest.raises(StoreError, match=reason):
            server_store.prepare(store)
        assert path.read_bytes() == before

    def test_a_database_of_another_program_is_refused(self, tmp_path: Path) -> None:
        connection = sqlite3.connect(tmp_path / "other.db")
        connection.execute("CREATE TABLE accounts (id)")
        connection.close()
        with pytest.raises(StoreError, match="aren't MLflow's"):
            server_store.prepare(f"sqlite:///{tmp_path}/other.db")

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "notes.db").write_text("no database at all" * 100, encoding="utf-8")
        with pytest.raises(StoreError, match="not a SQLite database"):
            server_store.prepare(f"sqlite:///{tmp_path}/notes.db")

    @pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "mysql://x/y", "mlruns", "sqlite:///:memory:"])
    def test_what_is_no_store_behind_a_server_is_wrong_usage(self, uri: str) -> None:
        with pytest.raises(UsageError, match="--store is"):
            server_store.prepare(uri)

    def test_a_missing_folder_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="there is not a folder"):
            server_store.prepare(f"sqlite:///{tmp_path}/gone/mlflow.db")
        assert not (tmp_path / "gone").exists()

    def test_a_database_that_does_not_run_is_said_at_once(self) -> None:
        with pytest.raises(StoreError, match="is unreachable"):
            server_store.prepare(f"postgresql://u:secret@127.0.0.1:{free_port()}/mlflow")

    def test_a_database_that_never_answers_is_given_up_within_seconds(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            began = time.monotonic()
            with pytest.raises(StoreError, match="didn't answer within") as caught:
                server_store.prepare(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/mlflow")
        assert time.monotonic() - began < 4 * server_store.CONNECT_SECONDS
        assert "secret" not in str(caught.value)

    def test_the_versions_of_tables_are_those_that_mlflow_says(self) -> None:
        from mlflow.store.db.utils import _get_latest_schema_revision

        known, latest = store_check.alembic_revisions()
        assert latest == _get_latest_schema_revision()
        assert latest in known
