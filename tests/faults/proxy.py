"""A proxy on loopback that treats each request as a schedule says: well, or in one of the ways of real networks.

One request a connection, so that every request meets its own fault.
"""

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from tests.support.ports import free_port

FAULTS = {
    "reset": "the connection is reset before the server sees the request",
    "500": "error 500, and the server never sees the request",
    "lost": "the server carries the request out, its answer never arrives",
    "500 after": "the server carries the request out, the answer is error 500",
    "cut": "the server carries the request out, its answer ends in the middle",
    "late": "the request hangs until the client has given up, and is carried out then",
    "delay": "the request takes 0.3 s longer",
}
Plan = Callable[[str], str | None]
"""From a request's first line to its fault, or None."""


def well(_: str) -> None:
    """The plan of a network without faults."""


def drawn(seed: int, share: float, names: tuple[str, ...] = tuple(FAULTS)) -> Plan:
    """A plan that strikes this share of the requests with faults drawn from a seed."""
    chance, guard = random.Random(seed), threading.Lock()

    def plan(_: str) -> str | None:
        with guard:
            return chance.choice(names) if chance.random() < share else None

    return plan


class Proxy:
    """`url` stays the same while the proxy is `down` (connections are refused) and `up` again."""

    def __init__(self, upstream_port: int, patience: float = 2.0) -> None:
        self.upstream_port = upstream_port
        self.patience = patience
        """Seconds after which the client is known to have given up."""
        self.plan: Plan = well
        self.struck: list[tuple[str, str]] = []
        """Each fault and the first line of the request that it struck."""
        self._listener: socket.socket | None = None
        self.port = free_port()
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def down(self) -> None:
        if self._listener is not None:
            # A thread that waits in accept() keeps a closed socket open; shutting it down wakes it.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(30)
            request = read_request(client)
            if not request:
                return
            line = request.split(b"\r\n", 1)[0].decode(errors="replace")
            fault = self.plan(line)
            if fault:
                self.struck.append((fault, line))
            if fault == "delay":
                time.sleep(0.3)
            elif fault == "reset":
                reset(client)
                return
            elif fault == "500":
                client.sendall(ERROR)
                return
            elif fault == "late":
                time.sleep(self.patience)
            answer = self._ask(request)
            if fault == "500 after":
                client.sendall(ERROR)
            elif fault == "cut":
                client.sendall(answer[: len(answer) // 2])
                reset(client)
            elif fault in ("lost", "late"):
                reset(client)
            else:
                client.sendall(answer)

    def _ask(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        with socket.create_connection(("127.0.0.1", self.upstream_port), timeout=60) as server:
            server.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)
            parts = []
            while part := server.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


ERROR = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n"
    b"Connection: close\r\n\r\nfault"
)


def reset(connection: socket.socket) -> None:
    """Close so that the other side sees a reset, not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_request(connection: socket.socket) -> bytes:
    """One whole request, by its Content-Length or its chunks; empty if the client left."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(1 << 16)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    chunked = headers.get(b"transfer-encoding", b"").lower() == b"chunked"
    wanted = int(headers.get(b"content-length", b"0"))
    while not body.endswith(b"0\r\n\r\n") if chunked else len(body) < wanted:
        part = connection.recv(1 << 16)
        if not part:
            return b""
        body += part
    return head + b"\r\n\r\n" + body
