"""What an outlier test has found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from hw2.data.image_set import ImageSet
    from hw2.outliers.tables import LabelMatches, ScoredEvaluation
    from mlflow_project.registry.registered_model import LoadedModel
    from mlflow_project.tracking.delivery.status import DeliveryStatus


@dataclass(frozen=True, eq=False, kw_only=True)
class OutlierTest:
    """What was found.

    models: by the name that all tables use; digits: by model, outliers: by set and model. measures and
    thresholds: see `hw2.outliers.tables`; examples: by set, an `outlier_table`; matches: of the sets whose
    classes have the numbers of digits, None where there is none.
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
