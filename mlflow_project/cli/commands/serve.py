"""`serve`: the tracking server, artifact store and registry in one command."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_project.cli.shared.argv_secrets import reexec_without_password
from mlflow_project.cli.shared.options import option
from mlflow_project.common.store_uri import STORE_VARIABLE

if TYPE_CHECKING:
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.server.process import Server


@click.command(short_help="The tracking server and UI, for one person or a team.")
@option(
    "--store",
    metavar="URL",
    envvar=STORE_VARIABLE,
    help="sqlite:///FILE or postgresql://...; also from MLFLOW_BACKEND_STORE_URI, where `ps` shows no password.  "
    "[default: where runs go now by MLFLOW_TRACKING_URI, if that is no server, else sqlite:///mlflow.db]",
)
@option(
    "--artifacts",
    metavar="DIR|URL",
    help="A folder or s3://...  [default: mlruns beside a SQLite store where it is there, else mlartifacts]",
)
@option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; others can't reach loopback."
)
@option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Where to listen.")
@option(
    "--allowed-hosts",
    multiple=True,
    metavar="NAME,...",
    help="Names by which others call this machine; requests to other names are refused.",
)
@option("--auth", is_flag=True, help="Users and permissions; without more, a user may read.")
@option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For the first start with --auth; else MLFLOW_AUTH_ADMIN_PASSWORD, else one is made and shown once.",
)
@option("--insecure", is_flag=True, help="Listen beyond loopback without --auth.")
@option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that answer; each opens up to 110 connections to PostgreSQL.",
)
@option("--access-log", is_flag=True, help="A line for each request.")
@click.pass_obj
def serve(
    shutdown: "GracefulShutdown",
    /,
    store: str | None,
    artifacts: str | None,
    host: str,
    port: int,
    allowed_hosts: tuple[str, ...],
    auth: bool,
    admin_password_file: Path | None,
    insecure: bool,
    workers: int,
    access_log: bool,
) -> int:
    """The tracking server with its UI, the artifact store and the registry, until SIGINT or SIGTERM.

    Prints the line to set in another terminal once it answers. Stopped, it ends what is being written first and
    its exit status is 0.

    \b
    mlflow-project serve
    mlflow-project serve --store postgresql://mlflow@db/mlflow --auth --host 0.0.0.0 --allowed-hosts tracking
    """
    store = store or _current_store()
    reexec_without_password(store)
    from mlflow_project.common.errors import Interrupted, UsageError
    from mlflow_project.server.auth import ADMINISTRATOR
    from mlflow_project.server.process import Server
    from mlflow_project.server.settings import ServerSettings, parse_hosts

    if admin_password_file and not auth:
        raise UsageError("--admin-password-file is for --auth; add it")
    settings = ServerSettings(
        store=store,
        artifacts=artifacts,
        host=host,
        port=port,
        allowed_hosts=parse_hosts(allowed_hosts),
        auth=auth,
        insecure=insecure,
        password_file=admin_password_file,
        workers=workers,
        access_log=access_log,
    )
    with shutdown:
        try:
            with Server(settings, _note) as server:
                if server.generated_password:
                    # Before it is ready: whoever stops it in between needs the password at the next start.
                    _note(
                        f"administrator: {ADMINISTRATOR}, password: {server.generated_password} "
                        "(keep it; it isn't shown again)"
                    )
                _note("starting the server (some seconds)")
                server.wait_until_ready(shutdown.check)
                _announce(server)
                server.wait(shutdown.check)
        except Interrupted:
            _note("stopped")
    return 0


def _current_store() -> str:
    """Return where runs go without a server: what was trained so far is there."""
    from mlflow_project.common.store_uri import tracking_uri

    # An address that this command has printed is still set, often in the very terminal.
    uri = tracking_uri()
    return "sqlite:///mlflow.db" if uri.startswith(("http://", "https://")) else uri


def _announce(server: "Server") -> None:
    from mlflow_project.common.store_uri import absolute_uri, redact

    settings = server.settings
    _note(f"ready; store {redact(absolute_uri(settings.store))}, artifacts {settings.artifact_place}")
    if settings.insecure and not settings.is_local:
        _note("Warning: open to everybody who can reach it (--insecure)")
    _note("in another terminal:")
    click.echo(f"export MLFLOW_TRACKING_URI={settings.url}")
    sys.stdout.flush()
    if settings.auth:
        _note("and there MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")


def _note(text: str) -> None:
    click.echo(text, err=True)
