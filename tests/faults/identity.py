"""Two things that people do to the same run, store or state folder, in every order, by real processes.

Afterwards no run has values of two configurations, the run that was finished is as it was, no store is there that
nobody wanted, and what was logged is in the store or listed by `status` with what to do.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow_project.tracking.journal import format, local_runs
from mlflow_project.tracking.journal.entities import Metric
from mlflow_project.tracking.journal.writer import Journal
from tests.faults.rounds import ROOT
from tests.support.tiny import make_tiny, options

PROGRAMS = Path(sys.executable).parent
EPOCHS = 40
TIMEOUT_SECONDS = 1800
NEW_STORE = {"sweep", "mlflow run", "delete", "gc"}
"""After a move: what begins runs, and MLflow's own commands, which make whatever store they are pointed to."""
READ = """
import json, sys
from mlflow.entities import ViewType
from mlflow_project.tracking.delivery.client import open_client
client = open_client(sys.argv[1])
ids = [e.experiment_id for e in client.search_experiments(view_type=ViewType.ALL)]
found = {}
for run in client.search_runs(ids, run_view_type=ViewType.ALL):
    history = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    points = {key: sorted((p.step, p.value) for p in values) for key, values in history.items()}
    found[run.info.run_id] = {"run": run.to_dictionary(), "points": points}
print(json.dumps(found))
"""


