"""A lock where the file system has no `flock`: a file that names its owner, who touches it while alive.

POSIX record locks (`lockf`) aren't used: a process loses them as soon as it closes any descriptor of the file, and
every look at a run's state is one.
"""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path

HEARTBEAT_SECONDS = 20.0
STALE_AFTER_SECONDS = 150.0
"""Without a heartbeat for so long, an owner on another host is taken for dead; clocks may differ by a minute."""


class OwnerFile:
    """A lock file that exists while its owner is alive; what a dead owner has left is replaced."""

    def __init__(self, locked: Path) -> None:
        name = ".mlflow-project.owner"
        self.path = locked / name if locked.is_dir() else locked.with_name(locked.name + ".owner")
        self._content = b""
        self._released = threading.Event()

    def is_free(self) -> bool:
        """Return whether no living process owns the file."""
        try:
            content, age = self.path.read_bytes(), time.time() - self.path.stat().st_mtime
            owner = json.loads(content)
            host, pid, started = owner["host"], owner["pid"], owner["started"]
        except FileNotFoundError:
            return True
        except (ValueError, TypeError, KeyError):  # its owner is just writing it, or died then
            return age > STALE_AFTER_SECONDS
        if host == socket.gethostname():
            return not is_process_alive(pid, started)
        return bool(age > STALE_AFTER_SECONDS)

    def acquire(self) -> bool:
        """Create the file, unless a living process owns it; return whether it is ours."""
        pid = os.getpid()
        owner = {
            "host": socket.gethostname(),
            "pid": pid,
            "started": process_start_time(pid),
            "id": uuid.uuid4().hex,
        }
        for _ in range(2):
            try:
                with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    self._content = json.dumps(owner).encode()
                    file.write(self._content)
            except FileExistsError:
                if not self._remove_if_free():
                    return False
            else:
                threading.Thread(target=self._touch, name="lock-heartbeat", daemon=True).start()
                return True
        return False

    def release(self) -> None:
        """Remove the file, if it is still ours."""
        self._released.set()
        with suppress(OSError):
            if self.path.read_bytes() == self._content:
                self.path.unlink()

    def _remove_if_free(self) -> bool:
        with suppress(FileNotFoundError):
            dead = self.path.read_bytes()
            if not self.is_free():
                return False
            aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
            self.path.rename(aside)
            # Two may find the same dead owner, and the second has then renamed the file of the first.
            if aside.read_bytes() != dead:
                aside.rename(self.path)
                return False
            aside.unlink()
        return True

    def _touch(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            with suppress(OSError):
                os.utime(self.path)


def is_process_alive(pid: int, started: str) -> bool:
    """Return whether a process of this host is alive that had this `process_start_time`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process_start_time(pid) == started


def process_start_time(pid: int) -> str:
    """Return when a process started, which tells it from a later one of the same ID; "" where /proc isn't there."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""
