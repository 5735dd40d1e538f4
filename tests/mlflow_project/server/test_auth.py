"""The administrator of a server with users: where the password comes from, and that nobody sees it."""

import shutil
import sqlite3
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import util
from pathlib import Path

import pytest

from mlflow_project.cli import main
from mlflow_project.common.errors import UsageError
from mlflow_project.server import auth
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("no_schema_is_made")


@pytest.mark.skipif(util.find_spec("flask_wtf") is None, reason="the extra auth isn't installed")
class TestAdministrator:
    """Where the password of the first start comes from."""

    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        monkeypatch.delenv(auth.PASSWORD_VARIABLE, raising=False)
        folder = tmp_path / "private"
        folder.mkdir()
        yield folder
        shutil.rmtree(folder)

    def test_from_a_file_before_the_environment(
        self, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (folder / "word").write_text("of the file, long\n", encoding="utf-8")
        monkeypatch.setenv(auth.PASSWORD_VARIABLE, "of the environment")
        prepared = auth.prepare(store, folder / "word", folder)
        assert prepared.environment[auth.PASSWORD_VARIABLE] == "of the file, long"
        assert prepared.generated is None
        assert "long" not in repr(prepared)

    def test_made_where_none_is_given_and_a_terminal_is_there(
        self, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        prepared = auth.prepare(store, None, folder)
        assert prepared.generated is not None
        assert len(prepared.generated) >= auth.MIN_LENGTH
        assert prepared.environment[auth.PASSWORD_VARIABLE] == prepared.generated

    def test_never_shown_in_a_log(self, store: str, folder: Path) -> None:
        with pytest.raises(UsageError, match="must not get into a log"):
            auth.prepare(store, None, folder)

    def test_a_short_one_is_refused_unprinted(
        self, store: str, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(auth.PASSWORD_VARIABLE, "zu kurz")
        with pytest.raises(UsageError, match="has 7 characters") as caught:
            auth.prepare(store, None, folder)
        assert "zu kurz" not in str(caught.value)

    def test_not_asked_for_again(self, store: str, folder: Path) -> None:
        self.administer(store, "of the first start")
        prepared = auth.prepare(store, None, folder)
        assert auth.PASSWORD_VARIABLE not in prepared.environment
        assert prepared.mismatched_source is None

    @pytest.mark.parametrize(
        ("later", "unlike"), [("of the first start", False), ("a changed password", True)]
    )
    def test_another_one_at_a_later_start_is_not_ignored_in_silence(
        self, later: str, unlike: bool, store: str, folder: Path
    ) -> None:
        self.administer(store, "of the first start")
        (folder / "word").write_text(f"{later}\n", encoding="utf-8")
        prepared = auth.prepare(store, folder / "word", folder)
        assert prepared.mismatched_source == (str(folder / "word") if unlike else None)

    def administer(self, store: str, password: str) -> None:
        """As MLflow's first start leaves the store."""
        from werkzeug.security import generate_password_hash

        connection = sqlite3.connect(store.removeprefix("sqlite:///"))
        with connection:
            connection.execute("CREATE TABLE users (username TEXT, password_hash TEXT)")
            connection.execute("INSERT INTO users VALUES ('admin', ?)", (generate_password_hash(password),))
        connection.close()

    @pytest.mark.parametrize("what", ["a short password", "an unreadable file", "no terminal", "no extra"])
    def test_a_refused_one_leaves_no_fresh_store_behind(
        self, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(auth.PASSWORD_VARIABLE, raising=False)
        (tmp_path / "new").mkdir()
        monkeypatch.chdir(tmp_path / "new")
        more = []
        if what == "a short password":
            monkeypatch.setenv(auth.PASSWORD_VARIABLE, "zu kurz")
        elif what == "an unreadable file":
            more = ["--admin-password-file", "gone"]
        elif what == "no extra":
            monkeypatch.setattr(auth, "find_spec", lambda name: None)
        assert main.run(["serve", "--auth", "--port", str(free_port()), *more]) == 2
        assert list(Path.cwd().iterdir()) == []

    def test_the_configuration_is_private_and_read_as_meant(
        self, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(auth, "_stored_hash", lambda store: "of a password")
        uri = "postgresql+psycopg://u:a%2Fb@h/d"
        prepared = auth.prepare(uri, None, folder)
        file = Path(prepared.environment["MLFLOW_AUTH_CONFIG_PATH"])
        assert file.stat().st_mode & 0o777 == 0o600
        read = ConfigParser()  # as MLflow reads it
        read.read(file, encoding="utf-8")
        assert read["mlflow"]["database_uri"] == uri
        assert read["mlflow"]["default_permission"] == "READ"
        assert read.getint("mlflow", "auth_cache_ttl_seconds") == auth.CACHE_SECONDS
