"""The URI of a store: where runs go, what kind it is, and how it is printed without its passwords."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow_project.common.errors import BackupError

STORE_VARIABLE = "MLFLOW_BACKEND_STORE_URI"
"""MLflow's own; passes the URI to other processes."""

START_IT = "start it there (mlflow-project serve), or name another store by MLFLOW_TRACKING_URI"

DURABLE = "durable+"

_HIDDEN = "***"
# A password may hold any character, so it ends at the last @ of the address. Rather too much is hidden than too little.
_PASSWORD = re.compile(r"^[^:/?#]+://[^:/?#]*:(.*)@", re.DOTALL)
_TOKEN = re.compile(r"^https?://([^:/?#@]+)@")
_PARAMETER = re.compile(r"[?&]([^=&?]+)=([^&]*)")
_SECRET_PARAMETERS = ("password", "passwd", "pwd", "token", "secret")
_ADDRESS = re.compile(r"""[A-Za-z][\w+.-]*://\S+?(?=[,:;.)'"]*(?:\s|$))""")


def tracking_uri() -> str:
    """Return where runs go: MLflow's own variable, else its own default; our own runs are durable without a prefix."""
    return inner_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def inner_uri(uri: str) -> str:
    """Return the address of a store without the prefix that makes any program's tracking durable."""
    if not uri.lower().startswith(DURABLE):
        return uri
    # MLflow takes a scheme in any case.
    scheme, colon, rest = uri[len(DURABLE) :].partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def absolute_uri(uri: str) -> str:
    """Return the address of a store without what depends on the current folder, whose name is quoted."""
    for scheme in ("sqlite:///", "file://"):
        if uri.startswith(scheme):
            path = uri.removeprefix(scheme)
            if path.startswith((":memory:", "localhost/", "/")):
                return uri
            return f"{scheme}{quote_path(Path.cwd())}/{path.removeprefix('./')}"
    return uri if "://" in uri else str(Path(uri).absolute())


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a `sqlite:///` address, None for any other."""
    return (
        Path(unquote(uri.removeprefix("sqlite:///").split("?")[0])) if uri.startswith("sqlite:///") else None
    )


def quote_path(path: Path) -> str:
    """Return a path as it stands in a store's address."""
    return str(path).replace("%", "%25").replace("?", "%3F")


def is_missing_sqlite(uri: str) -> bool:
    """Return whether a `sqlite:///` address has no file, which opening it would make."""
    path = sqlite_path(uri)
    # SQLAlchemy decodes the address.
    return path is not None and not _may_exist(path) and not _may_exist(Path(unquote(str(path))))


def _may_exist(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        return True  # of its folder: nobody can tell
    except OSError:
        return False
    return True


def kind_of(uri: str) -> str:
    """Return `sqlite` or `postgresql`.

    Raises:
        BackupError: For any other store.
    """
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme in ("http", "https"):
        raise BackupError(
            "a backup needs the store itself (sqlite:///... or postgresql://...), not its server"
        )
    if scheme not in ("sqlite", "postgresql", "postgres"):
        raise BackupError(
            f"a store of kind {scheme or 'file'!r} can't be backed up; sqlite and postgresql can"
        )
    return "sqlite" if scheme == "sqlite" else "postgresql"


def with_driver(uri: str) -> str:
    """Return the address with the driver that this project installs."""
    scheme, _, rest = uri.partition("://")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else uri


def secrets(uri: str) -> tuple[str, ...]:
    """Return all texts that reveal a password of the address, the longest first.

    They are the passwords as written and as meant, and the parts into which a program cuts one whose `@`, `/`, `?`
    or `#` isn't percent-encoded: it prints the rest as a host or a path.
    """
    texts = {uri[start:end] for start, end in _secret_spans(uri)}
    texts |= {unquote(text) for text in texts}
    # Of a part, a single letter gives nothing away, and stands in every text.
    texts |= {part for text in texts for part in re.split("[@/?#]", text) if len(part) > 1}
    return tuple(sorted(filter(None, texts), key=lambda text: (-len(text), text)))


def redact(uri: str) -> str:
    """Return the address as it may be printed: without a password, wherever it stands."""
    parts, position = [], 0
    for start, end in _secret_spans(uri):
        parts += [uri[position:start], _HIDDEN]
        position = end
    return "".join([*parts, uri[position:]])


def scrub(text: str, *uris: str, also: Iterable[str] = ()) -> str:
    """Return a text as it may be printed, without passwords.

    Args:
        text: What is to be printed, logged or stored.
        uris: Addresses whose passwords may stand in it by themselves; those of addresses in it are always hidden.
        also: Further texts that must not stand in it.
    """
    instead = {secret: _HIDDEN for uri in uris for secret in secrets(uri)}
    instead |= dict.fromkeys(filter(None, also), _HIDDEN)
    if instead:
        # What is hidden already stays as it is, also where it contains a very short password.
        instead |= {
            _HIDDEN: _HIDDEN,
            **{text: redact(uri) for uri in uris if uri for text in (uri, redact(uri))},
        }
        pattern = "|".join(map(re.escape, sorted(instead, key=len, reverse=True)))
        text = re.sub(pattern, lambda match: instead[match[0]], text)
    return _ADDRESS.sub(lambda address: redact(address[0]), text)


def _secret_spans(uri: str) -> list[tuple[int, int]]:
    """Find where secrets stand in an address, in order and apart from each other."""
    matches = [match.span(1) for pattern in (_PASSWORD, _TOKEN) if (match := pattern.match(uri))]
    matches += [
        match.span(2)
        for match in _PARAMETER.finditer(uri)
        if unquote(match[1]).lower().endswith(_SECRET_PARAMETERS)
    ]
    spans: list[tuple[int, int]] = []
    for start, end in sorted(span for span in matches if span[0] < span[1]):
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    return spans
