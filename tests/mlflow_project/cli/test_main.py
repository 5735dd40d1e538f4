"""The command line as a product: help with an example for every command, and nothing heavy before it is needed."""

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from mlflow_project.cli import main


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(commands(main.cli))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_each_command_has_one_line_and_an_example_that_can_be_pasted(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*path, "-h"]) == 0
    text = capsys.readouterr().out
    assert f"  {main.PROGRAM} {' '.join(path)}" in text
    command = COMMANDS[path]
    assert command.short_help or command.help
    without_help = [
        p.name for p in command.params if isinstance(p, click.Option) and not (p.help or p.hidden)
    ]
    assert without_help == []


def test_the_list_of_commands_needs_no_heavy_library_and_no_tracking() -> None:
    code = (
        "import sys; from mlflow_project.cli import main as cli; cli.run(['--help']); cli.run(['train', '--help']); "
        "heavy = {'torch', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'numpy', 'mlflow_project.tracking'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.splitlines()[-1] == ""


def test_a_misspelt_command_is_answered_with_the_one_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["trian"]) == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_an_option_may_be_written_as_mlflow_run_passes_it_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["train", "--batch_size", "0"]) == 2
    assert "batch_size is 0" in capsys.readouterr().err


@pytest.mark.parametrize("empty", ["--lr", "--epochs", "--precision", "--data-dir", "--resume", "--register"])
def test_an_empty_value_is_refused_by_the_name_of_its_option(
    empty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["train", empty, ""]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert empty in line
    assert "empty" in line


def test_no_option_of_any_command_takes_an_empty_value() -> None:
    options = [
        (path, option)
        for path, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag
    ]
    assert options
    for path, option in options:
        arguments = [*path, option.opts[0], ""]
        with pytest.raises(click.BadParameter, match="empty"):
            COMMANDS[path].make_context(path[-1], arguments[len(path) :])
