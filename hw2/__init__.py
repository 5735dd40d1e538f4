"""The experiment: images, model, training, evaluation and figures. Knows nothing of MLflow and prints nothing.

Names are imported from their modules at their first use, so that `import hw2` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw2.common.errors import CheckpointError as CheckpointError
    from hw2.common.errors import ComparisonError as ComparisonError
    from hw2.common.errors import ConfigurationError as ConfigurationError
    from hw2.common.errors import DataError as DataError
    from hw2.common.errors import DivergenceError as DivergenceError
    from hw2.common.errors import Hw2Error as Hw2Error
    from hw2.comparison.compare import compare as compare
    from hw2.comparison.model_predictions import ModelPredictions as ModelPredictions
    from hw2.data.image_set import Dataset as Dataset
    from hw2.data.image_set import ImageSet as ImageSet
    from hw2.data.image_set import load_dataset as load_dataset
    from hw2.data.image_set import load_split as load_split
    from hw2.evaluation.evaluate import evaluate as evaluate
    from hw2.evaluation.predictions import read_predictions as read_predictions
    from hw2.evaluation.result import Evaluation as Evaluation
    from hw2.models.base_cnn import BaseCNN as BaseCNN
    from hw2.models.factory import new_model as new_model
    from hw2.outliers.assessment import assess as assess
    from hw2.outliers.detector import OutlierDetector as OutlierDetector
    from hw2.training.config import TrainingConfig as TrainingConfig
    from hw2.training.trainer import Trainer as Trainer

_MODULES = {
    "common.errors": (
        "CheckpointError", "ComparisonError", "ConfigurationError", "DataError", "DivergenceError", "Hw2Error",
    ),
    "comparison.compare": ("compare",),
    "comparison.model_predictions": ("ModelPredictions",),
    "data.image_set": ("Dataset", "ImageSet", "load_dataset", "load_split"),
    "evaluation.evaluate": ("evaluate",),
    "evaluation.predictions": ("read_predictions",),
    "evaluation.result": ("Evaluation",),
    "models.base_cnn": ("BaseCNN",),
    "models.factory": ("new_model",),
    "outliers.assessment": ("assess",),
    "outliers.detector": ("OutlierDetector",),
    "training.config": ("TrainingConfig",),
    "training.trainer": ("Trainer",),
}  # fmt: skip
_EXPORTS = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
