"""A few of the pairs that `scripts/faults --identity` plays in every order."""

from pathlib import Path

import pytest

from tests.faults import identity

pytestmark = pytest.mark.campaign


def test_no_two_actions_on_the_same_run_or_store_lose_or_mix_values(tmp_path: Path) -> None:
    pairs = [("move", "sync"), ("move", "resume"), ("gc", "sync"), ("train", "sweep"), ("resume", "move")]
    results = identity.campaign(tmp_path, pairs)
    assert {pair: wrong for pair, wrong in results.items() if wrong} == {}