@dataclass
class Place:
    """A folder with a store, a state folder, a finished run and one that was killed with values to deliver."""

    folder: Path
    data: Path
    finished: str = ""
    killed: str = ""
    before: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process in the campaign."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}",
            "MLFLOW_PROJECT_STATE": str(self.folder / "state"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }

    def execute(
        self, command: Sequence[str | Path], more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A process in this place, to its end."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | dict(more or {}),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
            encoding="utf-8",
        )

    def project(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """A command of ours."""
        return self.execute([sys.executable, "-m", "mlflow_project", *arguments], more)

    def read(self, store: Path) -> dict[str, Any]:
        """All runs of a store, with all points."""
        done = self.execute([sys.executable, "-c", READ, f"sqlite:///{store}"])
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


Action = Callable[[Place], "subprocess.CompletedProcess[str] | None"]


def _move(place: Place) -> None:
    if place.store.exists():
        place.store.rename(place.folder / "moved.db")


def _delete(place: Place) -> subprocess.CompletedProcess[str]:
    return place.execute([PROGRAMS / "mlflow", "runs", "delete", "--run-id", place.killed])


def _gc(place: Place) -> subprocess.CompletedProcess[str]:
    _delete(place)
    uri = f"sqlite:///{place.store}"
    return place.execute([PROGRAMS / "mlflow", "gc", "--backend-store-uri", uri, "--run-ids", place.killed])


def _mlflow_run(place: Place) -> subprocess.CompletedProcess[str]:
    command = [
        PROGRAMS / "mlflow",
        "run",
        str(ROOT),
        "--env-manager",
        "local",
        "-P",
        f"resume={place.killed}",
    ]
    return place.execute([*command, "--experiment-name", "mnist-base-cnn"])


ACTIONS: dict[str, Action] = {
    "train": lambda place: place.project(
        "train", "--lr", "0.02", "--epochs", "1", *options(place.data), MLFLOW_RUN_ID=place.finished
    ),
    "sweep": lambda place: place.project("sweep", "--lr", "0.1,0.2", "--epochs", "1", *options(place.data)),
    "resume": lambda place: place.project("train", "--resume", place.killed),
    "sync": lambda place: place.project("sync"),
    "mlflow run": _mlflow_run,
    "repair": lambda place: place.project("status", "--repair"),
    "delete": _delete,
    "gc": _gc,
    "move": _move,
}


def prepare(folder: Path) -> Place:
    """The place as every pair finds it: a run of lr=0.1 that is finished, one of lr=0.01 that was killed."""
    folder.mkdir()
    place = Place(folder, make_tiny(folder / "tiny"))
    done = place.project("train", "--lr", "0.1", "--epochs", "1", *options(place.data))
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "mlflow_project", "train", "--lr", "0.01", "--epochs", str(EPOCHS)]
    with subprocess.Popen(
        [*command, *options(place.data)],
        cwd=folder,
        env=place.environment,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        lines = ""
        while "epoch  2/" not in lines or " in sqlite:" not in lines:
            line = process.stderr.readline()
            assert line, lines
            lines += line
        process.send_signal(signal.SIGKILL)
    first, second = local_runs.folders(folder / "state" / "runs")
    journal = Journal.open(second)
    journal.append(Metric("last_words", 1.0, 1))
    journal.close()
    place.finished, place.killed = (str(local_runs.local_run(each).run_id) for each in (first, second))
    place.before = place.read(place.store)
    return place


def play(place: Place, pristine: Path, actions: Sequence[str]) -> list[str]:
    """What is wrong after these actions."""
    shutil.rmtree(place.folder)
    shutil.copytree(pristine, place.folder)
    wrong = []
    for name in actions:
        done = ACTIONS[name](place)
        if done is not None and name not in ("delete", "gc") and "Traceback" in done.stderr:
            wrong.append(f"{name}: traceback: {done.stderr.splitlines()[-1][:150]}")
    return wrong + list(_check(place, actions))


def _check(place: Place, actions: Sequence[str]) -> Iterator[str]:
    stores = {path.name for path in place.folder.glob("*.db")}
    wanted = {"mlflow.db"}
    if "move" in actions:
        later = set(actions[actions.index("move") + 1 :])
        wanted = {"moved.db"} | ({"mlflow.db"} if later & NEW_STORE else set())
    if stores != wanted:
        yield f"stores are {sorted(stores)}, wanted {sorted(wanted)}"
    found: dict[str, Any] = {}
    for name in sorted(stores):
        found |= place.read(place.folder / name)
    if found.get(place.finished) != place.before[place.finished]:
        yield "the finished run has changed"
    for run_id, each in found.items():
        yield from (
            f"run {run_id}: {key} has two values at a step"
            for key, points in each["points"].items()
            if len({step for step, _ in points}) != len(points)
        )
        parameters, name = each["run"]["data"]["params"], each["run"]["info"]["run_name"]
        if (
            "lr" in parameters
            and name.startswith("lr=")
            and f"lr={float(parameters['lr']):g} " not in f"{name} "
        ):
            yield f"run {run_id} is named {name} and has lr={parameters['lr']}"
    listed = place.project("status", "--format", "json")
    rows = {row["run_id"]: row for row in json.loads(listed.stdout or "[]")}
    for folder in local_runs.folders(place.folder / "state" / "runs"):
        run = local_runs.local_run(folder)
        if run.pending and not (rows.get(run.run_id) or rows.get(run.key) or {}).get("action"):
            yield f"run {run.run_id} has {run.pending} values to deliver and status doesn't say what to do"
        elif not run.pending and run.run_id in found:
            points = found[run.run_id]["points"]
            missing = {
                value.key
                for item in format.read_entries(folder)
                if isinstance(item, format.Entry) and isinstance(value := item.value, Metric)
                if value.step not in [step for step, _ in points.get(value.key, [])]
            }
            if missing:
                yield f"run {run.run_id} says that all is delivered and lacks {sorted(missing)}"


def campaign(folder: Path, pairs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """Each pair's faults, printed as they come."""
    place = prepare(folder / "place")
    pristine = folder / "pristine"
    shutil.copytree(place.folder, pristine)
    results = {}
    for pair in pairs:
        results[pair] = play(place, pristine, pair)
        print(f"{pair[0]}, then {pair[1]}: {'; '.join(results[pair]) or 'ok'}", flush=True)
    return results


def all_pairs() -> list[tuple[str, str]]:
    """Every two actions in both orders, and each action twice."""
    return list(itertools.product(ACTIONS, repeat=2))


def table(results: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Rows are what came first; `ok`, the number of faults, or a dash for a pair that wasn't played."""
    width = max(map(len, ACTIONS)) + 2
    lines = ["".join(name.ljust(width) for name in ("", *ACTIONS))]
    for first in ACTIONS:
        outcomes = [results.get((first, second)) for second in ACTIONS]
        cells = ["-" if wrong is None else str(len(wrong) or "ok") for wrong in outcomes]
        lines.append("".join(cell.ljust(width) for cell in (first, *cells)))
    return "\n".join(line.rstrip() for line in lines)
