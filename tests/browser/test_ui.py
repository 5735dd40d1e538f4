"""What a person sees in MLflow's UI after a sweep: clicked through, and kept as screenshots (--screenshots DIR)."""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from mlflow_project.training.log_values import BATCH_METRIC, EPOCH_METRICS
from tests.browser.conftest import MODEL, NAMES, Site
from tests.browser.page import Page

pytestmark = pytest.mark.browser

FIGURES = (
    "confusion_matrix.png",
    "dataset_examples.png",
    "loss_curve.png",
    "outlier_predictions.png",
    "outlier_scores.png",
    "reliability.png",
)

IN_THE_GRID = ("confusion_matrix", "outlier_predictions")
"""Figures that are logged as images, too."""


def open_experiment(browser: Page, site: Site) -> None:
    browser.open(f"/#/experiments/{site.experiment_id}?workflowType=machine_learning")
    browser.reads("matching runs", "sweep lr=0.1,0.01 epochs=1,2")


def expand(browser: Page) -> None:
    """Shows the runs below the sweep's, by the arrow before its name; the page remembers that it was clicked."""

    def shown() -> bool:
        if not all(name in browser.text for name in NAMES):
            browser.click(".ag-row button")
            time.sleep(2)
        return all(name in browser.text for name in NAMES)

    browser.wait("the runs below the sweep's", shown)


def test_the_page_without_a_view_has_names_that_say_the_configuration(browser: Page, site: Site) -> None:
    open_experiment(browser, site)
    browser.reads("Compare runs whose tag dataset_sha256 is the same")
    expand(browser)
    browser.shot("experiment")
    assert "No traces" not in browser.text


def test_runs_that_are_selected_in_the_table_are_compared(browser: Page, site: Site) -> None:
    open_experiment(browser, site)
    expand(browser)
    for row in browser.all('.ag-pinned-left-cols-container [role="row"], .ag-row'):
        if any(name in row.text.splitlines() for name in NAMES):
            box = row.find_elements("css selector", 'input[type="checkbox"]')
            if box and not box[0].is_selected():
                browser.driver.execute_script("arguments[0].click()", box[0])
    browser.click("button", "Compare")
    browser.reads("Comparing 5 Runs from 1 Experiment")


def open_comparison(browser: Page, site: Site) -> None:
    runs, experiments = quote(json.dumps(site.run_ids)), quote(json.dumps([site.experiment_id]))
    browser.open(f"/#/compare-runs?runs={runs}&experiments={experiments}")
    browser.reads("Comparing 5 Runs from 1 Experiment", *NAMES)


def shown_parameters(browser: Page) -> set[str]:
    """The keys in the comparison's table of parameters."""
    section = browser.text.rsplit("\nParameters\n", 1)[-1].split("\nMetrics\n")[0]
    return {line.split("\t")[0].strip() for line in section.splitlines()}


def test_the_comparison_shows_what_differs_and_the_metrics(browser: Page, site: Site) -> None:
    open_comparison(browser, site)
    browser.reads("test_accuracy_low", "outlier_auroc", "validation_size")
    browser.click('[aria-label="Parameters - Show diff only"]')
    browser.wait("only the parameters that differ", lambda: "validation_size" not in browser.text)
    left = shown_parameters(browser)
    assert {"lr", "epochs"} <= left
    assert not {"batch_size", "seed", "momentum", "dataset"} & left
    browser.show('[aria-label="collapse Run details"]')
    browser.shot("comparison")


def test_figures_stand_side_by_side(browser: Page, site: Site) -> None:
    open_comparison(browser, site)
    for figure in FIGURES:
        browser.show(f'[aria-label="{figure}"]')
    for figure in ("outlier_predictions.png", "confusion_matrix.png"):
        before = set(browser.loaded_images())  # those of another figure say nothing of this one
        browser.click(f'[aria-label="{figure}"]')
        browser.wait(
            f"{len(NAMES)} images of {figure}",
            lambda before=before: len(set(browser.loaded_images()) - before) >= len(NAMES),  # type: ignore[misc]
        )
        browser.show('[aria-label="collapse Artifacts"]')
        browser.shot(f"comparison_{figure.removesuffix('.png')}")


def scroll_down(browser: Page) -> None:
    """A third of a window, in whatever scrolls; from the end to the start, for what was not drawn in time."""
    browser.driver.execute_script(
        "for (const e of document.querySelectorAll('div')) if (e.scrollHeight > e.clientHeight + 50)"
        " e.scrollTop = e.scrollTop + e.clientHeight + 1 < e.scrollHeight ? e.scrollTop + 300 : 0"
    )


