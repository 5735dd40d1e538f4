"""The code that travels with a model: little of it, under a name of its own."""

from importlib import import_module
from pathlib import Path

import pytest

from mlflow_project.packaging import code_bundle


def test_the_bundle_has_what_predicts_and_nothing_that_loads_data_or_trains(tmp_path: Path) -> None:
    package = tmp_path / code_bundle.bundle_code(tmp_path).partition(".")[0]
    files = [path.relative_to(package) for path in package.rglob("*.py")]
    modules = [path for path in files if path.name != "__init__.py"]
    assert {path.parent.as_posix() for path in modules} == {
        "hw2/common",
        "hw2/models",
        "hw2/outliers",
        "mlflow_project/packaging",
    }
    assert len(modules) < 20
    assert sum((package / path).stat().st_size for path in files) < 75_000
    assert all(
        (package / path).read_text(encoding="utf-8") == "" for path in files if path.name == "__init__.py"
    )


def test_bundles_of_different_ages_are_imported_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = code_bundle.bundle_code(tmp_path / "newer")
    sources = code_bundle._collect_sources()
    (predict,) = (name for name in sources if name.endswith("pyfunc_model"))
    sources[predict] = sources[predict].replace("BATCH = 1000", "BATCH = 10")
    monkeypatch.setattr(code_bundle, "_collect_sources", lambda: sources)
    older = code_bundle.bundle_code(tmp_path / "older")
    for folder in ("newer", "older"):
        monkeypatch.syspath_prepend(tmp_path / folder)
    modules = {name: import_module(name) for name in (newer, older)}
    assert [module.BATCH for module in modules.values()] == [1000, 10]
    for name, module in modules.items():
        assert module.Net.__module__ == f"{name.partition('.')[0]}.hw2.models.net"
