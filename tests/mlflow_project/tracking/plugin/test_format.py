"""What a program's journal has on disk, and what an earlier version reads as ever."""

import json
from pathlib import Path
from typing import Any

from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Artifact, Call, Metric
from mlflow_project.tracking.journal.format import Header
from mlflow_project.tracking.programs import ids


def data_of(value: Any, place: str | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(format.encode_line(1, value, place))["entry"]
    return entry


def test_a_call_is_its_name_and_arguments() -> None:
    call = Call("delete_tag", {"key": "a"})
    assert data_of(call) == {
        "n": 1,
        "kind": "call",
        "data": {"method": "delete_tag", "arguments": {"key": "a"}, "file": None},
    }
    assert format.decode_line(format.encode_line(1, call), Path("files")) == (1, call)


def test_what_is_new_stands_only_where_it_says_something() -> None:
    assert data_of(Metric("m", 1.0, 2, 3))["data"] == {"key": "m", "value": 1.0, "step": 2, "timestamp_ms": 3}
    assert data_of(Metric("m", 1.0, 2, 3, "m-1"))["data"]["model_id"] == "m-1"
    assert data_of(Artifact("a", Path("x")), "0/a")["data"] == {"path": "a", "file": "0/a"}
    assert data_of(Artifact("a", Path("x"), "m-1"), "0/a")["data"]["model_id"] == "m-1"


def test_a_programs_header_says_so() -> None:
    plain: dict[str, Any] = {
        "key": "k", "tracking_uri": "http://h", "experiment": "e", "run_name": "r", "run_id": None, "start_time_ms": 1,
    }  # fmt: skip
    new = {"origin", "provisional_id", "adds_to", "experiment_location", "experiment_id"}
    assert not new & data_of(Header(**plain))["data"].keys()
    header = Header(**plain, origin="addition", adds_to="d0")
    data = data_of(header)["data"]
    assert (data["origin"], data["adds_to"]) == ("addition", "d0")
    assert (header.is_program, header.owns_run) == (True, False)


def test_provisional_ids_have_mlflows_form_and_are_found_in_any_text() -> None:
    run, model, version = ids.new_run_id(), ids.new_model_id(), ids.new_version()
    experiment = ids.experiment_id_of("http://h", "e")
    assert [len(each) for each in (run, model, experiment, version)] == [32, 34, 18, 15]
    assert experiment == ids.experiment_id_of("http://h", "e") != ids.experiment_id_of("http://other", "e")
    text = {"a": [f"runs:/{run}/x", f"models:/{model}"], "b": f"{experiment} {version}", "c": "0" * 32}
    assert ids.find_provisional(text) == {run, model, experiment, version}
    assert ids.replace_ids(text, lambda found: f"<{len(found)}>") == {
        "a": ["runs:/<32>/x", "models:/<34>"],
        "b": "<18> <15>",
        "c": "0" * 32,
    }
