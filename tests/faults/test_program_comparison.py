"""The comparison of two executions sees every difference, and no ID, time or made-up name is one."""

import copy
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from mlflow_project.common.names import KEY_TAG
from tests.faults.any_program.comparison import (
    compare,
    compare_prefix,
    find_leaks,
    gather_facts,
    label,
    refer,
)
from tests.faults.any_program.completeness import check_complete
from tests.faults.any_program.program import Program
from tests.faults.any_program.recorded import Owner, read
from tests.faults.any_program.schedules import NAMES, Running, Schedule, draw_schedule
from tests.faults.any_program.snapshot import Content, Stored, Version, take_snapshot
from tests.faults.proxy import well


def write(uri: str, place: Path) -> dict[str, str]:
    """A parent with a child, a model and a version, as any program could; IDs by name."""
    mlflow.set_tracking_uri(uri)  # the SQL store resolves models:/ by it, whatever the client's address is
    client = MlflowClient(uri, registry_uri=uri)
    experiment = client.create_experiment("e", str(place / "artifacts"))
    parent = client.create_run(experiment, run_name="parent").info.run_id
    child = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    for step, value in enumerate((0.5, float("nan"), 0.25)):
        client.log_metric(parent, "loss", value, step=step)
    client.log_param(parent, "lr", 0.1)
    client.set_tag(parent, "team", "a")
    client.log_text(child, f"my parent is {parent}", "notes/a.txt")
    model = client.create_logged_model(experiment, "net", parent, params={"width": "3"})
    files = place / "model"
    files.mkdir(parents=True)
    (files / "MLmodel").write_text(f"run_id: {parent}\nmodel_uuid: {place}\n", encoding="utf-8")
    client.log_model_artifacts(model.model_id, str(files))
    client.finalize_logged_model(model.model_id, "READY")
    client.create_registered_model("r")
    client.create_model_version("r", f"models:/{model.model_id}", parent, model_id=model.model_id)
    client.set_registered_model_alias("r", "best", "1")
    client.set_terminated(child)
    client.set_terminated(parent)
    return {"experiment": experiment, "parent": parent, "child": child, "model": model.model_id}


def test_two_executions_are_alike_whatever_their_ids_and_times(
    store: str, tmp_path: Path, migrated_store: Path
) -> None:
    other = tmp_path / "other.db"
    shutil.copyfile(migrated_store, other)
    ids = [write(store, tmp_path / "a"), write(f"sqlite:///{other}", tmp_path / "b")]
    first, second = take_snapshot(store), take_snapshot(f"sqlite:///{other}")
    assert ids[0]["parent"] != ids[1]["parent"]
    reference = refer(first, second, {})
    assert (reference.varying, reference.optional) == (set(), set())
    assert compare(gather_facts(second), reference) == []
    assert {
        "run e: parent / unnamed: file notes/a.txt",
        "run e: parent: points loss",
        "model of run e: parent: net: file MLmodel",
        "registered r 1: aliases",
    } <= reference.facts.keys()


