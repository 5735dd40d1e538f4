"""The views of MLflow's page of runs, as data; tests/browser/test_views.py looks at the page itself."""

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hw2.training.config import TrainingConfig
from mlflow_project.training import ui_views
from mlflow_project.training.log_values import BATCH_METRIC, EPOCH_METRICS, IMAGE_GRID

USUAL = TrainingConfig()


def content(view: ui_views.View) -> dict[str, Any]:
    """The state as MLflow's page reads it from the tag."""
    value = view.tag[1].removeprefix("deflate;")
    return dict(json.loads(zlib.decompress(base64.b64decode(value, validate=True))))


def test_a_tag_holds_the_state_under_a_name_made_of_its_content() -> None:
    table, wider = ui_views.table(), ui_views.table(["momentum"])
    assert content(table) == table.state
    assert table.tag[0] == f"mlflow.sharedViewState.{table.key}"
    assert table.query.endswith(f"viewStateShareKey={table.key}")
    assert table.key == ui_views.table().key
    assert len({table.key, wider.key, ui_views.charts().key}) == 3


@pytest.mark.parametrize(
    "view", [ui_views.table(ui_views.VARIED), ui_views.charts()], ids=lambda view: view.mode
)
def test_a_tag_stays_far_below_what_mlflow_takes(view: ui_views.View) -> None:
    assert len(view.tag[1]) < ui_views.MAX_TAG_LENGTH


def test_the_table_is_ordered_by_accuracy_and_shows_what_tells_runs_apart() -> None:
    state = ui_views.table().state
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test_accuracy`", False)
    assert set(state["selectedColumns"]) == {
        *(f"params.`{name}`" for name in ("lr", "epochs", "batch_size", "seed")),
        *(f"metrics.`{name}`" for name in ("test_accuracy", "train_seconds", "outlier_rejected")),
    }
    assert set(state["selectedColumns"]) < set(state["columnOrder"])


@pytest.mark.parametrize(
    ("configs", "columns"),
    [
        ([USUAL], ()),
        ([replace(USUAL, seed=seed, lr=0.1) for seed in range(3)], ()),
        ([replace(USUAL, dataset="fashion-mnist")], ("dataset",)),
        ([USUAL, replace(USUAL, momentum=0.9)], ("momentum",)),
        ([replace(USUAL, momentum=0.9)] * 2, ("momentum",)),
        ([replace(USUAL, validation_size=100)] * 2, ()),
        ([replace(USUAL, validation_size=size) for size in (100, 200)], ("validation_size",)),
        ([replace(USUAL, threads=4, device="cpu")], ()),
    ],
)
def test_what_else_differs_has_a_column(configs: list[TrainingConfig], columns: tuple[str, ...]) -> None:
    assert ui_views.varied(configs) == columns
    assert ui_views.table_of(configs) == ui_views.table(columns)


def test_a_data_set_stands_in_the_table_by_its_name_not_its_path() -> None:
    columns = ui_views.table(["dataset"]).state["selectedColumns"]
    assert "tags.`dataset`" in columns
    assert "params.`dataset`" not in columns


def test_the_charts_show_validation_beside_training_and_both_image_grids() -> None:
    cards = [card for card in ui_views.charts().state["compareRunCharts"] if not card["deleted"]]
    curves = [card["selectedMetricKeys"] for card in cards if card["type"] == "LINE"]
    assert curves == [["train_loss", "validation_loss"], ["train_accuracy", "validation_accuracy"]]
    assert [card["imageKeys"] for card in cards if card["type"] == "IMAGE"] == [[key] for key in IMAGE_GRID]
    assert [card["type"] for card in cards] == ["BAR", "SCATTER", "LINE", "LINE", "IMAGE", "IMAGE"]


def test_each_card_lies_in_a_section_and_has_a_name_of_its_own() -> None:
    state = ui_views.charts().state
    sections = {section["uuid"] for section in state["compareRunSections"]}
    cards = state["compareRunCharts"]
    assert {card["metricSectionId"] for card in cards} == sections
    assert len({card["uuid"] for card in cards}) == len(cards)


def test_a_training_adds_no_chart_of_mlflows_own() -> None:
    assert {*EPOCH_METRICS, BATCH_METRIC} <= charted()


def test_the_example_in_the_readme_opens_the_views() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    for view in (ui_views.table(), ui_views.charts()):
        assert f"/#/experiments/1/runs?workflowType=machine_learning&{view.query}\n" in readme


def charted() -> set[str]:
    """The metrics that have a card in the charts, also one that is not shown."""
    return {card.get("metricKey") for card in ui_views.charts().state["compareRunCharts"]}
