"""A PostgreSQL server of the tests' own: Debian's programs, on loopback, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tests.support.ports import free_port

USER = "team"
# Each of these characters has broken something that builds an address out of a password.
PASSWORD = "pass/w@rd: %41 ä"
MISSING = "no PostgreSQL: Debian's package postgresql has it"


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    programs: Path
    port: int

    def url(self, database: str, password: str = PASSWORD, scheme: str = "postgresql+psycopg") -> str:
        return f"{scheme}://{USER}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """The address of a new database."""
        self._client("createdb", [database])
        return self.url(database)

    def copy(self, database: str, source: str) -> str:
        """The address of a new database with all that is in another one, to which nobody is connected."""
        self._client("createdb", ["--template", source, database])
        return self.url(database)

    def _client(self, program: str, arguments: Sequence[str]) -> None:
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER]
        subprocess.run(
            [self.programs / program, *place, *arguments],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            capture_output=True,
        )


def programs() -> Path | None:
    """Where PostgreSQL's programs are; the newest of several."""
    result = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if result:
        return result[-1].parent
    there = shutil.which("initdb")
    return Path(there).parent if there else None


@contextmanager
def running(settings: Sequence[str] = ()) -> Iterator[Postgres]:
    """A server without databases of its own; ended, and its folder removed, when the context is left."""
    where = programs()
    if where is None:
        raise FileNotFoundError(MISSING)
    server = _Server(where)
    try:
        server.start(settings)
        yield Postgres(where, server.port)
    finally:
        server.stop()


@dataclass
class _Server:
    programs: Path
    port: int = field(default_factory=free_port)
    # pytest's own folders are closed to the other user that root has to run PostgreSQL as.
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="postgres-")))

    def start(self, settings: Sequence[str]) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if os.getuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres")
        options = ["--auth", "scram-sha-256", "--pwfile", str(secret), "--username", USER]
        self._call(
            "initdb", ["--pgdata", self._data, "--encoding", "UTF8", "--locale", "C", "--no-sync", *options]
        )
        chosen = [
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
            "fsync=off",
            *settings,
        ]
        text = " ".join(f"-c {setting}" for setting in chosen)
        log = str(self.folder / "log")
        self._call(
            "pg_ctl", ["--pgdata", self._data, "--wait", "--timeout", "60", "--log", log, "-o", text, "start"]
        )

    def stop(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self._call("pg_ctl", ["--pgdata", self._data, "--wait", "--mode", "immediate", "stop"])
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _call(self, program: str, arguments: Sequence[str]) -> None:
        command = [str(self.programs / program), *arguments]
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            command = ["runuser", "--user", "postgres", "--", *command]
        done = subprocess.run(
            command,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            encoding="utf-8",
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.strip()}")
