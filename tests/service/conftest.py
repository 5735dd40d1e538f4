"""One server for one person and one for a team, shared by all tests: each takes many seconds to start."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service import postgres as servers
from tests.service.postgres import Postgres
from tests.service.serving import Serving, start

ADMIN_PASSWORD = "the administrator's %40 word"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server, or a skip where Debian's package isn't installed."""
    if servers.programs() is None:
        pytest.skip(servers.MISSING)
    with servers.running() as running:
        yield running


@pytest.fixture(scope="session")
def serving(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`serve` with its defaults, on a store that is migrated already."""
    folder = tmp_path_factory.mktemp("serving")
    shutil.copyfile(migrated_store, folder / "mlflow.db")
    serving = start(folder, "--access-log")
    try:
        serving.wait_until_ready()
        yield serving
    finally:
        serving.end()


@pytest.fixture(scope="session")
def team(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """`serve --auth` on PostgreSQL, on a fresh database; its address with the password among the arguments."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "password").write_text(f"{ADMIN_PASSWORD}\n", encoding="utf-8")
    postgres.create("team")
    store = postgres.url("team", scheme="postgresql")
    arguments = [
        "--store",
        store,
        "--auth",
        "--admin-password-file",
        "password",
        "--workers",
        "1",
        "--access-log",
    ]
    serving = start(folder, *arguments)
    try:
        serving.wait_until_ready()
        yield serving
    finally:
        serving.end()
