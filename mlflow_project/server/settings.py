"""A server's settings: rejected if it would be open to strangers, or unreachable."""

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.common.store_uri import sqlite_path
from mlflow_project.server.artifact_roots import FOLDERS

_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_WILDCARDS = ("0.0.0.0", "::")
_NOWHERE = ipaddress.ip_address("192.0.2.1")  # no host has it


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What is served to whom; `check` rejects what would be open to strangers."""

    store: str = field(repr=False)
    artifacts: str | None = None
    """A folder or s3://...; by default `mlruns` beside the SQLite file where it exists, else `mlartifacts`."""
    host: str = "127.0.0.1"
    port: int = 5000
    allowed_hosts: tuple[str, ...] = ()
    """Host names by which clients reach this machine."""
    auth: bool = False
    insecure: bool = False
    password_file: Path | None = None
    workers: int = 1
    access_log: bool = False

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the server."""
        return self.host == "localhost" or (_address(self.host) or _NOWHERE).is_loopback

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        name = self.host
        if name in _WILDCARDS:
            name = next((name for name in self.allowed_hosts if "*" not in name), socket.gethostname())
        bare = format_host(name)
        return f"http://{bare}" if _has_port(bare) else f"http://{bare}:{self.port}"

    @property
    def artifact_place(self) -> str:
        """Return the absolute artifact folder, or an address."""
        artifacts = self.artifacts
        if artifacts is not None and "://" in artifacts:
            return artifacts
        if artifacts is None:
            path = sqlite_path(self.store)
            beside = Path.cwd() if path is None else path.absolute().parent
            # What was trained without a server and what comes with one lie in one folder then.
            without_server, with_server = (beside / name for name in FOLDERS)
            goes_on = without_server.is_dir() and not with_server.exists()
            return str(without_server if goes_on else with_server)
        return str(Path(artifacts).absolute())

    def check(self) -> None:
        """Check that the server is neither open to strangers nor unreachable.

        Raises:
            UsageError: It is, or an option can't be used.
            StoreError: The port can't be used.
        """
        if not self.is_local and not (self.auth or self.insecure):
            raise UsageError(
                f"--host {self.host} is open to others, and without --auth everybody there may change and delete all "
                "runs and models, and read every file that the server may read; add --auth, or --insecure if all of "
                "them may"
            )
        if self.host in _WILDCARDS and not self.allowed_hosts:
            raise UsageError(
                f"--host {self.host} needs --allowed-hosts NAME, the host name that clients use: "
                "requests to any other name are rejected"
            )
        scheme, is_url, _ = self.artifact_place.partition("://")
        if is_url and scheme != "s3":
            raise UsageError(f"--artifacts is {scheme}://...; it must be a folder or s3://BUCKET/FOLDER")
        if scheme == "s3" and find_spec("boto3") is None:
            raise UsageError(
                "artifacts in s3:// need a package more: in the project's folder, pip install '.[s3]'"
            )
        _check_port(self.host, self.port)

    def hosts(self) -> str | None:
        """Return what MLflow accepts as Host, each name with and without a port; None for its default."""
        names = list(self.allowed_hosts)
        if not self.is_local and self.host not in _WILDCARDS:
            names.append(format_host(self.host))
        if not names:
            return None  # loopback, and private addresses
        forms: list[str] = []
        for name in (*names, *_LOOPBACK_NAMES):
            forms += [name] if _has_port(name) else [name, f"{name}:{self.port}"]
        return ",".join(dict.fromkeys(forms))


def parse_hosts(options: Sequence[str]) -> tuple[str, ...]:
    """Split host names that are separated by commas or in options of their own."""
    return tuple(format_host(name.strip()) for text in options for name in text.split(",") if name.strip())


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def format_host(host: str) -> str:
    """Format a host for a URL: an IPv6 address in brackets."""
    address = _address(host)
    return f"[{host}]" if address is not None and address.version == 6 else host


def _has_port(name: str) -> bool:
    return bool(re.search(r":(\d+|\*)$", name)) and not name.endswith("]")


def _check_port(host: str, port: int) -> None:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise UsageError(f"--host {host} is not a name or address of this machine") from None
    family, kind, protocol, _, address = infos[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            where = f"port {port} of {host}"
            if error.errno == errno.EADDRINUSE:
                raise StoreError(
                    f"{where} is in use; end what listens there, or choose another by --port"
                ) from None
            raise StoreError(f"{where} can't be listened on: {error.strerror}; choose another") from None
