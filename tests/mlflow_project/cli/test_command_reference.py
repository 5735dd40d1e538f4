"""docs/commands.md says what the commands' own help says."""

from scripts.command_reference import PAGE, reference


def test_the_page_is_the_help_of_every_command() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "scripts/lint writes docs/commands.md"
