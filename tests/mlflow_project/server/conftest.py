import pytest

from mlflow_project.server import store as server_store


@pytest.fixture
def no_schema_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_store, "_create_schema", lambda uri: pytest.fail(f"{uri} is made"))
