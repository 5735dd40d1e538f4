"""A handful of the rounds that `scripts/faults` draws by the dozen."""

import random
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.faults.rounds import play_round

pytestmark = pytest.mark.campaign


@pytest.mark.parametrize("number", [1, 2])
def test_a_run_killed_and_cut_off_at_random_ends_as_if_undisturbed(
    server: int, proxy: Proxy, tmp_path: Path, number: int
) -> None:
    seed = random.randrange(1 << 30)
    result = play_round(tmp_path, proxy, server, seed)
    assert result.differences == [], result
