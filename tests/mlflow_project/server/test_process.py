"""What `serve` refuses before anything is started, and what it would start."""

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_project.cli import main
from mlflow_project.cli.commands import serve as command
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.common.store_uri import STORE_VARIABLE
from mlflow_project.server import process
from mlflow_project.server import settings as server_settings
from mlflow_project.server.settings import ServerSettings, parse_hosts
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("no_schema_is_made")


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
    ("place", "message"),
    [("gs://bucket/runs", "s3://BUCKET/FOLDER"), ("s3://bucket/runs", "pip install '.[s3]'")],
)
def test_artifacts_at_an_address_that_cannot_be_used_are_wrong_usage(
    place: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_settings, "find_spec", lambda name: None)
    assert main.run(["serve", "--port", str(free_port()), "--artifacts", place]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_password_file_without_users_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--admin-password-file", "x"]) == 2
    assert "add it" in capsys.readouterr().err


def test_its_help_has_an_example() -> None:
    text = CliRunner().invoke(command.serve, ["--help"]).output
    assert "mlflow-project serve --store postgresql://" in text
