"""What the links to our views open: few runs and many, written into SQLite or through a server."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.service import filled_store
from mlflow_project.common.names import NOTE_TAG
from mlflow_project.common.ui_links import experiment_page
from mlflow_project.training import ui_views
from mlflow_project.training.log_values import IMAGE_GRID
from tests.browser.conftest import ONE_MORE, SWEEP
from tests.browser.page import Page, missing, opened
from tests.browser.test_ui import scroll_down
from tests.faults.server import tracking_server

pytestmark = pytest.mark.browser

EXPERIMENT = "mnist-base-cnn"
MANY = 200
SHOWN = 10  # runs that a chart has, and rows that are compared
NAME = "attributes.`Run Name`"
READ_ROWS = """
const rows = {};
for (const cell of document.querySelectorAll('.ag-row [col-id]')) {
    const number = cell.closest('.ag-row').getAttribute('row-index');
    (rows[number] ??= {})[cell.getAttribute('col-id')] = (cell.querySelector('a') ?? cell).innerText.trim();
}
return rows;
"""


@dataclass(frozen=True)
class Place:
    """A server with the UI, and its runs as MLflow orders them."""

    name: str
    client: MlflowClient
    page: Page

    @property
    def experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        return str(experiment.experiment_id)

    def runs(self, condition: str = "") -> list[Run]:
        """The most accurate first."""
        return list(
            self.client.search_runs([self.experiment_id], condition, order_by=["metrics.test_accuracy DESC"])
        )

    def open(self, view: ui_views.View) -> None:
        """Follows the link in the experiment's description that names this view."""
        note = self.client.get_experiment(self.experiment_id).tags[NOTE_TAG]
        (address,) = re.findall(rf"\((#\S+{view.key})\)", note)
        self.page.open(f"/{address}")

    def rows(self) -> list[dict[str, str]]:
        """The cells of the table that are drawn, by column."""
        rows = self.page.driver.execute_script(READ_ROWS)
        return [rows[number] for number in sorted(rows, key=int)]

    def columns(self) -> set[str]:
        """The columns of the first row; none while there is no row."""
        return set().union(*self.rows()[:1])


@contextmanager
def commands(folder: Path, address: str, *, many: bool) -> Iterator[None]:
    """Lets commands of ours write runs into a store: a sweep and a training, or one and copies of it."""
    from mlflow_project.cli.main import run

    with pytest.MonkeyPatch.context() as patch:
        folder.mkdir(exist_ok=True)
        patch.chdir(folder)
        patch.setenv("MLFLOW_PROJECT_STATE", str(folder / "state"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))  # no full data there: the sample
        patch.setenv("MLFLOW_TRACKING_URI", address)
        assert run(ONE_MORE) == 0
        if not many:
            assert run(SWEEP) == 0
        yield


@pytest.fixture(scope="module", params=["sqlite-6", "server-6", f"sqlite-{MANY}", f"server-{MANY}"])
def place(
    request: pytest.FixtureRequest,
    migrated_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
) -> Iterator[Place]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    way, count = request.param.split("-")
    folder, many = tmp_path_factory.mktemp(request.param), int(count) == MANY
    store = migrated_store
    if way == "sqlite":
        store = folder / "store.db"
        shutil.copyfile(migrated_store, store)
        with commands(folder / "work", f"sqlite:///{store}", many=many):
            if many:
                filled_store.fill(f"sqlite:///{store}", MANY)
    shots = pytestconfig.getoption("--screenshots", None) or tmp_path_factory.mktemp("screenshots")
    with tracking_server(folder / "server", store) as port:
        address = f"http://127.0.0.1:{port}"
        if way == "server":
            with commands(folder / "work", address, many=many):
                if many:
                    filled_store.fill(f"sqlite:///{folder}/server/server.db", MANY)
        with opened(address, Path(shots).absolute()) as page:
            yield Place(request.param, MlflowClient(address, registry_uri=address), page)
    shutil.rmtree(folder, ignore_errors=True)


def test_the_table_shows_columns_with_values_unfolded_and_the_best_first(place: Place) -> None:
    place.open(ui_views.table())
    expected = place.runs()
    wanted = [run.info.run_name for run in expected[:SHOWN]]
    place.page.wait(
        "rows in the order of their accuracy",
        lambda: [row.get(NAME) for row in place.rows()[:SHOWN]] == wanted,
    )
    place.page.close_assistant()
    place.page.wait("the last column", lambda: "params.`seed`" in place.columns())
    for row, run in zip(place.rows(), expected[:SHOWN], strict=False):
        for name in ui_views.PARAMETERS:
            assert row[f"params.`{name}`"] == run.data.params.get(name, "-")
        for name in ui_views.METRICS:
            text = row[f"metrics.`{name}`"]
            assert (
                text == "-"
                if name not in run.data.metrics
                else float(text) == pytest.approx(run.data.metrics[name])
            )
    place.page.shot(f"table_{place.name}")


def test_the_charts_have_all_images_and_nothing_that_is_not_in_the_view(place: Place) -> None:
    place.open(ui_views.charts())
    count = min(SHOWN, len(place.runs(ui_views.TRAININGS)))
    place.page.reads("Test accuracy\n(2)")
    place.page.shot(f"charts_{place.name}")
    images: dict[str, set[str]] = {figure: set() for figure in IMAGE_GRID}
    sections: set[tuple[str, str]] = set()

    def seen_on_the_way_down() -> bool:  # a chart is drawn when it comes into sight
        for address in place.page.loaded_images():
            for figure, seen in images.items():
                if f"images%2F{figure}%2B" in address:
                    seen.add(address)
        sections.update(re.findall(r"^(.+)\n(\(\d+\))$", place.page.text, re.MULTILINE))
        scroll_down(place.page)
        return all(len(seen) == count for seen in images.values())

    place.page.wait(f"{count} images of each of {IMAGE_GRID}", seen_on_the_way_down)
    place.page.shot(f"images_{place.name}")
    assert sections == {("Test accuracy", "(2)"), ("By epoch", "(2)"), ("Images", "(2)")}


def test_the_description_opens_both_views(place: Place) -> None:
    place.page.open(f"/#/experiments/{place.experiment_id}/runs?workflowType=machine_learning")
    place.page.reads("Table of runs, the best first")
    addresses = [element.get_attribute("href") for element in place.page.all("a")]
    for view in (ui_views.table(), ui_views.charts()):
        assert f"{place.page.server}/{experiment_page(place.experiment_id, view.query)}" in addresses


def test_a_persons_own_columns_survive_a_later_run(place: Place) -> None:
    plain = f"/#/experiments/{place.experiment_id}/runs?workflowType=machine_learning"
    place.page.open(plain)
    # The list of columns unfolds only the groups that it has when it is opened: parameters come with the runs.
    place.page.wait("rows", place.rows)
    place.page.click("button", "Columns")
    place.page.click('[role="treeitem"], .ant-tree-treenode, [class*="tree-treenode"]', "momentum")
    place.page.wait("a column of momentum", lambda: "params.`momentum`" in place.columns())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", place.page.server)
        from mlflow_project.cli.main import run

        assert run([*ONE_MORE, "--seed", "5"]) == 0
    place.open(ui_views.table())
    place.page.wait("our columns", lambda: "params.`seed`" in place.columns())
    assert "params.`momentum`" not in place.columns()
    place.page.open(plain)
    place.page.wait("the person's column", lambda: "params.`momentum`" in place.columns())
    assert "params.`seed`" not in place.columns()
