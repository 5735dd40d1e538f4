"""The trials of a search: what each trains, what there is of it already, and the job that trains it."""

import dataclasses
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import config_hash, fingerprint
from mlflow_project.common.names import TRIAL_TAG
from mlflow_project.searches import proposals
from mlflow_project.searches.halving import Halving, Outcome, Step
from mlflow_project.searches.request import SearchSpec
from mlflow_project.searches.steps import History, fetch_history, outcome_of, read_history
from mlflow_project.searches.study import Proposal, Study
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.existing_runs import COMPLETED, ExistingRun, LocalRunInfo
from mlflow_project.sweeps.job_spec import JobSpec
from mlflow_project.sweeps.plan import TrainingJob, Trial
from mlflow_project.training.inputs import TrainingInputs, runtime_of

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, eq=False)
class PreparedSearch:
    """A specification with all that it takes to run it.

    base: with its validation_size decided, and each worker's threads. store: None while the tracking server is
    unreachable. sha256: of all that decides the search.
    """

    spec: SearchSpec
    base: TrainingConfig
    inputs: TrainingInputs
    store: "existing_runs.ExperimentIndex | None"
    sha256: str

    @cached_property
    def local(self) -> tuple[LocalRunInfo, ...]:
        """The local runs, as they were when this was first asked."""
        return tuple(existing_runs.local_runs())

    @cached_property
    def since(self) -> str:
        """Return the beginning of the names of folders that may have come since then."""
        return time.strftime("%Y%m%dT%H%M", time.gmtime(time.time() - 60))


class Trials:
    """The trials by number, from 0 on, as the study has them."""

    def __init__(self, prepared: PreparedSearch, study: Study) -> None:
        self.prepared = prepared
        self.study = study
        spec = prepared.spec
        self.halving = Halving(
            spec.rungs, spec.reduction, spec.trials, spec.budget, spec.workers, self._propose, self.is_reused
        )

    def config(self, number: int) -> TrainingConfig:
        """Return what a trial trains."""
        values = self.study.proposals[number].params
        return dataclasses.replace(self.prepared.base, **values)  # type: ignore[arg-type]

    def sha256(self, number: int) -> str:
        """Return the SHA-256 of a trial's configuration."""
        return config_hash(self.config(number), self.prepared.inputs.dataset.sha256)

    def is_reused(self, number: int) -> bool:
        """Return whether earlier work has finished the trial's configuration."""
        return self.study.proposals[number].reused_run_id is not None

    def find(self, step: Step) -> Outcome | None:
        """Return the result of a step that is recorded, or that earlier work has."""
        epochs = self.halving.rungs[step.rung]
        outcome = self.study.outcome(step.number, epochs)
        if outcome is None and self.is_reused(step.number):
            completed = self.find_completed(self.config(step.number))
            if completed is not None:
                outcome = outcome_of(completed[1], self.halving.rungs, step.rung)
                self.study.record(step, epochs, outcome)
        return outcome

    def record(self, step: Step, outcome: Outcome) -> None:
        """Record the result of a step."""
        self.study.record(step, self.halving.rungs[step.rung], outcome)

    def job(self, number: int, rung: int | None, tags: "Mapping[str, str]") -> JobSpec:
        """Return the job that trains a trial to a rung; or, for None, completes and tests it."""
        prepared, config, sha256 = self.prepared, self.config(number), self.sha256(number)
        spec = prepared.inputs.train.spec
        identity = fingerprint(config, prepared.inputs.dataset.sha256, runtime_of(config, spec), spec)
        known = tuple(
            run
            for run in prepared.local
            if (run.sha256 == sha256 or run.fingerprint == identity) and run.folder.name < prepared.since
        )
        rungs, data_dir = self.halving.rungs, prepared.spec.data_dir
        return JobSpec(
            number=number * (len(rungs) + 1) + (len(rungs) if rung is None else rung) + 1,
            job=TrainingJob((Trial(config, sha256),), identity),
            tags={**tags, TRIAL_TAG: str(number + 1)},
            register=prepared.spec.register,
            data_dir=data_dir.expanduser().absolute() if data_dir else None,
            known=known,
            since=prepared.since,
            until=None if rung is None else rungs[rung],
        )

    def find_completed(self, config: TrainingConfig) -> tuple[ExistingRun, History] | None:
        """Find a finished run of a configuration that has a result at every rung."""
        prepared = self.prepared
        sha256 = config_hash(config, prepared.inputs.dataset.sha256)
        run = existing_runs.find_local_runs([run for run in prepared.local if run.sha256 == sha256])
        if run is None or run.state != COMPLETED:
            if prepared.store is None:
                return None
            run = prepared.store.find([sha256]).get(sha256)
        if run is None or run.state != COMPLETED:
            return None
        if run.folder is not None:
            history = read_history(run.folder)
        else:
            assert prepared.store is not None
            assert run.run_id is not None
            history = fetch_history(prepared.store.client, run.run_id)
        return (run, history) if set(self.halving.rungs) <= history.keys() else None

    def _propose(self, number: int) -> bool:
        if number < len(self.study.proposals):
            return True
        spec, study = self.prepared.spec, self.study
        params = proposals.propose(
            spec.space,
            spec.sampler,
            spec.sampler_seed,
            self.halving.trials,
            [proposal.params for proposal in study.proposals],
            self.halving.rungs,
        )
        if params is None:
            return False
        config = dataclasses.replace(self.prepared.base, **params)  # type: ignore[arg-type]
        completed = self.find_completed(config)
        reused = None if completed is None else completed[0].run_id or str(completed[0].folder)
        study.add(Proposal(params, reused))
        return True
