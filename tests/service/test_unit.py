"""The unit for systemd is one that systemd takes, and that starts `serve` with options it knows."""

import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

from mlflow_project.cli.commands.serve import serve

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "mlflow-project.service"


def service() -> dict[str, str]:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT, encoding="utf-8")
    return dict(unit["Service"])


def test_its_command_has_options_that_serve_knows() -> None:
    program, command, *arguments = shlex.split(service()["ExecStart"])
    assert Path(program).name == "mlflow-project"
    context = serve.make_context(command, arguments)
    assert context.params["auth"]
    assert context.params["store"] is None  # EnvironmentFile has it, with its password


def test_systemd_knows_each_of_its_settings(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        return  # a container may have none; what it starts is tested above
    here = tmp_path / UNIT.name
    program = shlex.split(service()["ExecStart"])[0]
    here.write_text(UNIT.read_text(encoding="utf-8").replace(program, sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", here],
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert UNIT.name not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