Change = Callable[[MlflowClient, dict[str, str]], object]
CHANGES: list[tuple[Change, str]] = [
    (lambda c, i: c.log_metric(i["parent"], "loss", 9, step=1), "points loss has 1 too much"),
    (lambda c, i: c.log_metric(i["parent"], "new", 9), "too much: run e: parent: points new"),
    (lambda c, i: c.log_param(i["child"], "lr", 1), "too much: run e: parent / unnamed: param lr"),
    (lambda c, i: c.set_tag(i["parent"], "team", "b"), "tag team is 'b', not 'a'"),
    (lambda c, i: c.delete_tag(i["parent"], "team"), "missing: run e: parent: tag team"),
    (
        lambda c, i: c.delete_tag(i["child"], "mlflow.parentRunId"),
        "missing: run e: parent / unnamed, as a whole",
    ),
    (lambda c, i: c.log_text(i["child"], "else", "notes/a.txt"), "file notes/a.txt is"),
    (lambda c, i: c.log_text(i["child"], "more", "b.txt"), "too much: run e: unnamed: file b.txt"),
    (lambda c, i: c.set_terminated(i["child"], "FAILED"), "status is 'FAILED', not 'FINISHED'"),
    (lambda c, i: c.create_run(i["experiment"], run_name="again"), "too much: run e: again, as a whole"),
    (lambda c, i: c.set_logged_model_tags(i["model"], {"a": "b"}), "net: tag a"),
    (
        lambda c, i: c.log_model_params(i["model"], {"depth": "2"}),
        "too much: model of run e: parent: net: param depth",
    ),
    (lambda c, i: c.finalize_logged_model(i["model"], "FAILED"), "net: status is 'FAILED'"),
    (lambda c, i: c.set_model_version_tag("r", "1", "x", "y"), "too much: registered r 1: tag x"),
    (lambda c, i: c.delete_registered_model_alias("r", "best"), "registered r 1: aliases is ()"),
    (
        lambda c, i: c.create_model_version("r", f"models:/{i['model']}", i["parent"]),
        "too much: registered r 2, as a whole",
    ),
    (lambda c, i: c.delete_logged_model(i["model"]), "missing: model of run e: parent: net, as a whole"),
    (lambda c, i: c.delete_run(i["child"]), "status is 'deleted'"),
]


def test_each_kind_of_difference_is_seen(store: str, tmp_path: Path) -> None:
    ids = write(store, tmp_path)
    client = MlflowClient(store, registry_uri=store)
    before = take_snapshot(store)
    for change, expected in CHANGES:
        change(client, ids)
        after = take_snapshot(store)
        lines = compare(gather_facts(after), refer(before, before, {}))
        assert expected in "\n".join(lines)
        before = after


def test_tags_of_delivery_are_no_difference(store: str, tmp_path: Path) -> None:
    ids = write(store, tmp_path)
    before = take_snapshot(store)
    MlflowClient(store).set_tag(ids["parent"], KEY_TAG, "x")
    assert compare(gather_facts(take_snapshot(store)), refer(before, before, {})) == []


def test_what_two_undisturbed_executions_have_differently_must_only_be_there() -> None:
    first, second = (stored_content(Stored("n", "e", "FINISHED", {}, {"x": x}, [], {}, {})) for x in "ab")
    reference = refer(first, second, {})
    assert reference.varying == {"run e: n: tag x"}
    third = stored_content(Stored("n", "e", "FINISHED", {}, {"x": "c"}, [], {}, {}))
    assert compare(gather_facts(third), reference) == []
    third.runs["1" * 32].tags.clear()
    assert compare(gather_facts(third), reference) == ["missing: run e: n: tag x"]


def stored_content(run: Stored) -> Content:
    return Content({}, {}, {"1" * 32: run}, {}, {})


LOGGED = Owner(
    points={("loss", 0.5, 1, 1000), ("odd", float("nan"), 2, 1001), ("odd", float("inf"), 3, 1002)},
    params={"lr": "1"},
    start=7,
    end=9,
    status="FINISHED",
)
LOGGED.tags["team"] = ["a"]
LOGGED.files["a.txt"] = ["aa"]


def stored_as_logged() -> Stored:
    points = [
        ("loss", 0.5, 1, 1000),
        ("odd", float("nan"), 2, 1001),
        ("odd", 1.7976931348623157e308, 3, 1002),
    ]
    files = {"a.txt": "aa"}
    return Stored("n", "e", "FINISHED", {"lr": "1"}, {"team": "a"}, points, {}, files, start=7, end=9)


