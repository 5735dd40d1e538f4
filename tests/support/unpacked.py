"""What commit 73a86e6 stored, unpacked into a folder of the test's own and moved there."""

import hashlib
import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "73a86e6"
_PLACES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("runs", "artifact_uri"),
)


def golden(name: str) -> Any:
    """A JSON file beside the stored things."""
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def unpack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Unpack the store, which becomes the test's tracking store, and both state folders; the store's address."""
    import mlflow

    with tarfile.open(FIXTURES / "stored.tar.xz") as archive:
        filters: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since 3.11.4
        archive.extractall(folder, **filters)
    before = golden("expected.json")["folder"]
    connection = sqlite3.connect(folder / "store" / "mlflow.db")
    with connection:
        for table, column in _PLACES:
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (before, str(folder))
            )
    connection.close()
    uri = f"sqlite:///{folder}/store/mlflow.db"
    for journal in folder.glob("*/runs/*/journal.jsonl"):
        _move_journal(journal, uri, folder / "store" / "mlruns")
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


def _move_journal(journal: Path, uri: str, artifacts: Path) -> None:
    first, rest = journal.read_bytes().split(b"\n", 1)
    entry = json.loads(first)["entry"]
    entry["data"] |= {"tracking_uri": uri, "artifact_root": str(artifacts)}
    text = json.dumps(entry, separators=(",", ":")).encode()
    line = b'{"sha256":"%s","entry":%s}' % (hashlib.sha256(text).hexdigest().encode(), text)
    journal.write_bytes(line + b"\n" + rest)
    (journal.parent / "header.json").write_bytes(line + b"\n")
    cursor = journal.parent / "cursor.json"
    if cursor.exists():
        plain = json.loads(cursor.read_text(encoding="utf-8"))
        plain["position"] += len(line) - len(first)
        cursor.write_text(json.dumps(plain), encoding="utf-8")
