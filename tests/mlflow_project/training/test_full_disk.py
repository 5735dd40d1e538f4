"""A state disk that is full at a training's end: one short line, and `status` says what to do about it."""

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mlflow_project.cli import main
from tests.support.tiny import only_run, options

pytestmark = pytest.mark.usefixtures("unrendered")


def refuse_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when the files of a model are copied, each of them."""

    def copytree(source: Path, target: Path, **_: Any) -> None:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        raise shutil.Error(
            [(str(source / name), str(target / name), str(full)) for name in "abcdefghijklmnop"]
        )

    monkeypatch.setattr(shutil, "copytree", copytree)


def test_a_full_disk_is_one_short_line_and_status_lists_the_run_until_it_is_resumed(
    tiny: Path, store: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as disk:
        refuse_folders(disk)
        assert main.run(["train", "--epochs", "1", *options(tiny)]) == 1
    lines = capfd.readouterr().err.splitlines()
    run = only_run(store)
    assert run.info.status == "FAILED"
    assert "No space left on device" in lines[-1]
    for text in (*(line for line in lines if "disk" in line), run.data.tags["reason"]):
        assert len(text) < 500, text
        assert "('" not in text
    assert main.run(["status", "--format", "json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)
    assert row["state"] == "failed"
    assert f"train --resume {run.info.run_id}" in row["action"]
    assert main.run(["train", "--resume", run.info.run_id]) == 0
    capfd.readouterr()
    assert main.run(["status", "--format", "json"]) == 0
    assert json.loads(capfd.readouterr().out) == []
