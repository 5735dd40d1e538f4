"""Whether the server answers, and which errors are answers."""

import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException

from mlflow_project.common.errors import ServiceError
from mlflow_project.tracking.delivery.error_policy import UNREACHABLE, describe_error, is_access_denied

_OUTAGE_CODES = (
    "BAD_REQUEST",  # what a database's errors become
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "REQUEST_LIMIT_EXCEEDED",
    "DEADLINE_EXCEEDED",
    "IO_ERROR",
)


_CONNECT_SECONDS = 5.0


class Unreachable(MlflowException):
    """Only the server knows what was asked, and it gives no answer."""


def is_answer(error: BaseException) -> bool:
    """Return whether an error is the server's answer to what was asked."""
    if not isinstance(error, MlflowException):
        # Else a fault in the program, which it is told.
        of_database = type(error).__module__.partition(".")[0] in (
            "sqlalchemy",
            "psycopg",
            "psycopg2",
            "sqlite3",
        )
        return not (of_database or isinstance(error, OSError | ServiceError))
    if isinstance(error, Unreachable) or is_access_denied(error):
        return False
    bare = "failed with error code" in str(error)
    return error.error_code not in _OUTAGE_CODES and not bare


def is_certain(error: Exception) -> bool:
    """Return whether asking again at once makes no sense: nobody listens, or this user is refused."""
    return describe_error(error, "").endswith(UNREACHABLE[0]) or is_access_denied(error)


def require_port(uri: str) -> None:
    """Check that a database's server is there, whose driver would try it again for minutes.

    Raises:
        OSError: Nobody listens.
    """
    parts = urlsplit(uri)
    if parts.scheme.startswith("postgres") and parts.hostname:
        socket.create_connection((parts.hostname, parts.port or 5432), _CONNECT_SECONDS).close()


class Reachability:
    """What is known of a store's server. A problem is told once, on stderr, until the server has answered."""

    def __init__(self, uri: str, folder: str) -> None:
        self.uri = uri
        self.problem: str | None = None
        """Why the server gives no answers, in one line; None while it does."""
        self.failures = 0
        self._folder = folder
        self._printed: set[str] = set()
        self._answered = time.monotonic()

    @property
    def is_down(self) -> bool:
        """Return whether the last attempt to reach the server failed."""
        return self.problem is not None

    def concerns_server(self, error: Exception) -> bool:
        """Return whether an error is no answer, but one of the server or of the way to it."""
        return not is_answer(error) and not isinstance(error, ServiceError)

    def is_absence(self, error: Exception) -> bool:
        """Return whether an error says that there may be no server at all."""
        return describe_error(error, self.uri).endswith(UNREACHABLE)

    def note_answer(self) -> None:
        self.problem = None
        self._answered = time.monotonic()

    def note_failure(self, error: Exception) -> None:
        self.failures += 1
        problem = describe_error(error, self.uri)
        # One error among answers is no outage, but a server that isn't there is.
        if problem.endswith(UNREACHABLE) or is_access_denied(error) or time.monotonic() - self._answered > 2:
            self.problem = problem
            self._report(problem)

    def _report(self, problem: str) -> None:
        if problem not in self._printed:
            self._printed.add(problem)
            print(f"durable tracking: {problem}; what is logged waits in {self._folder}", file=sys.stderr)

    def error(self, error: Exception | None = None) -> Unreachable:
        """Return the exception for what only the server knows."""
        problem = describe_error(error, self.uri) if error is not None else self.problem
        return Unreachable(f"{problem}; this is known only there, so try again later")


def rejection(error: Any) -> MlflowException:
    """Return the server's refusal of a creation as MLflow would have raised it."""
    if isinstance(error, MlflowException):
        return error
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

    return MlflowException(describe_error(error, ""), INVALID_PARAMETER_VALUE)
