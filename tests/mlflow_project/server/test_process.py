"""What `serve` refuses before anything is started, and what it would start."""

import errno
import io
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterator
from configparser import ConfigParser
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_project.cli import main
from mlflow_project.cli.commands import serve as command
from mlflow_project.cli.shared.argv_secrets import reexec_without_password
from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import STORE_VARIABLE, redact, secrets, with_driver
from mlflow_project.server import auth, process
from mlflow_project.server import settings as server_settings
from mlflow_project.server import store as server_store
from mlflow_project.server.settings import ServerSettings, parse_hosts
from tests.support.ports import free_port

SECRETS = [
    ("postgresql://u:secret@h/d", "secret"),
    ("postgresql+psycopg://u:a%2Fb%40c@h:5432/d", "a/b@c"),
    ("postgresql://u:se@cret@h/d", "se@cret"),
    ("postgresql://h/d?user=u&password=secret&connect_timeout=1", "secret"),
]
# Programs that read them take different parts for the password.
UNENCODED = [
    "se/cret",
    "se?cret",
    "se#cret",
    "se[cret",
    "se]cret",
    "se@cret",
    "se@cr/et",
    "se@c?ret",
    "s@e@cret",
]


@pytest.fixture(autouse=True)
def nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_store, "_create_schema", lambda uri: pytest.fail(f"{uri} is made"))


