"""The reference study that this project reproduces, from the trainings to the report."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.errors import DIVERGED
from hw2.training.config import TrainingConfig
from mlflow_project.analysis.compare_runs import compare_runs
from mlflow_project.analysis.outlier_test import find_outlier_test, run_outlier_test
from mlflow_project.analysis.run_selection import Selection
from mlflow_project.common.errors import StoreError, UsageError
from mlflow_project.common.signals import GracefulShutdown
from mlflow_project.reports import configuration_sections, page, reference_study, study_answers
from mlflow_project.sweeps.request import PreparedSweep, SweepSpec, prepare
from mlflow_project.sweeps.sweep import SweepResult, open_parent, run_sweep
from mlflow_project.training.progress import ProgressListener
from mlflow_project.training.run_spec import registered_name

if TYPE_CHECKING:
    from hw2.comparison.compare import Comparison
    from hw2.outliers.tables import LabelMatches
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.sweeps.parent_run import ParentRun

OUTPUT = Path(page.NAME)


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """The results of the study's workflow: five trained models, three of them tested, all compared and reported.

    outlier_run_id: of the run of the outlier test; None while the server hasn't named it. comparison: of the first
    seed's five models; over_seeds: of all models, None for a single seed; answers: the study's observations by it.
    """

    sweep: SweepResult
    outlier_run_id: str | None
    comparison: "Comparison"
    report: Path
    over_seeds: "Comparison | None" = None
    answers: tuple[study_answers.Answer, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Return the metrics of each of m1 to m5 beside the study's own; `study_in_interval` compares the two."""
        table = []
        trials = self.sweep.plan.trials[: len(reference_study.STUDY)]
        for model, trial in zip(reference_study.STUDY, trials, strict=True):
            result = self.sweep.results[trial.sha256]
            metrics = result.metrics
            row: dict[str, Any] = {"model": model.alias, "lr": model.lr, "epochs": model.epochs}
            for name in ("train_seconds", "train_accuracy", "test_seconds", "test_accuracy"):
                row |= {name: metrics.get(name), f"study_{name}": getattr(model, name)}
            low, high = (metrics.get(f"test_accuracy_{end}") for end in ("low", "high"))
            if low is not None and high is not None:
                row["study_in_interval"] = "yes" if low <= model.test_accuracy <= high else "no"
            row |= {"run_id": result.run_id, "state": result.state}
            table.append(row)
        return table


def reproduce(
    base: TrainingConfig | None = None,
    *,
    seeds: Sequence[int] = (),
    output: Path = OUTPUT,
    listener: ProgressListener | None = None,
    shutdown: GracefulShutdown | None = None,
    **options: Any,
) -> Reproduction:
    """Train the study's five models as m1 to m5, test three of them on Fashion-MNIST, compare them, and report.

    Completed work is reused. With several seeds the five configurations are trained at each, and the study's
    observations are answered over seeds too.

    Args:
        base: What the five have in common; the study decides lr and epochs.
        seeds: The first is that of m1 to m5; that of `base` where none is given.
        output: Where the report is written; it is also an artifact of the sweep's run.
        listener: Receives the progress.
        shutdown: Checked between steps: whether a signal has come.
        options: Further fields of `SweepSpec`, such as data_dir and workers.

    Raises:
        SweepError: A model couldn't be trained or registered; a later seed that diverges is a finding instead.
        UsageError: A seed is given twice.
        Interrupted: A signal came; the same call again resumes it.
    """
    base, listener = base or TrainingConfig(), listener or ProgressListener()
    seeds = seeds or (base.seed,)
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"seeds {', '.join(map(str, seeds))}: one is there twice; give each once")
    configs = {
        model.config(dataclasses.replace(base, seed=seed)): (model.alias,) if seed == seeds[0] else ()
        for seed in seeds
        for model in reference_study.STUDY
    }
    request = SweepSpec(name="the study", configs=list(configs), aliases=configs, **options)
    page.require_place(output)  # not after all the work
    with shutdown or GracefulShutdown() as shutdown:
        prepared = prepare(request, listener)
        shutdown.check()
        listener.info(reference_study.warmup_note(base.warmup))
        with open_parent(prepared, listener) as parent:
            run_sweep(prepared, parent, listener, shutdown)
            _require_models(prepared, parent)
            outlier_run_id, comparisons = _follow_up(prepared, parent, output, listener, shutdown)
    if prepared.dataset.is_sample:
        listener.info(
            f"Note: the study's figures (study_...) are of the full data, those beside them of the sample of "
            f"{prepared.dataset.training_images:,} images; they say nothing about each other"
        )
    return Reproduction(
        sweep=SweepResult.of(prepared, parent),
        outlier_run_id=outlier_run_id,
        comparison=comparisons.models,
        report=output,
        over_seeds=comparisons.over_seeds,
        answers=comparisons.answers,
    )


@dataclass(frozen=True)
class _Comparisons:
    models: "Comparison"
    over_seeds: "Comparison | None" = None
    answers: tuple[study_answers.Answer, ...] = ()


