"""The real `train` under faults: killed, its files torn, its server away; compared with a run left alone."""

import hashlib
import itertools
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType

from mlflow_project.tracking.delivery.client import open_client
from mlflow_project.tracking.journal import format, local_runs
from tests.faults.proxy import FAULTS, Proxy, drawn, well
from tests.faults.rounds import ROOT, Round
from tests.support.tiny import make_tiny, options

EPOCHS = 12
EXPERIMENT = "trained-under-faults"
MEASURED = re.compile(r"seconds|per_second")
"""Metrics of which another run has other values, though at the same steps."""


@dataclass
class Seen:
    """One run as MLflow shows it, without what differs between any two runs."""

    status: str
    parameters: dict[str, str]
    points: dict[str, list[Any]]
    tags: dict[str, str]
    artifacts: dict[str, str]
    """Paths and SHA-256; the part of an image's name that is made up is left out."""
    models: list[str]
    versions: list[dict[str, str]]
    model_files: dict[str, str]
    """Paths and SHA-256 of all but what has the model's own id and times in it."""
    datasets: list[tuple[str, str]]
    differing: set[str] = field(default_factory=set)
    """Artifacts and files of the model of which two undisturbed runs have other bytes: those with measured times."""


class Command:
    """`python -m mlflow_project ...` as a person starts it, against some tracking server."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_EXPERIMENT_NAME": EXPERIMENT,
            "MLFLOW_PROJECT_STATE": str(folder / "state"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *arguments: str, stdout: int | None = None) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "mlflow_project", *arguments]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log if stdout is None else stdout,
                stderr=log,
            )

    def run(self, *arguments: str, seconds: float = 240) -> int:
        process = self.start(*arguments)
        try:
            return process.wait(seconds)
        finally:
            process.kill()
            process.wait()

    @property
    def run_folder(self) -> Path | None:
        """The folder of the run, once it has begun so far that it can be resumed."""
        found = sorted((self.folder / "state" / "runs").glob(f"*/{format.JOURNAL}"))
        ready = [path.parent for path in found if (path.parent / "plan.json").exists()]
        return ready[-1] if ready else None


def arguments(data: Path, seed: int) -> list[str]:
    return ["train", "--lr", "0.05", "--epochs", str(EPOCHS), "--seed", str(seed), *options(data)]


def seen(client: MlflowClient, key: str) -> Seen:
    """The run of this journal; ValueError if there isn't exactly one."""
    (experiment,) = [e for e in client.search_experiments() if e.name == EXPERIMENT]
    runs = client.search_runs([experiment.experiment_id], f"tags.journal_key = '{key}'", ViewType.ACTIVE_ONLY)
    if len(runs) != 1:
        raise ValueError(f"{len(runs)} runs of journal {key}")
    run = client.get_run(runs[0].info.run_id)
    points = {
        name: [
            (point.step, None if MEASURED.search(name) else point.value)
            for point in client.get_metric_history(run.info.run_id, name)
        ]
        for name in run.data.metrics
    }
    made_up = ("journal_key", "mlflow.source.name", "resumed", "mlflow.log-model.history")
    tags = {name: text for name, text in run.data.tags.items() if name not in made_up}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(client.download_artifacts(run.info.run_id, "", folder))
        every = digests(root)
    artifacts = {re.sub(r"\+timestamp\+\d+\+[0-9a-f-]{36}", "", path): value for path, value in every.items()}
    if len(every) != len(artifacts):
        raise ValueError(f"{len(every)} artifacts, some of them twice: {sorted(artifacts)}")
    models = client.search_logged_models(
        [experiment.experiment_id], filter_string=f"source_run_id = '{run.info.run_id}'"
    )
    versions = client.search_model_versions(f"run_id = '{run.info.run_id}'")
    with tempfile.TemporaryDirectory() as folder:
        model_files = {
            f"model {number}/{path}": value
            for number, model in enumerate(models)
            for path, value in digests(_downloaded(client, model, folder)).items()
        }
    kept = ("lr", "epochs", "seed", "weights_sha256", "test_accuracy", "dataset_sha256", "fingerprint")
    return Seen(
        run.info.status,
        dict(run.data.params),
        points,
        tags,
        artifacts,
        [str(model.status) for model in models],
        [{name: version.tags.get(name, "") for name in kept} for version in versions],
        model_files,
        sorted((entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs),
    )


def _downloaded(client: MlflowClient, model: Any, folder: str) -> Path:
    from mlflow.artifacts import download_artifacts

    place = tempfile.mkdtemp(dir=folder)
    return Path(download_artifacts(model.artifact_location, dst_path=place, tracking_uri=client.tracking_uri))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(root: Path) -> dict[str, str]:
    """The SHA-256 of every file below, by its path there."""
    return {p.relative_to(root).as_posix(): digest(p) for p in sorted(root.rglob("*")) if p.is_file()}


def reference(folder: Path, port: int, data: Path, seed: int) -> Seen:
    """Two undisturbed runs, the second of which tells what differs between any two."""
    found = []
    for name in ("first", "second"):
        place = folder / name
        place.mkdir(parents=True)
        command = Command(place, f"http://127.0.0.1:{port}")
        status = command.run(*arguments(data, seed))
        if status or command.run_folder is None:
            raise RuntimeError(
                f"the undisturbed run ended with {status}: {command.log.read_text(encoding='utf-8')[-2000:]}"
            )
        found.append(seen(open_client(f"http://127.0.0.1:{port}"), command.run_folder.name))
    first, second = found
    pairs = (first.artifacts, second.artifacts), (first.model_files, second.model_files)
    first.differing = {
        path for one, other in pairs for path, value in one.items() if other.get(path) != value
    }
    if any(path.endswith(("weights.pt", "detector.pt", "model.pt2")) for path in first.differing):
        raise RuntimeError(f"two undisturbed runs have other models: {sorted(first.differing)}")
    wrong = compare(second, first)
    if wrong:
        raise RuntimeError(f"two undisturbed runs differ: {wrong}")
    return first


def compare(found: Seen, wanted: Seen) -> list[str]:
    """What is wrong with a disturbed run, a line each."""
    if found.tags.get("code_sha256") != wanted.tags.get("code_sha256"):
        return ["the code was changed between the two runs; nothing can be compared"]
    wrong = []
    for name in ("status", "parameters", "models", "versions", "datasets"):
        if getattr(found, name) != getattr(wanted, name):
            wrong.append(f"{name}: {getattr(found, name)} instead of {getattr(wanted, name)}")
    for name, left, right in (
        ("points", found.points, wanted.points),
        ("tags", found.tags, wanted.tags),
        ("artifacts", found.artifacts, wanted.artifacts),
        ("files of the model", found.model_files, wanted.model_files),
    ):
        if missing := right.keys() - left.keys():
            wrong.append(f"{name} missing: {sorted(missing)}")
        if more := left.keys() - right.keys():
            wrong.append(f"{name} too many: {sorted(more)}")
        same = (left.keys() & right.keys()) - wanted.differing
        wrong += [
            f"{name}: {key} is {left[key]}, not {right[key]}"
            for key in sorted(same)
            if left[key] != right[key]
        ]
    return [line[:400] for line in wrong[:8]]


def _steps(run: Seen) -> "Counter[tuple[str, int]]":
    return Counter((name, step) for name, points in run.points.items() for step, _ in points)


def damage(chance: random.Random, folder: Path) -> str:
    """What a power loss does to the newest files; what was done."""
    kind = chance.choice(["nothing", "truncated", "zeroed", "torn journal", "cut journal", "no cursor"])
    newest = folder / "checkpoint.pt"
    journal = folder / format.JOURNAL
    if kind in ("truncated", "zeroed") and newest.exists() and (folder / "checkpoint.previous.pt").exists():
        content = newest.read_bytes()
        at = chance.randrange(len(content))
        newest.write_bytes(content[:at] + (bytes(len(content) - at) if kind == "zeroed" else b""))
    elif kind == "torn journal":
        with journal.open("ab") as stream:
            stream.write(b'{"sha256":"0123')
    elif kind == "cut journal":
        # Synced are what was sent and each epoch, whose last figure this is.
        lines = journal.read_bytes().splitlines(keepends=True)
        ends = list(itertools.accumulate(map(len, lines)))
        synced = [end for end, line in zip(ends, lines, strict=True) if b'"images_per_second"' in line]
        least = max([format.Cursor.load(folder).position, *synced[-1:]])
        if synced:
            os.truncate(journal, chance.choice([end for end in ends if end >= least] or ends[-1:]))
    elif kind == "no cursor":
        (folder / format.CURSOR).unlink(missing_ok=True)
    return kind


def train_round(
    folder: Path, proxy: Proxy, port: int, seed: int, data: Path, wanted: Seen, net: int
) -> Round:
    """One training of the net's seed `net`, with faults drawn from `seed`; `folder` must be empty."""
    chance = random.Random(seed)
    result, started = Round(seed), time.monotonic()
    command = Command(folder, proxy.url)
    proxy.struck.clear()
    names = tuple(sorted(chance.sample(sorted(FAULTS), chance.randint(1, len(FAULTS)))))
    proxy.plan = drawn(seed, chance.choice([0.05, 0.2, 0.4]), names)
    process: subprocess.Popen[bytes] | None = None
    try:
        if chance.random() < 0.4:
            proxy.down()
            result.outages += 1
        for _ in range(chance.randint(0, 3)):
            process = command.start(*_next(command, data, net))
            if _disturb(chance, process, command, proxy, result):
                process.send_signal(chance.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
                process.wait(240)
                result.kills += 1
                if command.run_folder:
                    damage(chance, command.run_folder)
        if not _is_finished(command):
            status = command.run(*_next(command, data, net))
            if status:
                result.differences.append(
                    f"train ended with {status}: {command.log.read_text(encoding='utf-8')[-600:]}"
                )
        proxy.up()
        for _ in range(10):
            if command.run("sync") == 0:
                break
        else:
            result.differences.append(f"sync never ended: {command.log.read_text(encoding='utf-8')[-600:]}")
        result.struck = len(proxy.struck)
        assert command.run_folder is not None
        found = seen(open_client(f"http://127.0.0.1:{port}"), command.run_folder.name)
        result.differences += compare(found, wanted)
        arrived, expected = _steps(found), _steps(wanted)
        result.points = expected.total()
        result.lost, result.twice = (expected - arrived).total(), (arrived - expected).total()
    except (ValueError, subprocess.TimeoutExpired) as error:
        result.differences.append(str(error))
    finally:
        if process is not None:
            process.kill()
            process.wait()
        proxy.plan = well
        proxy.up()
        result.seconds = time.monotonic() - started
    return result


def _next(command: Command, data: Path, net: int) -> list[str]:
    """The arguments that begin the run, or go on with it."""
    folder = command.run_folder
    if folder is None:
        return arguments(data, net)
    run_id = format.Cursor.load(folder).run_id
    return ["train", "--resume", run_id or folder.name]


def _is_finished(command: Command) -> bool:
    folder = command.run_folder
    return folder is not None and local_runs.local_run(folder).state == "finished"


def _disturb(
    chance: random.Random, process: "subprocess.Popen[bytes]", command: Command, proxy: Proxy, result: Round
) -> bool:
    """Let the server come and go until the run has said as much as was drawn; whether it still lives then."""
    lines = chance.randint(1, 110) if chance.random() < 0.8 else 0
    deadline = time.monotonic() + (60 if lines else chance.uniform(0.5, 15))
    away = False
    while process.poll() is None and time.monotonic() < deadline:
        folder = command.run_folder
        if lines and folder and (folder / format.JOURNAL).read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.01)
        if chance.random() < 0.003:
            away = not away
            (proxy.down if away else proxy.up)()
            result.outages += away
    return process.poll() is None


def prepare(folder: Path) -> Path:
    """The images that all of these runs train on."""
    return make_tiny(folder / "data")
