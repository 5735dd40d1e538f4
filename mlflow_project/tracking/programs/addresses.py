"""The addresses under which a program knows the files of a run or model, and what stands there on the server.

`durable+http:/3f2a9c1d/runs/<run ID>/artifacts`: the second part tells stores apart without their passwords.
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

PREFIX = "durable+"
_ADDRESS = re.compile(r"durable\+[a-z0-9+]+:/+([0-9a-f]{8})/(runs|models)/([^/\s\"']+)/artifacts")
_OTHER = re.compile(r"durable\+[a-z0-9+]+:/+([0-9a-f]{8})/at/([A-Za-z0-9_=-]+)")


@dataclass(frozen=True)
class Place:
    """Files of a run or a model, or those at an address of the server's (`kind` is `runs`, `models` or `at`)."""

    store: str
    kind: str
    owner: str
    path: str


def store_key(uri: str) -> str:
    """Return what tells a store from others in an address."""
    return hashlib.sha256(uri.encode()).hexdigest()[:8]


def address(uri: str, kind: str, owner: str) -> str:
    """Return the address of a run's or a model's files in the store at `uri`, which comes without the prefix."""
    return f"{PREFIX}{uri.partition(':')[0]}:/{store_key(uri)}/{kind}/{owner}/artifacts"


def address_of_uri(uri: str, real: str) -> str:
    """Return the address of what the server has at `real`."""
    text = base64.urlsafe_b64encode(real.encode()).decode()
    return f"{PREFIX}{uri.partition(':')[0]}:/{store_key(uri)}/at/{text}"


def parse(text: str) -> Place | None:
    """Return the place of an address, with the path below it, or None for any other text."""
    if match := _ADDRESS.match(text):
        return Place(match[1], match[2], match[3], text[match.end() :].strip("/"))
    if match := _OTHER.match(text):
        real = base64.urlsafe_b64decode(match[2]).decode()
        return Place(match[1], "at", real, text[match.end() :].strip("/"))
    return None


def replace_addresses(text: str, resolve: Callable[[str, str], str]) -> str:
    """Return a text in which every address is what the server calls it.

    Args:
        text: Any text.
        resolve: Returns the server's address of the files of a kind and owner.
    """
    text = _ADDRESS.sub(lambda match: resolve(match[2], match[3]), text)
    return _OTHER.sub(lambda match: base64.urlsafe_b64decode(match[2]).decode(), text)