def open_charts(browser: Page, site: Site) -> None:
    open_experiment(browser, site)
    browser.click('input[name="runs-view-mode"][value="CHART"] + span, label:has(input[value="CHART"])')
    browser.reads("Model metrics")
    expand(browser)


def test_the_chart_view_has_a_chart_for_each_metric(browser: Page, site: Site) -> None:
    open_charts(browser, site)
    browser.reads("test_accuracy", BATCH_METRIC)
    browser.shot("charts")
    wanted = {*EPOCH_METRICS} - {"suspended_seconds"}  # of a process that was stopped, as none here was

    def seen_on_the_way_down() -> bool:  # a chart is drawn when it comes into sight
        wanted.difference_update([key for key in wanted if key in browser.text])
        scroll_down(browser)
        return not wanted

    browser.wait("a chart for each metric of an epoch", seen_on_the_way_down)


def test_the_image_grids_of_the_chart_view_have_the_figures_of_all_runs(browser: Page, site: Site) -> None:
    open_charts(browser, site)
    seen: dict[str, set[str]] = {figure: set() for figure in IN_THE_GRID}

    def seen_on_the_way_down() -> bool:
        for address in browser.loaded_images():
            for figure, images in seen.items():
                if f"images%2F{figure}%2B" in address:
                    images.add(address)
        scroll_down(browser)
        return all(len(images) == len(NAMES) for images in seen.values())

    browser.wait(f"{len(NAMES)} images of each of {IN_THE_GRID}", seen_on_the_way_down)
    browser.shot("image_grid")


def test_the_registered_model_says_what_it_is_and_which_version_to_use(browser: Page, site: Site) -> None:
    browser.open(f"/#/models/{MODEL}")
    browser.reads("chosen on validation accuracy, never on test", "Version 4", "Version 1", "champion")
    browser.reads("BaseCNN, lr=0.1")
    browser.shot("registered_model")


def test_a_version_has_its_model_card(browser: Page, site: Site) -> None:
    browser.open(f"/#/models/{MODEL}/versions/1")
    browser.reads(
        "of 1,000 test images correct",
        "95 % interval",
        "has an AUROC of",
        "Its threshold",
        f'mlflow.pyfunc.load_model("models:/{MODEL}/1")',
        "It was trained on the small bundled sample",
        "weights_sha256",
    )
    browser.shot("version")


@pytest.fixture
def report(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a report of all runs."""
    from mlflow_project.cli.main import run

    monkeypatch.setenv("MLFLOW_TRACKING_URI", site.address)
    page = tmp_path / "report.html"
    assert run(["report", "--runs", ",".join(site.run_ids), "--output", str(page)]) == 0
    return page.as_uri()


@contextmanager
def screen(browser: Page, width: int, height: int, scale: int, mobile: bool) -> Iterator[None]:
    """A browser whose screen has this size."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        yield
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_report_of_a_sweep_fits_a_phone_and_prints(browser: Page, report: str) -> None:
    driver = browser.driver
    with screen(browser, 375, 700, scale=2, mobile=True):
        driver.get(report)
        browser.reads("The verdicts")
        width, *wide = driver.execute_script(
            "return [document.documentElement.scrollWidth,"
            " ...[...document.images].filter(i => i.getBoundingClientRect().width > 375"
            " && !(getComputedStyle(i.parentElement).overflowX == 'auto' && i.parentElement.clientWidth < 375))"
            ".map(i => i.alt)]"
        )
        assert (width, wide) == (375, [])
        broken = driver.execute_script("return [...document.images].filter(i => !i.naturalWidth).length")
        assert broken == 0
        browser.shot("report_on_a_phone")
        assert base64.b64decode(driver.print_page()).startswith(b"%PDF-")


def test_each_model_s_table_of_the_report_fits_beside_its_curve(browser: Page, report: str) -> None:
    with screen(browser, 1200, 900, scale=1, mobile=False):
        browser.driver.get(report)
        browser.reads("shares its training with")
        wide = "[...document.querySelectorAll('.beside > .scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
        assert browser.driver.execute_script(f"return {wide}") == 0


def test_the_run_above_the_sweep_says_what_the_grid_was(browser: Page, site: Site) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(site.address, registry_uri=site.address)
    parent = client.get_run(site.run_ids[0]).data.tags["mlflow.parentRunId"]
    browser.open(f"/#/experiments/{site.experiment_id}/runs/{parent}?workflowType=machine_learning")
    browser.reads("A grid of 4 trials", "epochs in 2 jobs", "cells_completed")
    browser.shot("sweep")