def damage(stored: Stored, **changed: object) -> Stored:
    for name, value in changed.items():
        setattr(stored, name, value)
    return stored


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({"points": stored_as_logged().points[1:]}, "1 points lost"),
        ({"points": [*stored_as_logged().points, ("loss", 0.5, 1, 1001)]}, "1 points that were never logged"),
        ({"points": [*stored_as_logged().points, ("loss", 0.5, 1, 1000)]}, "1 points twice"),
        ({"params": {"lr": "2"}}, "parameter lr is 2, not 1"),
        ({"params": {}}, "parameter lr is None"),
        ({"tags": {}}, "tag team is None, not a"),
        ({"digests": {"a.txt": "bb"}}, "file a.txt is bb, not aa"),
        ({"start": 8}, "start is 8, not 7"),
        ({"end": None}, "end is None, not 9"),
        ({"status": "KILLED"}, "status is KILLED, not FINISHED"),
    ],
)
def test_each_loss_of_what_was_logged_is_seen(changed: dict[str, object], expected: str | None) -> None:
    lines = check_complete(stored_content(damage(stored_as_logged(), **changed)), {"1" * 32: LOGGED})
    assert (expected is None and lines == []) or (expected is not None and expected in "".join(lines)), lines


def test_a_run_is_known_by_the_id_that_the_program_saw() -> None:
    content = stored_content(stored_as_logged())
    seen = {"2" * 32: LOGGED}
    assert check_complete(content, seen) == [f"{'2' * 32} isn't on the server"]
    content.runs["1" * 32].tags["mlflow.parentRunId"] = "2" * 32
    assert len(check_complete(content, seen)) == 1
    content.runs["1" * 32].tags["durable.provisional_run_id"] = "2" * 32
    assert check_complete(content, seen) == []


def test_what_was_logged_under_a_provisional_id_and_the_real_one_is_of_one_run() -> None:
    content = stored_content(stored_as_logged())
    content.runs["1" * 32].tags["durable.provisional_run_id"] = "2" * 32
    begun = Owner(points={("loss", 0.5, 1, 1000)}, start=7)
    rest = Owner(points=LOGGED.points - begun.points, end=9, status="FINISHED")
    assert check_complete(content, {"2" * 32: begun, "1" * 32: rest}) == []
    assert check_complete(content, {"2" * 32: begun}) != []


def test_what_was_cut_off_may_be_there_or_not() -> None:
    owner = copy.deepcopy(LOGGED)
    owner.maybe_points = {("loss", 0.1, 2, 1003)}
    owner.tags["team"] = ["a", "b"]
    for more in ([], [("loss", 0.1, 2, 1003)]):
        for tag in "ab":
            stored = damage(stored_as_logged(), tags={"team": tag})
            stored.points += more
            assert check_complete(stored_content(stored), {"1" * 32: owner}) == []
    lines = check_complete(stored_content(damage(stored_as_logged(), tags={"team": "c"})), {"1" * 32: owner})
    assert lines == ["n: tag team is c, not a or b"]


def test_a_killed_program_leaves_a_part_and_nothing_else() -> None:
    whole = stored_content(stored_as_logged())
    reference = refer(whole, whole, {})
    part = stored_content(damage(stored_as_logged(), status="KILLED", points=stored_as_logged().points[:2]))
    assert compare_prefix(gather_facts(part), reference) == []
    part.runs["1" * 32].points += [("loss", 0.5, 1, 2000)]
    assert compare_prefix(gather_facts(part), reference) == [
        f"run e: n: {kind} loss: 1 too much, such as {point}"
        for kind, point in (("points", (1, "0.5")), ("steps", 1))
    ]
    part.runs["1" * 32].params["lr"] = "3"
    assert "run e: n: param lr is '3', not '1'" in compare_prefix(gather_facts(part), reference)


def test_a_killed_program_may_not_have_renamed_its_run_yet() -> None:
    whole = stored_content(damage(stored_as_logged(), name="late"))
    reference = refer(whole, whole, {"1" * 32: Owner(names=["early", "late"])})
    part = stored_content(damage(stored_as_logged(), name="early"))
    assert compare_prefix(gather_facts(part), reference) == []


def test_a_provisional_id_that_reaches_the_server_is_seen() -> None:
    unknown = "m-" + "3" * 32
    content = stored_content(damage(stored_as_logged(), files={"MLmodel": f"model_id: {unknown}".encode()}))
    assert find_leaks(content, {unknown}) == [f"MLmodel of {'1' * 32} has the provisional ID {unknown}"]
    assert find_leaks(content, {"m-" + "4" * 32}) == []
    version = Version("READY", f"models:/{unknown}", None, None, None, {}, [])
    content.registered["r"] = type("R", (), {"versions": {"1": version}})()
    assert len(find_leaks(content, {unknown})) == 2


