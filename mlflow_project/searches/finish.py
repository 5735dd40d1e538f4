"""The end of a search: who wins on validation, what can't be told from the winner, and their test."""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.errors import CheckpointError, Hw2Error
from hw2.common.formatting import ALPHA, format_p, format_percent, join_names, plural
from hw2.comparison.model_predictions import ModelPredictions
from hw2.comparison.significance import best_correction, paired_test
from hw2.evaluation.metrics import wilson_interval
from mlflow_project.common.errors import JournalError, RunBusyError, ServiceError, SweepError
from mlflow_project.common.names import CHECKPOINT, REASON_TAG
from mlflow_project.searches.halving import TrialState
from mlflow_project.searches.trials import Trials
from mlflow_project.sweeps import existing_runs
from mlflow_project.sweeps.executors import Executor
from mlflow_project.sweeps.existing_runs import ExistingRun
from mlflow_project.sweeps.job_spec import FAILED, TrialResult
from mlflow_project.sweeps.plan import find_unregistered
from mlflow_project.tracking.active_run import DELIVERY_SECONDS
from mlflow_project.tracking.delivery.background import deliver
from mlflow_project.tracking.journal import local_runs
from mlflow_project.tracking.journal.entities import Tag
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.training.run_spec import registered_name

if TYPE_CHECKING:
    from hw2.data.image_set import ImageSet
    from mlflow_project.common.signals import GracefulShutdown
    from mlflow_project.training.progress import ProgressListener

NAMED = 5
"""Trials that a sentence names; the table has all."""


@dataclass(frozen=True)
class Rival:
    """A trial beside the winner, on the same validation images.

    difference: the winner's accuracy less its own, with a 95 % interval; p: corrected.
    """

    number: int
    name: str
    epochs: int
    complete: bool
    accuracy: float
    difference: float
    low: float
    high: float
    p: float

    @property
    def undecided(self) -> bool:
        """Return whether it can't be told from the winner."""
        return self.p >= ALPHA


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The winner, with its validation accuracy, and the rivals that were compared with it, the best first.

    left_out: how many trials had no chance, or no checkpoint here.
    """

    winner: TrialState
    name: str
    accuracy: float
    images: int
    rivals: Sequence[Rival] = ()
    left_out: int = 0

    @property
    def finalists(self) -> list[int]:
        """Return the numbers of the trials to test: the winner, and what went as far and can't be told from it."""
        return [self.winner.number, *(r.number for r in self.rivals if r.undecided and r.complete)]

    def text(self, tested: Mapping[int, TrialResult]) -> str:
        """Write the verdict in sentences."""
        result = tested[self.winner.number]
        share = format_percent(self.accuracy, 2)
        text = f"{self.name} wins on validation: {share} of {self.images:,} images"
        if (accuracy := result.metrics.get("test_accuracy")) is not None:
            low, high = (result.metrics.get(f"test_accuracy_{end}", accuracy) for end in ("low", "high"))
            bounds = f"95 % interval {format_percent(low, 2)} to {format_percent(high, 2)}"
            text += f"; on test {format_percent(accuracy, 2)} ({bounds})"
        equal = [rival for rival in self.rivals if rival.undecided and rival.complete]
        early = [rival for rival in self.rivals if rival.undecided and not rival.complete]
        sentences = [text]
        if equal:
            sentences.append(f"It can't be told from {_listed(equal)}, which {_was(equal)} tested, too")
        if early:
            sentences.append(
                f"Nor can it be told on validation from {_listed(early)}, stopped early and not tested"
                if equal
                else f"On validation it can't be told from {_listed(early)}, stopped early and not tested"
            )
        if not equal and not early:
            beaten = [rival for rival in self.rivals if not rival.undecided]
            sentences.append(
                f"It is better than {beaten[0].name}, the next, by {100 * beaten[0].difference:.2f} points "
                f"({format_p(beaten[0].p)})"
                if beaten
                else "No other comes near"
            )
        return ". ".join(sentences) + "."


def _listed(rivals: Sequence[Rival]) -> str:
    names = [f"{rival.name} ({format_percent(rival.accuracy, 2)})" for rival in rivals[:NAMED]]
    if len(rivals) > NAMED:
        names.append(f"{plural(len(rivals) - NAMED, 'other')}")
    return join_names(names)


def _was(rivals: Sequence[Rival]) -> str:
    return "was" if len(rivals) == 1 else "were"


def judge(trials: Trials, folders: Mapping[int, Path]) -> Verdict:
    """Choose by validation accuracy among the trials that went all the way, and compare the others with the winner.

    folders: of the runs, by the trial's number; those without are only counted.

    Raises:
        SweepError: No trial went all the way.
    """
    halving, images = trials.halving, trials.prepared.inputs.validation
    assert images is not None
    winner = halving.leader
    if winner is None or winner.rung < len(halving.rungs) - 1:
        reasons = [trial.failed for trial in halving.trials if trial.failed]
        reason = f" ({reasons[0]})" if reasons else ""
        raise SweepError(
            f"no trial reached {plural(halving.rungs[-1], 'epoch')}{reason}; search smaller learning rates, or "
            "give a larger --budget"
        )
    names = {trial.number: trials.config(trial.number).name for trial in halving.trials}
    accuracy = winner.outcomes[-1].accuracy
    verdict = Verdict(winner=winner, name=names[winner.number], accuracy=accuracy, images=len(images))
    others = [t for t in halving.trials if t is not winner and t.rung >= 0 and not t.failed]
    near = [t for t in others if _may_be_as_good(t.outcomes[-1].accuracy, accuracy, len(images))]
    best = _predict(names[winner.number], folders.get(winner.number), images)
    if best is None:
        return dataclasses.replace(verdict, left_out=len(others))
    predictions = {t.number: _predict(names[t.number], folders.get(t.number), images) for t in near}
    compared = [(t, p) for t in near if (p := predictions[t.number]) is not None]
    rows = compare_with_best(best, [p for _, p in compared])
    rivals = [
        Rival(t.number, names[t.number], halving.rungs[t.rung], t.rung == winner.rung, *row)
        for (t, _), row in zip(compared, rows, strict=True)
    ]
    rivals.sort(key=lambda rival: (rival.difference, rival.number))
    return dataclasses.replace(verdict, rivals=rivals, left_out=len(others) - len(rivals))


