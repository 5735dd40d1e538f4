"""Within the program and its children: note what it logs, with the timestamps that MLflow gave it.

Python imports this before the program when its folder is on PYTHONPATH. A line at the beginning of a call and a line
at its end, each one write to the file FAULTS_RECORD: what was killed in between may be on the server or not.
"""

import importlib.abc
import importlib.machinery
import itertools
import json
import os
import sys

_CLIENT = "mlflow.tracking._tracking_service.client"
_calls = itertools.count()


def _write(line):
    descriptor = os.open(os.environ["FAULTS_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(line) + "\n").encode())
    finally:
        os.close(descriptor)


def _digests(root):
    import hashlib

    def digest(path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()

    if not os.path.isdir(root):
        return {os.path.basename(root): digest(root)}
    found = {}
    for place, _, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            found[os.path.relpath(path, root).replace(os.sep, "/")] = digest(path)
    return found


def _points(metrics):
    return [
        [m.key, m.value, m.step, m.timestamp, getattr(m, "model_id", None)] for m in metrics if m is not None
    ]


def _pairs(entities):
    return [[entity.key, str(entity.value)] for entity in entities or ()]


def _batch(run_id, metrics=(), params=(), tags=()):
    return {"run": run_id, "points": _points(metrics or ()), "params": _pairs(params), "tags": _pairs(tags)}


def _files(owner, local, folder, whole):
    """Paths as they will be on the server; a folder's own name counts where it is logged as one artifact."""
    if not whole and os.path.isdir(local):
        folder = "/".join(filter(None, (folder, os.path.basename(os.path.normpath(local)))))
    return {
        "owner": owner,
        "files": {"/".join(filter(None, (folder, p))): d for p, d in _digests(local).items()},
    }


STORE = {
    "log_metric": lambda run_id, metric: _batch(run_id, [metric]),
    "log_param": lambda run_id, param: _batch(run_id, params=[param]),
    "set_tag": lambda run_id, tag: _batch(run_id, tags=[tag]),
    "delete_tag": lambda run_id, key: {"run": run_id, "deleted": key},
    "log_batch": _batch,
    "log_batch_async": _batch,
    "create_run": lambda experiment_id, user_id, start_time, tags, run_name: {
        "start": start_time,
        "name": run_name,
    },
    "update_run_info": lambda run_id, run_status, end_time, run_name=None: {
        "run": run_id,
        "status": run_status,
        "end": end_time,
        "name": run_name,
    },
    "create_logged_model": lambda *args, **named: {},
    "finalize_logged_model": lambda model_id, status: {"model": model_id, "finalized": str(status)},
}
CLIENT = {
    "log_artifact": lambda owner, local, folder=None: _files(owner, local, folder, whole=False),
    "log_artifacts": lambda owner, local, folder=None: _files(owner, local, folder, whole=True),
    "log_model_artifact": lambda owner, local, folder=None: _files(owner, local, folder, whole=True),
    "log_model_artifacts": lambda owner, local, folder=None: _files(owner, local, folder, whole=True),
}
_NAMES = {
    "run_id": "owner",
    "model_id": "owner",
    "local_path": "local",
    "local_dir": "local",
    "artifact_path": "folder",
}


def _result(name, result):
    if name == "create_run":
        return {"run": result.info.run_id, "start": result.info.start_time}
    if name == "create_logged_model":
        return {"model": result.model_id}
    return {}


def _recorded(name, call, describe):
    def record(*args, **named):
        number, process = next(_calls), os.getpid()
        _write(
            {"process": process, "number": number, "call": name, "now": "begun", **describe(*args, **named)}
        )
        try:
            result = call(*args, **named)
        except BaseException as error:
            _write({"process": process, "number": number, "now": "failed", "error": repr(error)})
            raise
        if not name.endswith("_async"):
            _write({"process": process, "number": number, "now": "ended", **_result(name, result)})
        return result

    return record


def _watch(module):
    client = module.TrackingServiceClient
    plain = client.store.fget

    def store(self):
        found = plain(self)
        # The delivery has clients of its own, for the address within ours.
        if str(self.tracking_uri) == os.environ["MLFLOW_TRACKING_URI"] and "_is_recorded" not in vars(found):
            for name, describe in STORE.items():
                setattr(found, name, _recorded(name, getattr(found, name), describe))
            found._is_recorded = True
        return found

    client.store = property(store)
    for name, describe in CLIENT.items():
        setattr(client, name, _recorded_method(name, getattr(client, name), describe))


def _recorded_method(name, method, describe):
    def call(self, *args, **named):
        if str(self.tracking_uri) != os.environ["MLFLOW_TRACKING_URI"]:
            return method(self, *args, **named)
        renamed = {_NAMES.get(key, key): value for key, value in named.items()}
        recorded = _recorded(name, lambda *_, **__: method(self, *args, **named), describe)
        return recorded(*args, **renamed)

    return call


class _Loader(importlib.abc.Loader):
    def __init__(self, plain):
        self.plain = plain

    def create_module(self, spec):
        return self.plain.create_module(spec)

    def exec_module(self, module):
        self.plain.exec_module(module)
        _watch(module)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _CLIENT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = _Loader(spec.loader)
        return spec


if "FAULTS_RECORD" in os.environ:
    sys.meta_path.insert(0, _Finder())
