"""Where the seconds of one `train` go: `python -m benchmarks.training.stages FILE STARTED train ...` writes them.

Runs our command as it is, with a clock around its stages. Each second of the main thread counts for the innermost
stage; imports that a stage needs count for it.
"""

import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

START, REST, EXIT = "start of Python and imports", "between these", "exit"
TRAINING, TESTING = "training", "tests on digits and outliers, the outlier score"
STAGES = {
    "reading the images": ["mlflow_project.training.inputs:load"],
    "opening the run": ["mlflow_project.training.tracked_run:TrackedRun.start"],
    "loading the kernels": ["hw2.training.trainer:Trainer.__init__"],
    TRAINING: ["mlflow_project.training.shared_training:SharedTraining._train"],
    "checkpoints": ["mlflow_project.training.tracked_run:TrackedRun.save"],
    TESTING: ["hw2.outliers.assessment:assess"],
    "export of the model": ["mlflow_project.packaging.model_files:write_model_files"],
    "figures and tables": ["mlflow_project.training.log_values:files"],
    "registration and the rest of the journal": ["mlflow_project.training.tracked_run:TrackedRun.complete"],
    "waiting for the delivery": ["mlflow_project.training.shared_training:SharedTraining.close"],
}


class Clock:
    """Adds the time between two turns to the stage that was the innermost."""

    def __init__(self, started: float) -> None:
        self.seconds: dict[str, float] = {}
        self._open = [START]
        self._last = started

    def enter(self, stage: str) -> None:
        self._turn()
        self._open.append(stage)

    def leave(self) -> None:
        self._turn()
        self._open.pop()

    def over(self, stage: str) -> None:
        """What comes next, outside all stages, belongs to this one."""
        self._turn()
        self._open[0] = stage

    def _turn(self) -> None:
        now = time.time()
        stage = self._open[-1]
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def _timed(clock: Clock, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def each(*arguments: Any, **named: Any) -> Iterator[Any]:
        items = function(*arguments, **named)
        following = _timed(clock, stage, partial(next, items, None))
        while (item := following()) is not None:
            yield item

    def timed(*arguments: Any, **named: Any) -> Any:
        clock.enter(stage)
        try:
            return function(*arguments, **named)
        finally:
            clock.leave()
            if clock.seconds.get(REST) is None:
                clock.over(REST)

    return each if inspect.isgeneratorfunction(function) else timed


def _watch(clock: Clock) -> None:
    for stage, places in STAGES.items():
        for place in places:
            module, _, path = place.partition(":")
            owner = importlib.import_module(module)
            *classes, name = path.split(".")
            for each in classes:
                owner = getattr(owner, each)
            result = vars(owner)[name]
            timed = _timed(clock, stage, getattr(result, "__func__", result))
            setattr(owner, name, classmethod(timed) if isinstance(result, classmethod) else timed)


def main(file: str, started: str, *arguments: str) -> None:
    from mlflow_project.cli.main import run, tune_gc

    tune_gc()
    clock = Clock(float(started))
    _watch(clock)
    status = run(list(arguments))
    clock.over(EXIT)
    Path(file).write_text(json.dumps({"seconds": clock.seconds, "ended": time.time()}), encoding="utf-8")
    sys.exit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
