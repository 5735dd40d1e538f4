"""Addresses of stores: no password is printed, however it is written."""

from pathlib import Path

import pytest

from mlflow_project.common.store_uri import redact, scrub, secrets, sqlite_path, with_driver

CASES = [
    # address, as printed, the password as meant
    ("postgresql://u:hunter2@host/db", "postgresql://u:***@host/db", "hunter2"),
    ("postgresql://u:hun@ter2@host/db", "postgresql://u:***@host/db", "hun@ter2"),
    ("postgresql://u:hun/ter2@host/db", "postgresql://u:***@host/db", "hun/ter2"),
    ("postgresql://u:hun/ter@two@host/db", "postgresql://u:***@host/db", "hun/ter@two"),
    ("postgresql://u:hun%40ter2@host/db", "postgresql://u:***@host/db", "hun@ter2"),
    ("postgresql://u:hun#ter2@host/db", "postgresql://u:***@host/db", "hun#ter2"),
    ("postgresql://u:hun?ter2@host/db", "postgresql://u:***@host/db", "hun?ter2"),
    ("postgresql://u:hun:ter2@host/db", "postgresql://u:***@host/db", "hun:ter2"),
    ("postgresql://u@corp:hunter2@host/db", "postgresql://u@corp:***@host/db", "hunter2"),
    ("postgresql://:hunter2@host/db", "postgresql://:***@host/db", "hunter2"),
    ("postgresql+psycopg://u:hunter2@[::1]:5432/db", "postgresql+psycopg://u:***@[::1]:5432/db", "hunter2"),
    ("postgresql://host/db?password=hunter2&a=b", "postgresql://host/db?password=***&a=b", "hunter2"),
    ("postgresql://host/db?a=b&sslpassword=hun#ter2", "postgresql://host/db?a=b&sslpassword=***", "hun#ter2"),
    ("postgresql://host/db?pass%77ord=hunter2", "postgresql://host/db?pass%77ord=***", "hunter2"),
    ("postgresql://host/db?password=hun@ter2", "postgresql://host/db?password=***", "hun@ter2"),
    ("postgresql://u:one@h/d?password=hunter2", "postgresql://u:***@h/d?password=***", "hunter2"),
    ("https://u:hunter2@host/path", "https://u:***@host/path", "hunter2"),
    ("https://ghp_hunter2@host/path", "https://***@host/path", "ghp_hunter2"),
]
PUBLIC = [
    "sqlite:///mlflow.db",
    "sqlite:////home/a@b/c.db",
    "http://127.0.0.1:5000",
    "postgresql://u@host:5432/db?connect_timeout=5",
    "mlruns",
    "",
]


@pytest.mark.parametrize(("uri", "printed", "password"), CASES)
def test_an_address_is_printed_without_its_password(uri: str, printed: str, password: str) -> None:
    assert redact(uri) == printed
    assert password in secrets(uri)


@pytest.mark.parametrize(("uri", "printed", "password"), CASES)
def test_a_text_is_printed_without_the_password_of_its_address(uri: str, printed: str, password: str) -> None:
    text = f"can't open {uri} with {password!r}: no host {password.rpartition('@')[2]}, see {uri}"
    scrubbed = scrub(text, uri)
    assert scrubbed.startswith(f"can't open {printed} with '***'")
    for part in ("hun", "ter2", "two@"):
        assert part not in scrubbed


@pytest.mark.parametrize("uri", PUBLIC)
def test_an_address_without_a_password_is_printed_as_it_is(uri: str) -> None:
    assert redact(uri) == uri
    assert secrets(uri) == ()
    assert scrub(f"{uri} doesn't answer", uri) == f"{uri} doesn't answer"


def test_passwords_of_several_addresses_in_one_text_are_hidden() -> None:
    first, second, third = "postgresql://u:on@e1@a/d", "https://v:two2@b/", "postgresql://c/d?password=three3"
    text = scrub(f"from {first} to {second} or {third}, not 'on@e1'", first)
    assert (
        text == "from postgresql://u:***@a/d to https://v:***@b/ or postgresql://c/d?password=***, not '***'"
    )


def test_further_secrets_are_hidden_and_the_longest_of_two_as_a_whole() -> None:
    assert scrub("a key, a keyring and no ***", also=("key", "keyring", "")) == "a ***, a *** and no ***"


def test_a_short_password_does_not_break_the_address_it_stands_in() -> None:
    uri = "postgresql://u:p@h/d"
    assert scrub(f"{redact(uri)} and {uri} are busy: p", uri) == (
        "postgresql://u:***@h/d and postgresql://u:***@h/d are busy: ***"
    )


def test_the_parts_that_a_store_is_opened_by() -> None:
    assert sqlite_path("sqlite:///a/b.db?timeout=5") == Path("a/b.db")
    assert sqlite_path("http://a/b.db") is None
    assert with_driver("postgres://h/d") == "postgresql+psycopg://h/d"
    assert with_driver("sqlite:///a.db") == "sqlite:///a.db"
