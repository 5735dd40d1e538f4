"""Views of MLflow's page of runs, as plain data: which columns and charts it shows, in which order.

MLflow's UI shares a view by a tag of the experiment, which holds the state of the page, and an address that names
the tag. The form of the state was read in MLflow 2.22, 3.17 and 3.18. A page that does not find or cannot read the
tag opens without the view.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hw2.training.config import TrainingConfig

TAG_PREFIX = "mlflow.sharedViewState."
MAX_TAG_LENGTH = 2_500
"""Half of what MLflow 2 takes as the value of an experiment's tag; MLflow 3 takes 20,000 characters."""

TABLE, CHART = "TABLE", "CHART"
PARAMETERS = ("lr", "epochs", "batch_size", "seed")
METRICS = ("test_accuracy", "train_seconds", "outlier_rejected")
VARIED = (
    *(
        "dataset",
        "model",
        "optimizer",
        "momentum",
        "nesterov",
        "weight_decay",
        "label_smoothing",
        "clip_norm",
    ),
    *("schedule", "warmup", "augment", "patience", "precision", "validation_size"),
)
"""Parameters that have a column where they tell something; how a machine is used tells nothing of a model."""

WITHOUT_CHART = (
    "batch_loss",
    "best_epoch",
    "epoch_seconds",
    "images_per_second",
    "last_epoch",
    "model_size_bytes",
    "outlier_auroc",
    "outlier_rejected",
    "suspended_seconds",
    "test_accuracy_high",
    "test_accuracy_low",
    "test_calibration_error",
    "test_loss",
    "test_rejected",
    "test_seconds",
)
"""A training's metrics of which the charts show nothing: MLflow adds one for each that a view does not mention."""

TRAININGS = "params.lr != ''"
"""Finished or not: neither sweeps nor outlier tests, whose metrics are others."""

_ORDER = "metrics.`test_accuracy`"
# Pixels, so that a window of 1,360 shows all columns, and the name of a sweep whole.
_WIDTHS = {
    "attributes.`Run Name`": 240,
    "runDateAndNestInfo": 145,
    "metrics.`test_accuracy`": 115,
    "metrics.`outlier_rejected`": 125,
    "params.`lr`": 70,
    "params.`epochs`": 70,
    "params.`batch_size`": 95,
    "params.`seed`": 65,
}
_WIDTH = 110  # of all other columns

# All that the page keeps, since MLflow 2 takes what is missing for empty.
_STATE: dict[str, Any] = {
    "searchFilter": "",
    "orderByKey": _ORDER,
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [],
    "columnOrder": [],
    "columnWidths": {},
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_10_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "isAccordionReordered": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}


@dataclass(frozen=True)
class View:
    """What the page of runs shows. mode: TABLE or CHART; state: as the page itself keeps it."""

    mode: str
    state: Mapping[str, Any] = field(repr=False)

    @property
    def key(self) -> str:
        """By which an address names the view: the beginning of its content's SHA-256."""
        return hashlib.sha256(self._text().encode()).hexdigest()[:16]

    @property
    def query(self) -> str:
        """What opens the view, in the address of an experiment's page."""
        return f"compareRunsMode={self.mode}&viewStateShareKey={self.key}"

    @property
    def tag(self) -> tuple[str, str]:
        """Key and value of the experiment's tag that holds the view."""
        content = base64.b64encode(zlib.compress(self._text().encode(), 9)).decode()
        return TAG_PREFIX + self.key, f"deflate;{content}"

    def _text(self) -> str:
        return json.dumps(self.state, separators=(",", ":"))


def table_of(configs: Iterable[TrainingConfig]) -> View:
    """The table that has a column of all that tells these configurations apart."""
    return table(varied(configs))


def varied(configs: Iterable[TrainingConfig]) -> tuple[str, ...]:
    """The parameters that tell these configurations apart from each other or from what is usual."""
    chosen = list(configs)
    usual = TrainingConfig()

    def values(name: str) -> set[Any]:
        # Without a number of its own it is a twelfth of every set: another set, another number.
        default = set() if name == "validation_size" else {getattr(usual, name, None)}
        return {getattr(config, name, None) for config in chosen} | default

    return tuple(name for name in VARIED if len(values(name)) > 1)


def table(others: Iterable[str] = ()) -> View:
    """All runs in one list, models of a sweep among them, the most accurate first.

    others: parameters that have a column beside those that every table has.
    """
    # What a data set is called is a tag; its parameter may be a path.
    names = {"dataset": "tags.`dataset`"}
    parameters = [names.get(name, f"params.`{name}`") for name in dict.fromkeys([*PARAMETERS, *others])]
    parameters.sort(key=lambda column: column.startswith("tags"))
    columns = [*(f"metrics.`{name}`" for name in METRICS), *parameters]
    order = ["attributes.`Run Name`", "runDateAndNestInfo", *columns]
    widths = {column: _WIDTHS.get(column, _WIDTH) for column in order}
    state = {"selectedColumns": columns, "columnOrder": order, "columnWidths": widths}
    return View(TABLE, {**_STATE, **state})


def charts() -> View:
    """The ten best runs: accuracy, learning curves with validation beside training, image grids; nothing else."""
    accuracy, epochs, images = "Test accuracy", "By epoch", "Images"
    hidden = [_card("BAR", accuracy, metricKey=key, deleted=True) for key in WITHOUT_CHART]
    cards = [
        _card("BAR", accuracy, metricKey="test_accuracy"),
        _card(
            "SCATTER",
            accuracy,
            xaxis={"key": "train_seconds", "type": "METRIC"},
            yaxis={"key": "test_accuracy", "type": "METRIC"},
        ),
        _card("BAR", accuracy, metricKey="train_seconds", deleted=True),
        *(_curves(epochs, title, key) for key, title in (("loss", "Loss"), ("accuracy", "Accuracy"))),
        *(_card("BAR", epochs, metricKey=f"validation_{key}", deleted=True) for key in ("loss", "accuracy")),
        *(
            _card("IMAGE", images, imageKeys=[key], step=0, showRunParams=False)
            for key in ("confusion_matrix", "outlier_predictions")
        ),
        *hidden,
    ]
    for number, card in enumerate(cards):
        card["uuid"] = str(number)
    sections = [_section(accuracy, 2, 300), _section(epochs, 2, 360), _section(images, 1, 500)]
    state = {
        "searchFilter": TRAININGS,
        "compareRunCharts": cards,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }
    return View(CHART, {**_STATE, **state})


def _card(kind: str, section: str, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "runsCountToCompare": 10,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        **more,
    }


def _curves(section: str, title: str, key: str) -> dict[str, Any]:
    return _card(
        "LINE",
        section,
        metricKey=f"train_{key}",
        selectedMetricKeys=[f"train_{key}", f"validation_{key}"],
        displayName=title,
        lineSmoothness=0,
        xAxisScaleType="linear",
        scaleType="linear",
        range={},
        xAxisKey="step",
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )


def _section(name: str, columns: int, height: int) -> dict[str, Any]:
    return {
        "uuid": name,
        "name": name,
        "display": True,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        "columns": columns,
        "cardHeight": height,
    }
