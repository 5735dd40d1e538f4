"""What an error of MLflow or of the network means: whether to try again, and how it is described."""

import os
import re

from mlflow_project.common.errors import DeliveryError, ServiceError
from mlflow_project.common.store_uri import redact, scrub

_PERMANENT_CODES = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""Codes of a value that a store won't take tomorrow either; but see `may_be_transient`."""

UNREACHABLE = ("is unreachable", "didn't answer in time")
"""How `describe_error` ends where there may be no server at all."""

_UNAUTHENTICATED = re.compile(r"error code 401\b|\b401 Client Error")
_FORBIDDEN = re.compile(r"error code 403\b|\b403 Client Error")
# Raised for a page instead of JSON, and for another web application's idea of "not found".
_NO_MLFLOW = re.compile(r"""Response body: '\s*<|Response: \{'detail': 'Not Found'\}""")
_STATUS = re.compile(r"error code (\d{3})")
_ENDPOINT = re.compile(r"/(?:api|ajax-api)/\d\.\d/(?:preview/)?mlflow(?:-artifacts)?/([\w-]+)(?:/([\w-]+))?")


def is_permanent(error: Exception) -> bool:
    """Return whether the store will reject this request every time."""
    if isinstance(error, DeliveryError):
        return True
    response = getattr(error, "response", None)
    if response is not None:
        code = re.search(r'"error_code"\s*:\s*"(\w+)"', response.text or "")
        return response.status_code == 413 or (code is not None and code[1] in _PERMANENT_CODES)
    # Proxies answer with bare status codes, which tell nothing about the value.
    bare = "failed with error code" in str(error)
    return getattr(error, "error_code", None) in _PERMANENT_CODES and not bare


def is_missing_endpoint(error: Exception) -> bool:
    """Return whether a server that is MLflow doesn't know this request, as an older one."""
    return getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND" or "error code 404 != 200" in str(error)


def is_missing_source(error: Exception) -> bool:
    """Return whether a registry in a database says of a version's source that there is no such model."""
    text = str(error)
    return "Unable to fetch model from model URI source" in text and "not found" in text


def may_be_transient(error: Exception) -> bool:
    """Return whether a permanent error may yet be none.

    Two runs that write the same row at once also get the first answer, and a model that another request has only
    just created the second.
    """
    return getattr(error, "error_code", None) == "BAD_REQUEST" or "Failed to get logged model" in str(error)


def is_access_denied(error: Exception) -> bool:
    """Return whether the store takes neither this nor any other request of this user."""
    return _denial(error) is not None


def describe_error(error: Exception, uri: str) -> str:
    """Describe an error in one line that a person can act on, without passwords.

    It begins with the redacted `uri` where the store itself is the problem, and no entity or run.
    """
    if isinstance(error, ServiceError):
        return str(error)
    text = " ".join(str(error).split())
    store = redact(uri)
    if any(word in text for word in ("Connection refused", "NameResolution", "Name or service not known")):
        return f"{store} {UNREACHABLE[0]}"
    if "timed out" in text or "timeout" in text:
        return f"{store} {UNREACHABLE[1]}"
    denial = _denial(error)
    if denial is not None:
        return f"{store}: {denial}"
    if "Max retries exceeded" in text or "error responses" in text:
        return f"{store} answers with errors"
    if _NO_MLFLOW.search(text):
        status = _STATUS.search(text)
        answer = f"status {status[1]} for its API" if status else "a web page, perhaps a login"
        return (
            f"something answers at {store}, but no MLflow ({answer}); check the address and its path prefix"
        )
    if "database is locked" in text:
        return f"{store} is busy"
    if "readonly database" in text:
        return f"{store} can't be written by this user; make the file and its folder writable, or name another store"
    if "unable to open database file" in text:
        return f"{store} can't be opened"
    if "Connection aborted" in text or "Connection broken" in text:
        return f"{store} closed the connection"
    return scrub(text, uri)[:300] or type(error).__name__


def _denial(error: Exception) -> str | None:
    """Return why a user is refused and what to do; None for any other error."""
    text, code = str(error), getattr(error, "error_code", "")
    if code == "UNAUTHENTICATED" or _UNAUTHENTICATED.search(text):
        return (
            "access denied; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN"
        )
    if code != "PERMISSION_DENIED" and not _FORBIDDEN.search(text):
        return None
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or "this user"
    endpoint = _ENDPOINT.search(text)
    if endpoint is None:
        return f"{user} lacks a permission; the server's administrator grants it"
    thing, verb = endpoint[1], endpoint[2] or ""
    level = "READ" if verb.startswith(("get", "search", "list")) else "MANAGE" if "delete" in verb else "EDIT"
    target = "registered model" if thing in ("registered-models", "model-versions") else "experiment"
    return f"{user} lacks the permission {level} on the {target}; its owner or the server's administrator grants it"
