"""What an error of MLflow or of the network means: whether to try again, and how it is described."""

import re

from mlflow_project.common.errors import DeliveryError, ServiceError
from mlflow_project.common.store_uri import redact, scrub

_NEVER = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
"""What a store says of a value that it won't take tomorrow either; but see `may_be_transient`."""

UNREACHABLE = ("doesn't answer", "didn't answer in time")
"""How `describe_error` ends where there may be no server at all."""


def is_permanent(error: Exception) -> bool:
    """Return whether the store will refuse this request every time."""
    if isinstance(error, DeliveryError):
        return True
    response = getattr(error, "response", None)
    if response is not None:
        code = re.search(r'"error_code"\s*:\s*"(\w+)"', response.text or "")
        return response.status_code == 413 or (code is not None and code[1] in _NEVER)
    # Proxies answer with bare status codes, which say nothing about the value.
    bare = "failed with error code" in str(error)
    return getattr(error, "error_code", None) in _NEVER and not bare


def is_missing_endpoint(error: Exception) -> bool:
    """Return whether a server that is MLflow doesn't know this request, as an older one."""
    return getattr(error, "error_code", None) == "ENDPOINT_NOT_FOUND" or "error code 404 != 200" in str(error)


def may_be_transient(error: Exception) -> bool:
    """Return whether a final refusal may yet be none.

    Two runs that write the same row at once also get the first answer, and a model that another request has only
    just made the second.
    """
    return getattr(error, "error_code", None) == "BAD_REQUEST" or "Failed to get logged model" in str(error)


def describe_error(error: Exception, uri: str) -> str:
    """Describe an error in one line that a person can act on, without passwords.

    It begins with the redacted `uri` where the store itself is the problem, and no value or run.
    """
    if isinstance(error, ServiceError):
        return str(error)
    text = " ".join(str(error).split())
    store = redact(uri)
    code = getattr(error, "error_code", "")
    if any(word in text for word in ("Connection refused", "NameResolution", "Name or service not known")):
        return f"{store} {UNREACHABLE[0]}"
    if "timed out" in text or "timeout" in text:
        return f"{store} {UNREACHABLE[1]}"
    denied = re.search(r"error code 40[13]\b|\b40[13] Client Error", text)
    if denied or code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return f"{store} refuses us; check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or _TOKEN"
    if "database is locked" in text:
        return f"{store} is busy"
    if "unable to open database file" in text:
        return f"{store} can't be opened"
    if "Max retries exceeded" in text or "error responses" in text:
        return f"{store} answers with errors"
    if "Connection aborted" in text or "Connection broken" in text:
        return f"{store} broke the connection off"
    return scrub(text, uri)[:300] or type(error).__name__
