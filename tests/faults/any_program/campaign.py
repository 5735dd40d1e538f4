"""Rounds of faults for programs that know nothing of this project."""

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow_project.tracking.journal import local_runs
from tests.faults.any_program.comparison import (
    Reference,
    compare,
    compare_prefix,
    find_leaks,
    gather_facts,
    refer,
)
from tests.faults.any_program.completeness import check_complete
from tests.faults.any_program.program import Ended, Program
from tests.faults.any_program.recorded import Owner, read
from tests.faults.any_program.schedules import NAMES, Running, draw_schedule
from tests.faults.any_program.snapshot import Content, take_snapshot
from tests.faults.any_program.store import Store
from tests.faults.proxy import Proxy
from tests.faults.server import tracking_server

KILLED_SHARE = 0.3


@dataclass
class ProgramRound:
    """What was done to one execution of a program, and what came of it."""

    program: str
    seed: int
    fault: str
    killed: bool
    struck: int = 0
    seconds: float = 0.0
    points: int = 0
    differences: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        how = f"{self.fault}, killed" if self.killed else self.fault
        result = "\n    ".join(["", *self.differences[:12]]) if self.differences else " as undisturbed"
        counts = f"{self.points} points, {self.struck} requests struck, {self.seconds:.0f} s"
        return f"{self.program}, seed {self.seed}: {how}; {counts}:{result}"


class Campaign:
    """One server, a proxy before it, and the programs' undisturbed executions."""

    def __init__(self, folder: Path, server: Path, port: int, proxy: Proxy) -> None:
        self.folder, self.proxy = folder, proxy
        self.store = Store(server)
        self.uri = f"http://127.0.0.1:{port}"
        self.references: dict[Path, tuple[Reference, int]] = {}

    def refer(self, path: Path) -> tuple[Reference, int]:
        """The undisturbed program and the lines of its record; RuntimeError where it fails by itself."""
        if path not in self.references:
            contents: list[Content] = []
            for name in ("first", "second"):
                self.store.reset()
                program = Program(path, self.folder / path.stem / name, self.uri)
                ended = program.execute()
                if ended.status != 0:
                    raise RuntimeError(
                        f"{path.name} undisturbed ended with {ended.status}: {ended.output[-2000:]}"
                    )
                contents.append(take_snapshot(self.uri))
                owners = read(program.record)
                if wrong := check_complete(contents[-1], owners):
                    raise RuntimeError(
                        f"{path.name} undisturbed isn't what was recorded: " + "; ".join(wrong)[:2000]
                    )
            self.references[path] = refer(contents[1], contents[0], owners), program.count_lines()
        return self.references[path]

    def play(
        self, path: Path, seed: int, fault: str | None = None, killed: bool | None = None
    ) -> ProgramRound:
        """One round; fault and kill are drawn from the seed where they aren't given."""
        reference, lines = self.refer(path)
        chance = random.Random(seed)
        drawn_fault, drawn_kill = chance.choice(list(NAMES)), chance.random() < KILLED_SHARE
        result = ProgramRound(
            path.stem,
            seed,
            drawn_fault if fault is None else fault,
            drawn_kill if killed is None else killed,
        )
        kill_at = chance.randint(1, lines) if result.killed else None
        self.store.reset()
        self.proxy.struck.clear()
        program = Program(
            path, self.folder / path.stem / f"{seed}-{time.time_ns()}", f"durable+{self.proxy.url}"
        )
        schedule = draw_schedule(result.fault, self.proxy, seed)
        with Running(schedule, self.proxy, lambda: program.count_lines() / lines):
            ended = program.execute(kill_at)
        result.seconds, result.struck = ended.seconds, len(self.proxy.struck)
        result.killed = result.killed and ended.status == -9
        result.differences += self._deliver(program, ended, result.killed)
        content, owners = take_snapshot(self.uri), read(program.record, result.killed)
        result.points = sum(len(owner.points) for owner in owners.values())
        result.differences += self._compare(content, owners, reference, result.killed, ended.status != 0)
        return result

    def _deliver(self, program: Program, ended: Ended, killed: bool) -> list[str]:
        """What went wrong in the program itself or in our commands after it."""
        lines = []
        if not killed and ended.status != 0:
            how = "hangs" if ended.status is None else f"ended with {ended.status}"
            lines.append(f"the program {how}: {ended.output[-1500:]}")
        elif "Traceback" in ended.output:
            lines.append(f"the program shows a traceback: {ended.output[-1500:]}")
        commands = [["status", "--repair"], ["sync"]] if killed else [["sync"]]
        if not any(local_runs.local_runs(program.runs_folder, all_=False)):
            commands = []  # neither would find anything, and they take longer than many programs
        for arguments in commands:
            status, output = program.command(*arguments)
            if status:
                lines.append(f"{' '.join(arguments)} ended with {status}: {output[-1500:]}")
        return lines

    def _compare(
        self, content: Content, owners: dict[str, Owner], reference: Reference, killed: bool, partial: bool
    ) -> list[str]:
        lines = check_complete(content, owners)
        facts = gather_facts(content)
        lines += compare_prefix(facts, reference) if partial else compare(facts, reference)
        lines += find_leaks(content, owners.keys() - content.runs.keys() - content.models.keys())
        if not partial or killed:
            running = [run.name for run in content.runs.values() if run.status == "RUNNING"]
            lines += [f"run {name} is RUNNING for ever" for name in running]
        return [line[:1500] for line in lines]


def play_programs(
    paths: Sequence[Path], count: int, seed: int, fault: str | None = None, killed: bool | None = None
) -> int:
    """Play `count` rounds, the programs in turn; 1 if any execution differs from an undisturbed one."""
    rounds = []
    with tempfile.TemporaryDirectory(prefix="programs-") as name:
        folder = Path(name)
        with tracking_server(folder / "server") as port:
            campaign = Campaign(folder, folder / "server", port, Proxy(port))
            for number in range(count):
                path = paths[number % len(paths)]
                if path not in campaign.references:
                    reference, lines = campaign.refer(path)
                    facts, varying = len(reference.facts), len(reference.varying | reference.optional)
                    print(
                        f"{path.stem} undisturbed: {facts} facts, {varying} vary, {lines} calls recorded",
                        flush=True,
                    )
                rounds.append(campaign.play(path, seed + number, fault, killed))
                print(rounds[-1], flush=True)
            campaign.proxy.down()
    print(f"\n{table(rounds)}")
    return 1 if any(each.differences for each in rounds) else 0


def table(rounds: Sequence[ProgramRound]) -> str:
    """A line for each program."""
    by_program: dict[str, list[ProgramRound]] = defaultdict(list)
    for each in rounds:
        by_program[each.program].append(each)
    width = max(map(len, [*by_program, "program"]))
    lines = [f"{'program':{width}}  rounds  killed  requests struck   points  differ"]
    for name, own in by_program.items():
        struck, points = (sum(getattr(each, what) for each in own) for what in ("struck", "points"))
        killed, differ = (sum(map(bool, (getattr(e, w) for e in own))) for w in ("killed", "differences"))
        lines.append(f"{name:{width}}  {len(own):6}  {killed:6}  {struck:15}  {points:7,}  {differ:6}")
    return "\n".join(lines)
