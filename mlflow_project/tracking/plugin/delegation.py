"""Which methods of a `durable+` store are its own, and which the real one carries out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from mlflow_project.tracking.hub.hub import Hub
from mlflow_project.tracking.plugin import runs
from mlflow_project.tracking.programs.passing import is_delivering

Method = Callable[..., Any]


def complete(
    store: type,
    interface: type,
    real: Callable[[Hub], Any],
    straight: Callable[[str], Method],
    untouched: Collection[str] = (),
) -> None:
    """Give a store the methods of MLflow's interface that it lacks, and let all pass through where delivery calls them.

    Args:
        store: The class; its objects have a `_hub`.
        interface: MLflow's abstract store.
        real: Returns the real store of a hub.
        straight: Makes the method of a name that the real store carries out.
        untouched: Methods that stay as they are.
    """
    for name in dict.fromkeys([*vars(store), *dir(interface)]):
        if name.startswith("_") or name in untouched or not callable(getattr(store, name)):
            continue
        method = vars(store).get(name) or straight(name)
        setattr(store, name, _pass_while_delivering(name, method, real))


def real_call(hub: Hub, method: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> Method:
    """Return a method's call on the store that it will be given, with real IDs in place of provisional ones."""
    real = [runs.with_real_ids(hub, value) for value in arguments]
    real_named = {key: runs.with_real_ids(hub, value) for key, value in named.items()}
    return lambda store: getattr(store, method)(*real, **real_named)


def _pass_while_delivering(name: str, method: Method, real: Callable[[Hub], Any]) -> Method:
    def passing(self: Any, *arguments: Any, **named: Any) -> Any:
        if is_delivering():
            return getattr(real(self._hub), name)(*arguments, **named)
        return method(self, *arguments, **named)

    passing.__name__ = name
    return passing
