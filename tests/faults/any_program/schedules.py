"""What happens to a program's server, and when."""

import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.proxy import Plan, Proxy, drawn, well

Action = Callable[[], None]
ARTIFACT = re.compile(r"PUT .*mlflow-artifacts")
MODEL = re.compile(r"POST .*/logged-models[ /?]")
END = re.compile(r"POST .*/runs/update ")


@dataclass
class Schedule:
    """Seconds after the program's start and what is done then; `plan` treats each request."""

    name: str
    plan: Plan = well
    actions: list[tuple[float, Action]] = field(default_factory=list)
    begins_down: bool = False
    ends_down: bool = False
    """Whether the server stays away until the program has ended."""


def draw_schedule(name: str, proxy: Proxy, seed: int, seconds: float) -> Schedule:
    """One of NAMES, with times drawn from a seed for a program that takes `seconds`."""
    return NAMES[name](name, proxy, random.Random(seed), seconds)


def _away_at_first(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, actions=[(chance.uniform(0.3, 1.0) * seconds, proxy.up)], begins_down=True)


def _never(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, begins_down=True, ends_down=True)


def _away_in_the_middle(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    first = chance.uniform(0.3, 0.6) * seconds
    return Schedule(
        name, actions=[(first, proxy.down), (first + chance.uniform(0.1, 0.5) * seconds, proxy.up)]
    )


def _away_at_the_end(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, _away_from(END, proxy, chance, for_good=True), ends_down=True)


def _away_during_an_artifact(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, _away_from(ARTIFACT, proxy, chance))


def _away_during_a_model(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, _away_from(MODEL, proxy, chance))


def _errors(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, drawn(chance.randrange(1 << 30), 0.3, ("500", "500 after")))


def _resets(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    return Schedule(name, drawn(chance.randrange(1 << 30), 0.3, ("reset", "lost", "cut")))


def _slow(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    faults = drawn(chance.randrange(1 << 30), 0.05, ("late",))

    def plan(line: str) -> str | None:
        return faults(line) or "delay"

    return Schedule(name, plan)


def _all(name: str, proxy: Proxy, chance: random.Random, seconds: float) -> Schedule:
    schedule = _away_in_the_middle(name, proxy, chance, seconds)
    schedule.plan = drawn(chance.randrange(1 << 30), chance.choice([0.05, 0.2, 0.4]))
    return schedule


NAMES: dict[str, Callable[[str, Proxy, random.Random, float], Schedule]] = {
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
    request: "re.Pattern[str]", proxy: Proxy, chance: random.Random, for_good: bool = False
) -> Plan:
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
            timer.daemon = True
            timer.start()
        return fault

    return plan


class Running:
    """A schedule that is being carried out in a thread, until it's stopped."""

    def __init__(self, schedule: Schedule, proxy: Proxy) -> None:
        self.schedule, self.proxy = schedule, proxy
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
        self.proxy.up()

    def _run(self) -> None:
        started = time.monotonic()
        for seconds, action in self.schedule.actions:
            if self._stop.wait(max(0.0, started + seconds - time.monotonic())):
                return
            action()
