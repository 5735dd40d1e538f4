"""Write docs/commands.md: the help of every command, as `-h` prints it. The tests compare the page with this."""

from collections.abc import Iterator
from pathlib import Path

import click

from mlflow_project.cli.main import PROGRAM, cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "commands.md"
HEAD = """# Commands

The help of every command, as `-h` prints it; `scripts/lint` writes this page. `--batch_size` means `--batch-size`:
`mlflow run -P batch_size=128` passes it on so.
"""


def sections(command: click.Command, name: str, above: click.Context | None = None) -> Iterator[str]:
    """Yield the section of a command, then those of its subcommands."""
    context = command.context_class(
        command, info_name=name, parent=above, terminal_width=100, **command.context_settings
    )
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for subcommand_name in command.list_commands(context):
            subcommand = command.get_command(context, subcommand_name)
            assert subcommand is not None
            yield from sections(subcommand, subcommand_name, context)


def reference() -> str:
    """Return the page."""
    return "\n".join([HEAD, *sections(cli, PROGRAM)])


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
