"""Ports for servers of tests."""

import os
import random
import socket

_FIRST, _PER_WORKER = (
    20_000,
    1_000,
)  # below those that the system gives to clients, which would take one in between


def free_port() -> int:
    """Choose a port of loopback that nobody listens at, from those of this worker alone."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + worker % 12 * _PER_WORKER
    for port in random.sample(range(first, first + _PER_WORKER), _PER_WORKER):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port from {first} to {first + _PER_WORKER - 1}; end what listens there")
