"""A team's service on PostgreSQL, backed up while it is written to and put back into another database."""

import shutil
import threading
from pathlib import Path

import pytest

from mlflow_project.common.errors import BackupError
from mlflow_project.server import backup as backups
from mlflow_project.tracking.delivery.client import open_client
from tests.mlflow_project.server.test_backup import assert_whole, write_run
from tests.service.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.database


def test_a_backup_of_postgresql_made_while_runs_write_is_put_back_whole(
    postgres: Postgres, tmp_path: Path
) -> None:
    store, other = postgres.create("written"), postgres.create("restored")
    files = tmp_path / "made"
    files.mkdir()
    write_run(store, files, 0)
    stop, failures = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            for number in range(1, 200):
                if stop.is_set():
                    return
                write_run(store, files, number)
        except BaseException as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [backups.backup(store, [tmp_path / "mlruns"], tmp_path / f"backup{i}") for i in range(2)]
    finally:
        stop.set()
        writer.join()
    assert not failures
    assert [manifest.missing for manifest in made] == [[], []]
    assert PASSWORD not in (tmp_path / "backup1" / backups.MANIFEST).read_text(encoding="utf-8")
    with pytest.raises(BackupError, match="overwrites nothing") as refused:
        backups.restore(tmp_path / "backup1", store, tmp_path / "new" / "mlruns")
    assert PASSWORD not in str(refused.value)
    backups.restore(tmp_path / "backup1", other, tmp_path / "new" / "mlruns")
    shutil.rmtree(tmp_path / "mlruns")  # nothing may still point there
    assert assert_whole(open_client(other), tmp_path / "new") == made[1].runs
    write_run(other, files, 300)


def test_a_wrong_password_is_one_line_that_does_not_show_it(postgres: Postgres, tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    with pytest.raises(BackupError, match="password authentication failed") as refused:
        backups.backup(postgres.url("postgres", "guessed"), [tmp_path / "mlruns"], tmp_path / "backup")
    assert "guessed" not in str(refused.value)
    assert "\n" not in str(refused.value)