@pytest.mark.parametrize(
    "arguments", [["--host", "0.0.0.0", "--allowed-hosts", "x"], ["--host", "10.0.0.1"], ["--host", "::"]]
)
def test_it_does_not_listen_beyond_loopback_without_users(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["serve", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "without --auth" in line
    assert "--insecure" in line
    assert not Path("mlflow.db-wal").exists()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_users(host: str) -> None:
    assert ServerSettings(store="sqlite:///x.db", host=host).is_local


def test_all_interfaces_need_a_name_by_which_to_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--host", "0.0.0.0", "--insecure"]) == 2
    assert "--allowed-hosts NAME" in capsys.readouterr().err


def test_names_are_allowed_with_and_without_the_port_and_loopback_stays() -> None:
    settings = ServerSettings(
        store="sqlite:///x.db", host="0.0.0.0", port=5001, allowed_hosts=parse_hosts(["a, b:80", "c"])
    )
    assert settings.hosts() == (
        "a,a:5001,b:80,c,c:5001,localhost,localhost:5001,127.0.0.1,127.0.0.1:5001,[::1],[::1]:5001"
    )
    assert settings.url == "http://a:5001"
    anywhere = ServerSettings(
        store="sqlite:///x.db", host="::", allowed_hosts=parse_hosts(["*.example", "2001:db8::1,c"])
    )
    assert str(anywhere.hosts()).startswith("*.example,*.example:5000,[2001:db8::1],[2001:db8::1]:5000,c,")
    assert anywhere.url == "http://[2001:db8::1]:5000"
    assert "*" not in ServerSettings(store="sqlite:///x.db", host="::", allowed_hosts=("*.example",)).url
    assert ServerSettings(store="sqlite:///x.db").hosts() is None
    assert ServerSettings(store="sqlite:///x.db", host="2001:db8::1").url == "http://[2001:db8::1]:5000"


@pytest.mark.parametrize(
    ("there", "taken"),
    [([], "mlartifacts"), (["mlruns"], "mlruns"), (["mlruns", "mlartifacts"], "mlartifacts")],
)
def test_a_service_goes_on_in_the_folder_of_what_was_trained_without_it(
    there: list[str], taken: str, tmp_path: Path
) -> None:
    for name in there:
        (tmp_path / name).mkdir()
    assert ServerSettings(store=f"sqlite:///{tmp_path}/x.db").artifact_place == str(tmp_path / taken)


@pytest.mark.parametrize(
    ("address", "served"),
    [
        ("sqlite:///other.db", "sqlite:///other.db"),
        ("http://127.0.0.1:5000", "sqlite:///mlflow.db"),
        ("", "sqlite:///mlflow.db"),
    ],
)
def test_it_serves_the_store_to_which_runs_go(
    address: str, served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    taken: list[ServerSettings] = []

    class Taken(Exception):
        pass

    def start(settings: ServerSettings, say: Any) -> None:
        taken.append(settings)
        raise Taken

    monkeypatch.setattr(process, "Server", start)
    with pytest.raises(Taken):
        CliRunner().invoke(command.serve, [], obj=GracefulShutdown(), catch_exceptions=False)
    assert taken[0].store == served


def test_its_first_line_says_where_absolutely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command._announce(process.Server(ServerSettings(store="sqlite:///mlflow.db"), print))
    assert f"ready; store sqlite:///{tmp_path}/mlflow.db, artifacts {tmp_path}/" in capsys.readouterr().err


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main.run(["serve", "--port", str(port)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {port} of 127.0.0.1 is in use" in line


def test_a_full_folder_for_temporary_files_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(prefix: str) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/mlflow-project-x")

    monkeypatch.setattr("tempfile.mkdtemp", lambda suffix=None, prefix=None, dir=None: full(prefix))
    assert main.run(["serve", "--port", str(free_port())]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "/full/mlflow-project-x: No space left" in line
    assert "TMPDIR" in line


@pytest.mark.parametrize(
    ("place", "said"),
    [("gs://bucket/runs", "s3://BUCKET/FOLDER"), ("s3://bucket/runs", "pip install '.[s3]'")],
)
def test_artifacts_at_an_address_that_cannot_be_used_are_wrong_usage(
    place: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_settings, "find_spec", lambda name: None)
    assert main.run(["serve", "--port", str(free_port()), "--artifacts", place]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


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

        known, latest = server_store._alembic_revisions()
        assert latest == _get_latest_schema_revision()
        assert latest in known


class TestPasswords:
    """They are hidden wherever an address is shown, and stay out of arguments."""

    @pytest.mark.parametrize(("uri", "secret"), SECRETS)
    def test_an_address_is_shown_without_its_password(self, uri: str, secret: str) -> None:
        for part in secret.replace("/", "@").split("@"):
            assert f"{part}@" not in redact(uri)
            assert f"={part}" not in redact(uri)
        assert "***" in redact(uri)
        assert redact("sqlite:///a.db") == "sqlite:///a.db"

    @pytest.mark.parametrize(("uri", "secret"), SECRETS)
    def test_its_password_is_known_as_what_must_not_be_printed(self, uri: str, secret: str) -> None:
        assert secret in secrets(uri)

    def test_nothing_secret_is_in_the_command_line_of_the_server(self) -> None:
        settings = ServerSettings(store="postgresql://u:secret@h/d", auth=True)
        assert "secret" not in " ".join(process._command(settings, "/artifacts"))
        assert process._environment(settings, with_driver(settings.store))[STORE_VARIABLE] == (
            "postgresql+psycopg://u:secret@h/d"
        )
        assert "secret" not in repr(settings)

    @pytest.mark.parametrize("secret", UNENCODED)
    @pytest.mark.parametrize(
        "arguments", [["serve"], ["backup", "copy"], ["restore", "copy", "--artifacts", "x"]]
    )
    def test_one_that_is_not_percent_encoded_is_hidden_and_refused_unprinted(
        self,
        secret: str,
        arguments: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        uri = f"postgresql://u:{secret}@h/d"
        assert secret in secrets(uri)
        monkeypatch.setenv(STORE_VARIABLE, uri)
        assert main.run(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "@ as %40" in line
        assert "//u:***@h/d" in line
        assert "cr" not in line.partition("characters")[0]

    @pytest.mark.parametrize(
        "uri", [*(uri for uri, _ in SECRETS if "se@" not in uri), "postgresql://u:p@[::1]:5432/d?options=a@b"]
    )
    def test_one_that_is_written_as_it_should_be_passes(self, uri: str) -> None:
        reexec_without_password(uri)

    @pytest.mark.parametrize("uri", ["postgresql://u:p@h:port/d", "postgresql://[h/d", "postgresql://u@[/d"])
    def test_an_address_that_is_none_is_one_line(self, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main.run(["serve", "--port", str(free_port()), "--store", uri]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1

    @pytest.mark.parametrize("given", [["--store", "URL"], ["--store=URL"]])
    def test_a_password_among_the_arguments_goes_into_the_environment(
        self, given: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = "postgresql://u:secret@h/d"
        arguments = [each.replace("URL", uri) for each in given]
        started: list[Any] = []
        monkeypatch.setattr("sys.argv", ["mlflow-project", "serve", *arguments, "--auth"])
        monkeypatch.setattr("os.execve", lambda *what: started.append(what))
        reexec_without_password(uri)
        ((_, arguments, environment),) = started
        assert arguments[1:] == ["-m", "mlflow_project", "serve", "--auth"]
        assert environment[STORE_VARIABLE] == uri

    def test_what_the_server_prints_is_cleared_of_secrets(self) -> None:
        said: list[str] = []
        watching = process.Server(ServerSettings(store="sqlite:///x.db"), said.append)
        watching._secrets = ("secret",)
        watching._pass_on(io.BytesIO(b"no: secret!\n"))
        assert said == ["no: ***!"]


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


def test_a_password_file_without_users_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--admin-password-file", "x"]) == 2
    assert "add it" in capsys.readouterr().err


def test_its_help_has_an_example() -> None:
    said = CliRunner().invoke(command.serve, ["--help"]).output
    assert "mlflow-project serve --store postgresql://" in said
