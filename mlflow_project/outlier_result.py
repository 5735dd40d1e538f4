"""What an outlier test has found."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from hw2.data import ImageSet
    from hw2.outlier_tables import Judged, Matches
    from mlflow_project.delivery_status import Delivery
    from mlflow_project.registry import LoadedModel


@dataclass(frozen=True, eq=False, kw_only=True)
class OutlierTest:
    """What was found.

    models: by the name that all tables use; digits: by model, outliers: by set and model. measures and
    thresholds: see `hw2.outlier_tables`; examples: by set, an `outlier_table`; matches: of the sets whose
    classes have the numbers of digits, None where there is none.
    """

    models: "dict[str, LoadedModel]"
    digit_set: "ImageSet"
    outlier_sets: dict[str, "ImageSet"]
    digits: dict[str, "Judged"]
    outliers: dict[str, dict[str, "Judged"]]
    measures: "pd.DataFrame"
    thresholds: "pd.DataFrame"
    examples: dict[str, "pd.DataFrame"]
    matches: "Matches | None"
    run_id: str | None = None
    folder: Path | None = None
    delivery: "Delivery | None" = None
