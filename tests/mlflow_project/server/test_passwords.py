"""Passwords in a store's address are known, hidden, and refused where they aren't percent-encoded."""

import io
from typing import Any

import pytest

from mlflow_project.cli import main
from mlflow_project.cli.shared.argv_secrets import reexec_without_password
from mlflow_project.common.store_uri import STORE_VARIABLE, redact, secrets, with_driver
from mlflow_project.server import process
from mlflow_project.server.settings import ServerSettings
from tests.support.ports import free_port

pytestmark = pytest.mark.usefixtures("no_schema_is_made")

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

    @pytest.mark.parametrize("arguments", [["--store", "URL"], ["--store=URL"]])
    def test_a_password_among_the_arguments_goes_into_the_environment(
        self, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        uri = "postgresql://u:secret@h/d"
        arguments = [each.replace("URL", uri) for each in arguments]
        started: list[Any] = []
        monkeypatch.setattr("sys.argv", ["mlflow-project", "serve", *arguments, "--auth"])
        monkeypatch.setattr("os.execve", lambda *what: started.append(what))
        reexec_without_password(uri)
        ((_, arguments, environment),) = started
        assert arguments[1:] == ["-m", "mlflow_project", "serve", "--auth"]
        assert environment[STORE_VARIABLE] == uri

    def test_what_the_server_prints_is_cleared_of_secrets(self) -> None:
        messages: list[str] = []
        watching = process.Server(ServerSettings(store="sqlite:///x.db"), messages.append)
        watching._secrets = ("secret",)
        watching._pass_on(io.BytesIO(b"no: secret!\n"))
        assert messages == ["no: ***!"]