def test_runs_that_nobody_named_are_told_apart_by_their_order() -> None:
    content = Content({}, {}, {}, {}, {})
    for number in range(3):
        name = f"clever-ape-{number}"
        content.runs[str(number) * 32] = Stored(name, "e", "FINISHED", {}, {}, [], {}, {}, start=9 - number)
    assert [label(content)[str(n) * 32] for n in range(3)] == [
        "run e: unnamed (3)",
        "run e: unnamed (2)",
        "run e: unnamed",
    ]


class FakeProxy:
    """Remembers whether it's up."""

    def __init__(self) -> None:
        self.plan = well
        self.history: list[str] = []

    def up(self) -> None:
        self.history.append("up")

    def down(self) -> None:
        self.history.append("down")


@pytest.mark.parametrize("name", NAMES)
def test_the_server_is_there_when_a_schedule_has_ended(name: str) -> None:
    proxy = FakeProxy()
    schedule = draw_schedule(name, proxy, 1)  # type: ignore[arg-type]
    with Running(schedule, proxy, lambda: 0.0):  # type: ignore[arg-type]
        assert (proxy.history == ["down"]) == schedule.begins_down
        assert proxy.plan is schedule.plan
        for request in (
            "PUT /api/2.0/mlflow-artifacts/a",
            "POST /api/2.0/mlflow/logged-models ",
            "POST /runs/update ",
        ):
            for _ in range(20):
                schedule.plan(request)
    assert proxy.plan is well
    assert proxy.history[-1] == "up"
    if name.startswith("away during") or name == "away at the end":
        assert proxy.history.count("down") == 1


def test_a_server_goes_when_the_program_is_half_way() -> None:
    proxy, progress, gone = FakeProxy(), 0.0, threading.Event()
    schedule = Schedule("half", actions=[(0.5, 0.0, proxy.down), (0.0, 0.0, gone.set)])
    with Running(schedule, proxy, lambda: progress):  # type: ignore[arg-type]
        assert not gone.wait(0.1)
        progress = 0.5
        assert gone.wait(30)
    assert proxy.history == ["down", "up"]


PROGRAM = """
import mlflow, os, signal
from pathlib import Path
from mlflow import MlflowClient
with mlflow.start_run(run_name="r") as run:
    mlflow.log_metric("loss", 0.5, step=3, timestamp=1000)
    MlflowClient().log_metric(run_id=run.info.run_id, key="loss", value=float("nan"), timestamp=1001, step=4)
    mlflow.log_param("lr", 0.1)
    mlflow.set_tag("a", "b")
    mlflow.log_text("hello", "notes/a.txt")
    Path("f/g").mkdir(parents=True)
    Path("f/g/h").write_bytes(b"")
    mlflow.log_artifact("f")
    mlflow.log_artifacts("f", artifact_path="x")
    try:
        mlflow.log_param("lr", 0.2)
    except mlflow.MlflowException:
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.process
def test_what_a_program_logs_is_recorded_though_it_is_killed(store: str, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text(PROGRAM, encoding="utf-8")
    program = Program(tmp_path / "p.py", tmp_path / "p", store)
    ended = program.execute()
    assert ended.status == -9, ended.output
    ((run_id, owner),) = read(program.record, killed=True).items()
    assert {point[:1] + point[2:] for point in owner.points} == {("loss", 3, 1000), ("loss", 4, 1001)}
    assert owner.params == {"lr": "0.1"}
    assert owner.tags["a"] == ["b"]
    assert set(owner.files) == {"notes/a.txt", "f/g/h", "x/g/h"}
    assert (owner.names, owner.status) == (["r"], None)
    assert owner.start == mlflow.get_run(run_id).info.start_time
    assert check_complete(take_snapshot(store), {run_id: owner}) == []
