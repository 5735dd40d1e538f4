"""Programs that nobody changed, under `durable+http` and faults, leave what they leave without faults."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.any_program.campaign import Campaign
from tests.faults.proxy import Proxy
from tests.faults.server import tracking_server

pytestmark = pytest.mark.campaign

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory, migrated_store: Path) -> Iterator[Campaign]:
    """A server of its own, since it's emptied before every program."""
    folder = tmp_path_factory.mktemp("campaign")
    with tracking_server(folder / "server", migrated_store) as port:
        proxy = Proxy(port)
        yield Campaign(folder, folder / "server", port, proxy)
        proxy.down()


@pytest.mark.parametrize(
    ("program", "fault", "killed"),
    [
        ("fluent", "away during a model", False),
        ("fluent", "everything", True),
        ("mlflow_client", "never one", False),
        ("lightning_logger", "none at first", False),
        ("sklearn_autolog", "resets", False),
        ("processes", "away in the middle", False),
    ],
)
def test_a_program_under_faults_leaves_what_it_leaves_without(
    campaign: Campaign, program: str, fault: str, killed: bool
) -> None:
    result = campaign.play(PROGRAMS / f"{program}.py", random.randrange(1 << 30), fault, killed)
    assert result.differences == [], result