def _require_models(prepared: PreparedSweep, parent: "ParentRun") -> None:
    """Raise SweepError unless every trial is done; one of a later seed may have diverged."""
    trials = prepared.plan.trials
    diverged = [
        trial.sha256
        for trial in trials[len(reference_study.STUDY) :]
        if parent.results[trial.sha256].reason.startswith(DIVERGED)
    ]
    plan = dataclasses.replace(
        prepared.plan, trials=tuple(trial for trial in trials if trial.sha256 not in diverged)
    )
    dataclasses.replace(SweepResult.of(prepared, parent), plan=plan).raise_failure()
    parent.problem = None


def _follow_up(
    prepared: PreparedSweep,
    parent: "ParentRun",
    output: Path,
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> "tuple[str | None, _Comparisons]":
    """Do what the study does with its models: outlier images for three, a comparison of all, a report."""
    from mlflow_project.registry.registered_model import RegisteredModel
    from mlflow_project.tracking.delivery.client import connect

    name = registered_name(prepared.plan.trials[0].config, prepared.inputs.dataset)
    _point_aliases(prepared, parent)
    outlier_run_id, matches = _test_outliers(prepared, RegisteredModel(connect(), name), listener, shutdown)
    listener.info(f"{matches}")
    shutdown.check()
    selection = Selection(models=tuple(model.alias for model in reference_study.STUDY), registered_name=name)
    comparison, _ = compare_runs(selection)
    for table in ("accuracy", "pairs"):
        parent.attach(f"tables/{table}.csv", getattr(comparison, table).to_csv(index=False))
    comparisons = _Comparisons(comparison)
    if len(prepared.plan.trials) > len(reference_study.STUDY):
        comparisons = _compare_seeds(comparison, prepared, parent)
    html, _ = page.make_report(selection, over_seeds=comparisons.over_seeds)
    parent.attach(page.NAME, html)
    page.write(output, html)
    listener.info(f"report written to {output}")
    return outlier_run_id, comparisons


def _compare_seeds(models: "Comparison", prepared: PreparedSweep, parent: "ParentRun") -> _Comparisons:
    """Compare the five configurations over their seeds; log the tables, and the figure beside its own."""
    from hw2 import figures

    results = (parent.results[trial.sha256] for trial in prepared.plan.trials)
    runs = tuple(result.run_id for result in results if result.run_id)
    over_seeds, _ = compare_runs(Selection(runs=runs))
    answers = study_answers.answer_questions(over_seeds)
    accuracies = configuration_sections.seed_accuracies(over_seeds.by_configuration)
    tables = {
        "configurations": over_seeds.by_configuration.table,
        "configuration_pairs": over_seeds.by_configuration.pairs,
        "study_answers": study_answers.answers_frame(answers),
        "seed_accuracies": accuracies,
    }
    for stem, table in tables.items():
        parent.attach(f"tables/{stem}.csv", table.to_csv(index=False))
    parent.attach("seed_accuracies.png", figures.png(figures.seed_accuracies(accuracies)))
    return _Comparisons(models, over_seeds, tuple(answers))


def _test_outliers(
    prepared: PreparedSweep,
    registry: "RegisteredModel",
    listener: ProgressListener,
    shutdown: GracefulShutdown,
) -> "tuple[str | None, LabelMatches | None]":
    """Show garments to the study's three models, unless a run has done just that."""
    from hw2.outliers.tables import LabelMatches

    request, models = prepared.request, reference_study.OUTLIER_MODELS
    examples = reference_study.OUTLIER_EXAMPLES
    known = find_outlier_test(
        registry, models, examples=examples, data_dir=request.data_dir, download=request.download
    )
    if known is not None and "matched" in known.metrics:
        listener.info(f"run {known.run_id} has tested these models on outliers; it is reused")
        counts = (int(known.metrics[name]) for name in ("matched", "answers"))
        return known.run_id, LabelMatches(*counts)
    tested = run_outlier_test(
        registry,
        models,
        examples=examples,
        data_dir=request.data_dir,
        download=request.download,
        listener=listener,
        shutdown=shutdown,
    )
    return tested.run_id, tested.matches


def _point_aliases(prepared: PreparedSweep, parent: "ParentRun") -> None:
    """Point m1 to m5 at the versions of these runs, also of those that are reused."""
    from mlflow_project.sweeps.existing_runs import ExperimentIndex
    from mlflow_project.tracking.delivery.client import connect

    store = ExperimentIndex(connect())
    for trial in prepared.plan.trials[: len(reference_study.STUDY)]:
        name = registered_name(trial.config, prepared.inputs.dataset)
        run_id = parent.results[trial.sha256].run_id
        version = None if run_id is None else store.version(name, run_id)
        if version is None:
            raise StoreError(
                f"{trial.config.name} isn't registered as {name} yet; upload it with: mlflow-project sync, "
                "then run this command again"
            )
        for alias in trial.aliases:
            store.set_alias(name, alias, version, f"named by {parent.journal.header.run_name}")
