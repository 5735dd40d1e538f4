"""What MLflow's own stores check of a value, at the call and with their exceptions."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.utils import validation

from mlflow_project.common.store_uri import inner_uri, redact


def check_address(store_uri: str) -> None:
    """Check that an address names a server or a file.

    Raises:
        MlflowException: It doesn't.
    """
    uri = inner_uri(store_uri)
    if not uri.partition(":")[2].strip("/") or (uri.startswith("http") and not _names_server(uri)):
        raise MlflowException(
            f"{redact(store_uri)} names no store; write durable+ and the address, as in durable+http://127.0.0.1:5000",
            INVALID_PARAMETER_VALUE,
        )


def _names_server(uri: str) -> bool:
    parts = urlsplit(uri)
    try:
        _ = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and not any(letter.isspace() for letter in parts.netloc)


def check_metric(metric: Any) -> None:
    validation._validate_metric(metric.key, metric.value, metric.timestamp, metric.step)


def check_batch(
    run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]
) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
    """Return a batch as it may be stored: what is too long may have been cut, if MLflow's variables say so.

    Raises:
        MlflowException: It may not.
    """
    validation._validate_run_id(run_id)
    metrics, params, tags = validation._validate_batch_log_data(metrics, params, tags) or (
        metrics,
        params,
        tags,
    )
    validation._validate_batch_log_limits(metrics, params, tags)
    validation._validate_param_keys_unique(params)
    return metrics, params, tags


def check_active(run_id: str, lifecycle_stage: str) -> None:
    """Check that a run isn't deleted.

    Raises:
        MlflowException: It is.
    """
    if lifecycle_stage != "active":
        raise MlflowException(
            f"The run {run_id} must be in the 'active' state. Current state is {lifecycle_stage}.",
            INVALID_PARAMETER_VALUE,
        )


def check_unchanged(run_id: str, params: Sequence[Any], known: Mapping[str, str], *, one: bool) -> list[Any]:
    """Return the parameters that are new.

    Raises:
        MlflowException: One has another value than before.
    """
    changed = [
        {"key": param.key, "old_value": known[param.key], "new_value": param.value}
        for param in params
        if known.get(param.key, param.value) != param.value
    ]
    if changed and one:
        first = changed[0]
        raise MlflowException(
            f"Changing param values is not allowed. Param with key='{first['key']}' was already logged with "
            f"value='{first['old_value']}' for run ID='{run_id}'. Attempted logging new value '{first['new_value']}'.",
            INVALID_PARAMETER_VALUE,
        )
    if changed:
        raise MlflowException(
            f"Changing param values is not allowed. Params were already logged='{changed}' for run ID='{run_id}'.",
            INVALID_PARAMETER_VALUE,
        )
    return [param for param in params if param.key not in known]


def run_name_of(run_name: str | None, tags: Sequence[Any]) -> str:
    """Return the name of a new run, a random one where nobody names it.

    Raises:
        MlflowException: It is named twice, and differently.
    """
    from mlflow.utils.name_utils import _generate_random_name

    tagged = next((tag.value for tag in tags if tag.key == "mlflow.runName"), None)
    if run_name and tagged and run_name != tagged:
        raise MlflowException(
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{run_name}', mlflow.runName='{tagged}').",
            INVALID_PARAMETER_VALUE,
        )
    return str(run_name or tagged or _generate_random_name())
