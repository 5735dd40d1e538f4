"""A store with many completed runs: one is trained and registered, and its rows are written again under new names.

So each run has all that a run has (parameters, metrics by epoch and batch, tags, inputs, logged model, version), with a
configuration, SHA-256s and figures of its own. The copies share the first one's artifacts.
"""

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy

BATCH = 500
LEARNING_RATES = tuple(round(0.0005 * factor, 6) for factor in range(1, 401))
_HASHED = ("configuration_sha256", "fingerprint", "weights_sha256", "files_sha256", "journal_key")
Row = dict[str, Any]


def train_one(store: str, folder: Path) -> None:
    """The run that is copied: one epoch on the embedded sample, whose model becomes the champion."""
    options = ["--lr", "0.1", "--epochs", "1", "--dataset", "mnist-sample", "--threads", "1"]
    for command in (["train", *options], ["models", "promote", "--best"]):
        subprocess.run(
            [sys.executable, "-m", "mlflow_project", *command],
            env=environment(store, folder),
            cwd=folder,
            check=True,
            capture_output=True,
        )


def environment(store: str, folder: Path) -> dict[str, str]:
    """That of a command on this store; `PYTHONPATH` since it works in another folder."""
    root = str(Path(__file__).resolve().parents[2])
    own = {"MLFLOW_TRACKING_URI": store, "MLFLOW_PROJECT_STATE": str(folder / "state"), "PYTHONPATH": root}
    return {**os.environ, **own}


@dataclass(frozen=True)
class Template:
    """All rows of one run, by table."""

    run_id: str
    model_id: str
    rows: dict[str, list[Row]]

    def copy(self, number: int) -> Iterator[tuple[str, Row]]:
        """Every row of run `number`, as a grid of learning rates and seeds would have made it."""
        chance = random.Random(number)
        lr = LEARNING_RATES[number % len(LEARNING_RATES)]
        seed = str(1 + number // len(LEARNING_RATES))
        names = {
            self.run_id: hashlib.md5(f"run {number}".encode()).hexdigest(),
            self.model_id: f"m-{hashlib.md5(f'model {number}'.encode()).hexdigest()}",
        }
        changed = {"lr": str(lr), "seed": seed, "mlflow.runName": f"lr={lr} epochs=1 seed={seed}"}
        accuracy = str(round(chance.uniform(0.85, 0.99), 4))
        for table, rows in self.rows.items():
            for row in rows:
                new = {key: _renamed(value, names) for key, value in row.items()}
                key = row.get("key")
                if key in changed:
                    new["value"] = changed[key]
                elif key in _HASHED:
                    new["value"] = hashlib.sha256(f"{key} {number}".encode()).hexdigest()
                elif key == "test_accuracy" and isinstance(row["value"], str):
                    new["value"] = accuracy
                elif isinstance(row.get("value"), float):
                    new["value"] = row["value"] * chance.uniform(0.9, 1.1)
                if table == "runs":
                    new["name"] = changed["mlflow.runName"]
                    new["start_time"] = row["start_time"] - 60_000 * number
                    new["end_time"] = row["end_time"] - 60_000 * number
                if "version" in row:
                    new["version"] = row["version"] + number
                if "input_uuid" in row:
                    new["input_uuid"] = hashlib.md5(f"{row['input_uuid']} {number}".encode()).hexdigest()
                yield table, new


def fill(store: str, count: int, first: int = 1) -> None:
    """Copies the only run of the store until there are `count`, from number `first` on."""
    engine = sqlalchemy.create_engine(store)
    try:
        tables = sqlalchemy.MetaData()
        tables.reflect(engine)
        with engine.connect() as connection:
            template = _template(connection, tables)
        for start in range(first, count, BATCH):
            gathered: dict[str, list[Row]] = {name: [] for name in template.rows}
            for number in range(start, min(start + BATCH, count)):
                for table, row in template.copy(number):
                    gathered[table].append(row)
            with engine.begin() as connection:
                for name, rows in gathered.items():
                    connection.execute(tables.tables[name].insert(), rows)
        if engine.dialect.name == "postgresql":  # as its autovacuum does within minutes
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sqlalchemy.changed("ANALYZE"))
    finally:
        engine.dispose()


def _template(connection: sqlalchemy.Connection, tables: sqlalchemy.MetaData) -> Template:
    def rows(table: str, **where: Any) -> list[Row]:
        source = tables.tables[table]
        computed = {column.name for column in source.columns if column.computed is not None}
        query = sqlalchemy.select(source).filter_by(**where)
        result = connection.execute(query).mappings()
        return [{key: value for key, value in row.items() if key not in computed} for row in result]

    version = min(rows("model_versions"), key=lambda row: row["version"])
    run_id = version["run_id"]
    (model,) = rows("logged_models", source_run_id=run_id)
    result = {
        name: rows(name, run_uuid=run_id) for name in ("runs", "params", "tags", "metrics", "latest_metrics")
    }
    result["inputs"] = rows("inputs", destination_id=run_id) + rows("inputs", source_id=run_id)
    result["logged_models"] = [model]
    for name in ("logged_model_tags", "logged_model_params", "logged_model_metrics"):
        result[name] = rows(name, model_id=model["model_id"])
    result["model_versions"] = [version]
    result["model_version_tags"] = rows("model_version_tags", version=version["version"])
    return Template(run_id, model["model_id"], {name: each for name, each in result.items() if each})


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Ids are replaced in every changed but in addresses of artifacts, which the copies share."""
    if not isinstance(value, str) or "/artifacts" in value:
        return value
    for old, new in names.items():
        value = value.replace(old, new)
    return value
