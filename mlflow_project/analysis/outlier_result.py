"""The result of an outlier test, and the defaults of one; nothing is imported for them, `--help` shows them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from hw2.data.image_set import ImageSet
    from hw2.outliers.tables import LabelMatches, ScoredEvaluation
    from mlflow_project.registry.registered_model import LoadedModel
    from mlflow_project.tracking.delivery.status import DeliveryStatus

EXAMPLES = 10
SETS = ("fashion-mnist",)


@dataclass(frozen=True, eq=False, kw_only=True)
class OutlierTest:
    """The result of an outlier test: scores, tables and where its run is.

    Attributes:
        models: By the name that all tables use.
        digits: The models' answers on the digits, by model; outliers: by set and model.
        measures: See `hw2.outliers.tables`, as for thresholds.
        examples: An `outlier_table` by set.
        matches: Of the sets with ten classes; None where there is none.
    """

    models: "dict[str, LoadedModel]"
    digit_set: "ImageSet"
    outlier_sets: dict[str, "ImageSet"]
    digits: dict[str, "ScoredEvaluation"]
    outliers: dict[str, dict[str, "ScoredEvaluation"]]
    measures: "pd.DataFrame"
    thresholds: "pd.DataFrame"
    examples: dict[str, "pd.DataFrame"]
    matches: "LabelMatches | None"
    run_id: str | None = None
    folder: Path | None = None
    delivery: "DeliveryStatus | None" = None
