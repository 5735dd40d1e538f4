"""Experiment tracking for small image classifiers on MLflow: what the commands do, as functions that print nothing.

Each name is imported when it is first used, so that `import mlflow_project` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw2.common.errors import CheckpointError as CheckpointError
    from hw2.common.errors import ComparisonError as ComparisonError
    from hw2.common.errors import ConfigurationError as ConfigurationError
    from hw2.common.errors import DataError as DataError
    from hw2.common.errors import DivergenceError as DivergenceError
    from hw2.common.errors import Hw2Error as Hw2Error
    from hw2.training.config import TrainingConfig as TrainingConfig
    from mlflow_project.analysis.compare_runs import compare_runs as compare_runs
    from mlflow_project.analysis.outlier_test import run_outlier_test as run_outlier_test
    from mlflow_project.analysis.run_selection import Selection as Selection
    from mlflow_project.common.errors import BackupError as BackupError
    from mlflow_project.common.errors import DeliveryError as DeliveryError
    from mlflow_project.common.errors import Interrupted as Interrupted
    from mlflow_project.common.errors import JournalError as JournalError
    from mlflow_project.common.errors import RegistryError as RegistryError
    from mlflow_project.common.errors import RunBusyError as RunBusyError
    from mlflow_project.common.errors import RunError as RunError
    from mlflow_project.common.errors import ServiceError as ServiceError
    from mlflow_project.common.errors import StoreError as StoreError
    from mlflow_project.common.errors import SweepError as SweepError
    from mlflow_project.common.errors import UsageError as UsageError
    from mlflow_project.registry.promotion import promote as promote
    from mlflow_project.registry.registered_model import RegisteredModel as RegisteredModel
    from mlflow_project.reports.page import make_report as make_report
    from mlflow_project.searches.search import search as search
    from mlflow_project.server.backup import backup as backup
    from mlflow_project.server.backup import restore as restore
    from mlflow_project.sweeps.reproduce import reproduce as reproduce
    from mlflow_project.sweeps.sweep import sweep as sweep
    from mlflow_project.tracking import start_run as start_run
    from mlflow_project.tracking.delivery.client import migrate_store as migrate_store
    from mlflow_project.tracking.journal.local_runs import local_runs as local_runs
    from mlflow_project.tracking.sync import sync as sync
    from mlflow_project.training.train import resume as resume
    from mlflow_project.training.train import train as train

_MODULES = {
    "hw2.common.errors": (
        "CheckpointError",
        "ComparisonError",
        "ConfigurationError",
        "DataError",
        "DivergenceError",
        "Hw2Error",
    ),
    "hw2.training.config": ("TrainingConfig",),
    "mlflow_project.analysis.compare_runs": ("compare_runs",),
    "mlflow_project.analysis.outlier_test": ("run_outlier_test",),
    "mlflow_project.analysis.run_selection": ("Selection",),
    "mlflow_project.common.errors": (
        "BackupError",
        "DeliveryError",
        "Interrupted",
        "JournalError",
        "RegistryError",
        "RunBusyError",
        "RunError",
        "ServiceError",
        "StoreError",
        "SweepError",
        "UsageError",
    ),
    "mlflow_project.registry.promotion": ("promote",),
    "mlflow_project.registry.registered_model": ("RegisteredModel",),
    "mlflow_project.reports.page": ("make_report",),
    "mlflow_project.searches.search": ("search",),
    "mlflow_project.server.backup": ("backup", "restore"),
    "mlflow_project.sweeps.reproduce": ("reproduce",),
    "mlflow_project.sweeps.sweep": ("sweep",),
    "mlflow_project.tracking": ("start_run",),
    "mlflow_project.tracking.delivery.client": ("migrate_store",),
    "mlflow_project.tracking.journal.local_runs": ("local_runs",),
    "mlflow_project.tracking.sync": ("sync",),
    "mlflow_project.training.train": ("resume", "train"),
}
_EXPORTS = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_EXPORTS[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