def _may_be_as_good(accuracy: float, best: float, images: int) -> bool:
    """Return whether two intervals overlap; where they don't, no paired test needs to be asked."""
    return (
        wilson_interval(round(accuracy * images), images)[1]
        >= wilson_interval(round(best * images), images)[0]
    )


def compare_with_best(
    best: ModelPredictions, others: Sequence[ModelPredictions]
) -> list[tuple[float, float, float, float, float]]:
    """Compare each with the best by the images that only one of the two has right: exact McNemar tests.

    p-values are corrected for the choice of the best by the same images (`best_correction`).

    Returns:
        For each: its accuracy, the best one's lead with its 95 % interval, and the corrected p-value.
    """
    tests = [paired_test(best.correct, other.correct) for other in others]
    corrected = best_correction([test.p for test in tests])
    return [
        (other.accuracy, test.difference, test.low, test.high, p)
        for other, test, p in zip(others, tests, corrected, strict=True)
    ]


def _predict(name: str, folder: Path | None, images: "ImageSet") -> ModelPredictions | None:
    """Predict the validation images by a run's checkpoint; None where it has none that can be used."""
    from hw2.evaluation.evaluate import evaluate
    from hw2.training import checkpoint

    if folder is None:
        return None
    try:
        answers = evaluate(checkpoint.load(folder / CHECKPOINT).model(), images)
    except (CheckpointError, Hw2Error):
        return None
    return ModelPredictions(name, {}, answers.labels, answers.predicted, answers.sha256)


def run_tests(
    trials: Trials,
    numbers: Sequence[int],
    tags: Mapping[str, str],
    executor: Executor,
    listener: "ProgressListener",
    shutdown: "GracefulShutdown",
) -> dict[int, TrialResult]:
    """Complete the runs of these trials: test, figures, registration; return the results by number.

    Raises:
        SweepError: One failed.
    """
    results, by_sha256 = {}, {}
    jobs = []
    for number in numbers:
        completed = trials.find_completed(trials.config(number)) if trials.is_reused(number) else None
        if completed is not None:
            results[number] = TrialResult.of_existing(trials.sha256(number), completed[0])
            _register_reused(trials, number, completed[0], listener)
        else:
            by_sha256[trials.sha256(number)] = number
            jobs.append(trials.job(number, None, tags))
    for result in executor.run(jobs, listener, shutdown) if jobs else ():
        number = by_sha256[result.sha256]
        results[number] = result
        if "test_accuracy" not in result.metrics:
            raise SweepError(
                f"the test of {trials.config(number).name} {result.state or FAILED}: {result.reason}; start the same "
                "search again"
            )
    return results


def _register_reused(trials: Trials, number: int, run: ExistingRun, listener: "ProgressListener") -> None:
    """Register the model of a reused run that was trained without it."""
    prepared, config = trials.prepared, trials.config(number)
    if not prepared.spec.register or prepared.store is None:
        return
    name = registered_name(config, prepared.inputs.dataset)
    same = [local for local in prepared.local if local.sha256 == trials.sha256(number)]
    folder = find_unregistered(name, run, same, prepared.store)
    if folder is None:
        return
    try:
        existing_runs.register(folder, name, prepared.inputs.dataset.train.spec, aliases=())
    except ServiceError as error:
        listener.warning(f"the model of {config.name} isn't registered: {error}; start the same search again")


def explain_stops(reasons: Mapping[Path, str], listener: "ProgressListener") -> None:
    """Write into each stopped run why it went no further."""
    for folder, reason in reasons.items():
        try:
            journal = Journal.open(folder, on_problem=listener.warning)
        except (JournalError, RunBusyError) as error:
            listener.warning(f"{error}; its tag {REASON_TAG} isn't written")
            continue
        try:
            journal.append(Tag(REASON_TAG, reason))
            journal.sync()
        finally:
            journal.close()


def upload(folders: Iterable[Path], seconds: float = DELIVERY_SECONDS) -> int:
    """Upload what is pending of these runs, so long for all of them; return how many entries are left."""
    deadline = time.monotonic() + seconds
    pending = 0
    for folder in folders:
        try:
            left = local_runs.local_run(folder).pending
            if left and time.monotonic() < deadline:
                left = deliver(folder, deadline - time.monotonic()).pending
                if left:
                    deadline = 0.0  # a server that hasn't taken one run won't take the others
        except (JournalError, OSError):
            continue
        pending += left
    return pending
