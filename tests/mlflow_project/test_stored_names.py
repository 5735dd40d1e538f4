"""A run and a sweep store what they store under the names that commit 73a86e6 gave; more only where it says so."""

import re
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from mlflow_project.cli.main import run
from tests.support.tiny import options
from tests.support.unpacked import golden

NAMES = golden("names.json")
ADDED = "warmup"
"""The parameter, and tag of a version, that a run has had since then."""
VERSION_TAGS = ("device", "momentum", "optimizer", "precision")
"""Further tags of a version since then."""
BY_MLFLOW = "mlflow.source."
"""Tags that say where a program lies; they are MLflow's, and another with each place."""


def own(tags: Any) -> list[str]:
    return sorted(key for key in tags if not key.startswith(BY_MLFLOW))


def stored_by(run_: Run) -> dict[str, Any]:
    """The names under which a run has stored something."""
    root = Path(run_.info.artifact_uri.removeprefix("file://"))
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        "params": sorted(run_.data.params),
        # Of a process that was stopped meanwhile alone, and new.
        "latest_metrics": sorted(run_.data.metrics.keys() - {"suspended_seconds"}),
        "tags": own(run_.data.tags),
        "artifacts": sorted(
            re.sub(r"timestamp.*?(?=\.|\+comp)", "TIME", path.relative_to(root).as_posix()) for path in files
        ),
        "tables": {
            path.name: path.read_text(encoding="utf-8").splitlines()[0]
            for path in files
            if path.suffix == ".csv"
        },
    }


def expected(kind: str, dataset: str = "") -> dict[str, Any]:
    """What that commit stored; one table has a column with the data set's name."""
    names = {key: value for key, value in NAMES[kind].items() if key != "version_tags"}
    tables = {
        name: header.replace("mnist-sample,fashion-", f"{dataset},fashion-")
        for name, header in names["tables"].items()
    }
    if kind == "run":
        names["params"] = sorted([*names["params"], ADDED])
    return names | {"tags": own(names["tags"]), "tables": tables}


def test_a_run_stores_the_same_names(tiny: Path, store: str) -> None:
    assert run(["train", "--lr", "0.03", "--epochs", "1", "--batch-size", "8", *options(tiny)]) == 0
    client = MlflowClient(store)
    (trained,) = client.search_runs(["1"])
    assert stored_by(trained) == expected("run", tiny.name)
    version = client.get_model_version(f"{tiny.name}-base-cnn", "1")
    assert sorted(version.tags) == sorted([*NAMES["run"]["version_tags"], ADDED, *VERSION_TAGS])


def test_a_sweep_stores_the_same_names(tiny: Path, store: str) -> None:
    assert run(["sweep", "--lr", "0.01,0.03", "--epochs", "1", *options(tiny)]) == 0
    (parent,) = MlflowClient(store).search_runs(["1"], "tags.sweep_sha256 != ''")
    names = expected("sweep")
    names["tags"].remove("reason")  # was empty where there was none to give
    assert stored_by(parent) == names
