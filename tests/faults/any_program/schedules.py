"""What happens to a program's server, and when."""

import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.proxy import Plan, Proxy, drawn, well

Action = Callable[[], None]
ARTIFACT = re.compile(r"PUT .*mlflow-artifacts")
MODEL = re.compile(r"POST .*/logged-models[ /?]")
END = re.compile(r"POST .*/runs/update ")


@dataclass
class Schedule:
    """When the program has got so far (0 to 1), or so many seconds later, what is done; `plan` treats each request."""

    name: str
    plan: Plan = well
    actions: list[tuple[float, float, Action]] = field(default_factory=list)
    """How far the program is, seconds to wait then, what is done."""
    begins_down: bool = False
    timers: list[threading.Timer] = field(default_factory=list)
    """That bring the server back."""


def draw_schedule(name: str, proxy: Proxy, seed: int) -> Schedule:
    """One of NAMES, with times drawn from a seed."""
    return NAMES[name](name, proxy, random.Random(seed))


def _away_at_first(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    comes = (chance.uniform(0.05, 0.95), chance.uniform(0.0, 3.0), proxy.up)
    return Schedule(name, actions=[comes], begins_down=True)


def _never(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return Schedule(name, begins_down=True)


def _away_in_the_middle(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    goes = (chance.uniform(0.1, 0.9), 0.0, proxy.down)
    return Schedule(name, actions=[goes, (0.0, chance.uniform(0.5, 6.0), proxy.up)])


def _away_at_the_end(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return _away_from(END, Schedule(name), proxy, chance, for_good=True)


def _away_during_an_artifact(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return _away_from(ARTIFACT, Schedule(name), proxy, chance)


def _away_during_a_model(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return _away_from(MODEL, Schedule(name), proxy, chance)


def _errors(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return Schedule(name, drawn(chance.randrange(1 << 30), 0.3, ("500", "500 after")))


def _resets(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    return Schedule(name, drawn(chance.randrange(1 << 30), 0.3, ("reset", "lost", "cut")))


def _slow(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    faults = drawn(chance.randrange(1 << 30), 0.05, ("late",))

    def plan(line: str) -> str | None:
        return faults(line) or "delay"

    return Schedule(name, plan)


def _all(name: str, proxy: Proxy, chance: random.Random) -> Schedule:
    schedule = _away_in_the_middle(name, proxy, chance)
    schedule.plan = drawn(chance.randrange(1 << 30), chance.choice([0.05, 0.2, 0.4]))
    return schedule


NAMES: dict[str, Callable[[str, Proxy, random.Random], Schedule]] = {
    "none at first": _away_at_first,
    "never one": _never,
    "away in the middle": _away_in_the_middle,
    "away during an artifact": _away_during_an_artifact,
    "away during a model": _away_during_a_model,
    "away at the end": _away_at_the_end,
    "errors": _errors,
    "resets": _resets,
    "slow": _slow,
    "everything": _all,
}


def _away_from(
    request: "re.Pattern[str]",
    schedule: Schedule,
    proxy: Proxy,
    chance: random.Random,
    for_good: bool = False,
) -> Schedule:
    """The server goes at one of the first such requests, and comes back after some seconds if at all."""
    fault = chance.choice(["reset", "lost"])
    left, guard = chance.randint(1, 3), threading.Lock()
    seconds = chance.uniform(0.5, 5)

    def plan(line: str) -> str | None:
        nonlocal left
        with guard:
            left -= bool(request.match(line))
            if left or not request.match(line):
                return None
        proxy.down()
        if not for_good:
            timer = threading.Timer(seconds, proxy.up)
            schedule.timers.append(timer)
            timer.start()
        return fault

    schedule.plan = plan
    return schedule


class Running:
    """A schedule that is being carried out in a thread, until the program has ended: then the server is there."""

    def __init__(self, schedule: Schedule, proxy: Proxy, progress: Callable[[], float]) -> None:
        self.schedule, self.proxy, self.progress = schedule, proxy, progress
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Running":
        self.proxy.plan = self.schedule.plan
        if self.schedule.begins_down:
            self.proxy.down()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.proxy.plan = well
        for timer in self.schedule.timers:
            timer.cancel()
            timer.join()
        self.proxy.up()

    def _run(self) -> None:
        for share, seconds, action in self.schedule.actions:
            while self.progress() < share:
                if self._stop.wait(0.01):
                    return
            if self._stop.wait(seconds):
                return
            action()
