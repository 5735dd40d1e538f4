"""Optuna's record of a search: what was proposed, and what each trial has reached at each rung.

All that a search has decided follows from this record, so that it goes on from there after any end.
"""

import datetime
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.common.errors import ServiceError, UsageError
from mlflow_project.common.store_uri import redact
from mlflow_project.common.text import first_line
from mlflow_project.searches.halving import Outcome, Step
from mlflow_project.searches.space import SearchSpace, Value
from mlflow_project.tracking.journal import state_dir

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

STUDY = "mlflow-project search"
_IDENTITY, _NAME, _REUSED = "search_sha256", "search", "reused_run_id"


@dataclass(frozen=True)
class Proposal:
    """A trial's parameters, and the finished run of earlier work that has them, if there is one."""

    params: Mapping[str, Value]
    reused_run_id: str | None = None


class Study:
    """The record of one search.

    Args:
        where: An address that Optuna knows, or a file; None for a file in the state folder.
        sha256: The search's.
        name: What it searches, in words.
        space: Its axes.

    Raises:
        UsageError: Another search is recorded there, or nothing can be.
    """

    def __init__(self, where: str | None, sha256: str, name: str, space: SearchSpace) -> None:
        self.proposals: list[Proposal] = []
        self._rungs: dict[tuple[int, int], Outcome] = {}
        self._ids: list[int] = []
        self._ended: set[int] = set()
        self._space = space
        self._storage = _open_storage(where, sha256)
        self._study_id = self._open(where, sha256, name)
        for trial in sorted(self._storage.get_all_trials(self._study_id), key=lambda trial: trial.number):
            self._load(trial)

    def _open(self, where: str | None, sha256: str, name: str) -> int:
        from optuna.study import StudyDirection

        studies = {study.study_name: study for study in self._storage.get_all_studies()}
        if STUDY not in studies:
            study_id = self._storage.create_new_study([StudyDirection.MAXIMIZE], STUDY)
            self._storage.set_study_user_attr(study_id, _NAME, name)
            self._storage.set_study_user_attr(study_id, _IDENTITY, sha256)
            return study_id
        study_id = studies[STUDY]._study_id
        attributes = self._storage.get_study_user_attrs(study_id)
        if attributes.get(_IDENTITY) is None and not self._storage.get_all_trials(study_id):
            self._storage.set_study_user_attr(study_id, _NAME, name)  # killed before it was written
            self._storage.set_study_user_attr(study_id, _IDENTITY, sha256)
        elif attributes.get(_IDENTITY) != sha256:
            other = attributes.get(_NAME, "another program's")
            difference = (
                "other images, code or base configuration" if other == name else f"this one is {name}"
            )
            raise UsageError(
                f"--study {redact(where or '')} has the search {other}, and {difference}; name another study"
            )
        return study_id

    def _load(self, trial: "FrozenTrial") -> None:
        attributes = trial.user_attrs
        params = self._space.tidy(trial.params)
        self._ids.append(trial._trial_id)
        self.proposals.append(Proposal(params, attributes.get(_REUSED)))
        if trial.state.is_finished():
            self._ended.add(trial.number)
        for epochs, accuracy in trial.intermediate_values.items():
            loss = attributes.get(f"validation_loss_{epochs}")
            self._rungs[trial.number, epochs] = Outcome(
                accuracy=accuracy,
                loss=math.inf if loss is None else loss,
                seconds=attributes.get(f"seconds_{epochs}", 0.0),
                failed=attributes.get(f"failed_{epochs}", ""),
            )

    def outcome(self, number: int, epochs: int) -> Outcome | None:
        """Return what a trial has reached after so many epochs; None where that isn't recorded."""
        return self._rungs.get((number, epochs))

    def add(self, proposal: Proposal) -> None:
        """Record the next proposal."""
        from optuna.trial import FrozenTrial, TrialState

        attributes = {} if proposal.reused_run_id is None else {_REUSED: proposal.reused_run_id}
        template = FrozenTrial(
            number=-1, state=TrialState.RUNNING, value=None, datetime_start=datetime.datetime.now(),
            datetime_complete=None, params=dict(proposal.params), distributions=self._space.distributions(),
            user_attrs=attributes, system_attrs={}, intermediate_values={}, trial_id=-1,
        )  # fmt: skip
        self._ids.append(self._storage.create_new_trial(self._study_id, template))
        self.proposals.append(proposal)

    def record(self, step: Step, epochs: int, outcome: Outcome) -> None:
        """Record what a trial has reached."""
        values: dict[str, Any] = {"seconds": outcome.seconds}
        if math.isfinite(outcome.loss):
            values["validation_loss"] = outcome.loss
        if outcome.failed:
            values["failed"] = outcome.failed
        trial_id = self._ids[step.number]
        if step.number not in self._ended:
            for key, value in values.items():
                self._storage.set_trial_user_attr(trial_id, f"{key}_{epochs}", value)
            # Last: with it, the result counts.
            self._storage.set_trial_intermediate_value(trial_id, epochs, outcome.accuracy)
        self._rungs[step.number, epochs] = outcome

    def end(self, number: int, complete: bool, failed: bool, value: float) -> None:
        """Record how a trial has ended: complete, failed, or stopped, which Optuna calls pruned."""
        from optuna.trial import TrialState

        if number in self._ended:
            return
        state = TrialState.FAIL if failed else TrialState.COMPLETE if complete else TrialState.PRUNED
        values = [value] if complete and not failed else None
        self._storage.set_trial_state_values(self._ids[number], state, values)
        self._ended.add(number)


def require_optuna() -> None:
    """Raise ServiceError where Optuna isn't installed."""
    if find_spec("optuna") is None:
        raise ServiceError(
            "Optuna isn't installed; add it, in the project's folder, with: pip install -r requirements.txt"
        )


def _open_storage(where: str | None, sha256: str) -> "BaseStorage":
    import optuna
    from optuna.storages import journal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if where is not None and "://" in where:
        try:
            return optuna.storages.get_storage(where)
        except Exception as error:  # of SQLAlchemy, of a driver, or Optuna's own
            raise UsageError(f"--study {redact(where)} can't be opened: {first_line(error)}") from error
    path = Path(where) if where else state_dir.state_dir() / "searches" / f"{sha256}.journal"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        lock: Any = _NoLock()
        return optuna.storages.JournalStorage(journal.JournalFileBackend(str(path), lock))
    except (OSError, ValueError) as error:
        raise UsageError(f"--study {path} can't be opened: {first_line(error)}; name another file") from error


class _NoLock:
    """Does nothing: a search has a lock of its own, which a killed process doesn't leave behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _cut_torn_line(path: Path) -> None:
    """Cut off what a killed process has left of a last line."""
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            os.truncate(path, whole)
