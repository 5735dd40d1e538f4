"""Suite `service` of the benchmarks at a tiny size: every command it times ends well on the store that it fills."""

from argparse import ArgumentParser

import pytest

from benchmarks.service import commands as service


@pytest.mark.campaign
def test_every_command_answers_on_a_filled_store() -> None:
    parser = ArgumentParser()
    service.options(parser)
    arguments = parser.parse_args(["--runs", "20", "--rounds", "1", "--clients", "2", "--stores", "sqlite"])
    result = service.run(arguments)
    seconds = {str(row["what"]): row["s at 20 runs"] for row in result.rows}
    assert set(seconds) == {*service.COMMANDS, "first page", "values per second of 2 clients"}
    assert all(value for value in seconds.values())
