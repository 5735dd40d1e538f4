"""Servers that answer, but not as an MLflow that lets one in."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

Answer = tuple[int, str, str]
"""Status, content type, and body; of a redirect the path to go to."""


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[str], Answer]], str]]:
    """Start a server that answers each path as a function says; its address."""
    servers = []

    def start(answer: Callable[[str], Answer]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, kind, body = answer(urlsplit(self.path).path)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", body)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def denying(answering: Callable[[Callable[[str], Answer]], str]) -> str:
    """A server that knows nobody."""
    return answering(lambda path: (401, "text/plain", "You are not authenticated."))
