"""How MLflow is reached: imported once, its errors one line, its pages one after the other."""

import subprocess
import sys

import pytest

from mlflow_project.common.errors import StoreError
from mlflow_project.tracking.delivery import client
from mlflow_project.tracking.delivery.client import mlflow_errors, pages


class Page(list[int]):
    """A page as MLflow gives it."""

    def __init__(self, *numbers: int, token: str | None) -> None:
        super().__init__(numbers)
        self.token = token


BOOK = {None: Page(1, 2, token="second"), "second": Page(token="third"), "third": Page(3, token="")}


def test_pages_are_asked_for_as_far_as_they_are_read() -> None:
    asked: list[str | None] = []

    def fetch(token: str | None) -> Page:
        asked.append(token)
        return BOOK[token]

    results = pages(fetch)
    assert [next(results), next(results)] == [1, 2]
    assert asked == [None]
    assert list(results) == [3]
    assert asked == [None, "second", "third"]


def test_an_error_of_a_page_is_one_line_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://u:se@cret@host")

    def fetch(token: str | None) -> Page:
        raise ConnectionError("Connection refused by https://u:se@cret@host\nat once")

    with pytest.raises(StoreError) as caught:
        next(pages(fetch))
    assert str(caught.value).startswith("https://u:***@host is unreachable; start it there")


def test_errors_of_the_code_are_not_translated() -> None:
    with pytest.raises(KeyError), mlflow_errors():
        {}["key"]


def test_threads_that_import_mlflow_at_once_all_get_the_whole_of_it() -> None:
    program = """
import threading
from mlflow_project.tracking.delivery.client import import_mlflow
problems = []
def work():
    try:
        mlflow = import_mlflow()
        mlflow.MlflowClient, mlflow.entities.Metric, mlflow.artifacts.download_artifacts
    except Exception as error:
        problems.append(error)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(problems)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "[]"


def test_a_registry_of_its_own_is_migrated_too_also_under_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(client, "_is_older", looked_at.append)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "durable+sqlite:////models.db")
    assert client.migrate_store("sqlite:////runs.db") is False
    assert looked_at == ["sqlite:////runs.db", "sqlite:////models.db"]
