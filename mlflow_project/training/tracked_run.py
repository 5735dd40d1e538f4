"""One configuration as one MLflow run: its files on disk, and what it logs when."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hw2.common.formatting import plural
from mlflow_project.common.errors import JournalError, RunError
from mlflow_project.common.names import (
    CHECKPOINT,
    EARLY_STOPPING_TAG,
    JOURNAL_REFERENCE,
    NAME_TAG,
    NOTE_TAG,
    REASON_TAG,
    RESUMED_TAG,
    RUNG_TAG,
    STATUS_TAG,
)
from mlflow_project.common.run_state import RunState
from mlflow_project.tracking.active_run import ActiveRun
from mlflow_project.tracking.delivery.background import upload_pending_runs
from mlflow_project.tracking.journal import fsio, local_runs
from mlflow_project.tracking.journal.entities import ModelArtifact, RunEnded, RunResumed, Tag
from mlflow_project.tracking.journal.format import Header
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.new_run import create_journal
from mlflow_project.training import model_card, ui_views
from mlflow_project.training.run_spec import IDENTITY, RunSpec, read_run_spec, registered_name
from mlflow_project.training.training_journal import TrainingJournal

if TYPE_CHECKING:
    from hw2.training.trainer import EpochResult, Progress, TrainingState
    from mlflow_project.training.inputs import TrainingInputs
    from mlflow_project.training.progress import ProgressListener

RUN_SPEC_FILE = local_runs.RUN_SPEC_FILE


class TrackedRun(ActiveRun):
    """A training's run while it is open, with its specification and its checkpoint."""

    def __init__(self, plan: RunSpec, journal: Journal, listener: "ProgressListener") -> None:
        super().__init__(journal)
        upload_pending_runs()
        self.plan = plan
        self.listener = listener
        self.metrics: dict[str, float] = {}
        self._checkpoint_problem = False

    @classmethod
    def start(cls, plan: RunSpec, images: "TrainingInputs", listener: "ProgressListener") -> "TrackedRun":
        """Start a new run, or the one that `mlflow run` has created; log its parameters and what identifies it."""
        from mlflow_project.training import log_values

        opening = log_values.initial_tags(plan.config, images.runtime, images.dataset)
        parameters = log_values.parameters(plan.config)
        journal = create_journal(
            plan.config.name,
            plan.run_id,
            parameters={value.key: value.value for value in parameters},
            tags={tag.key: tag.value for tag in opening if tag.key in IDENTITY},
            experiment_tags=model_card.experiment_tags(ui_views.table_of([plan.config])),
            on_problem=listener.warning,
            kind=TrainingJournal,
        )
        journal.append(
            *(Tag(key, value) for key, value in {NAME_TAG: plan.config.name, **plan.tags}.items()),
            *parameters,
            *opening,
            *log_values.dataset_inputs(images.dataset, images.train, images.validation),
        )
        journal.sync()
        # Last, and in one piece: a folder with a plan is a run that has logged all of this and can be resumed.
        _write(journal, RUN_SPEC_FILE, plan.to_json())
        return cls(plan, journal, listener)

    @classmethod
    def reopen(
        cls, folder: Path, listener: "ProgressListener", tags: Mapping[str, str] | None = None
    ) -> "TrackedRun":
        """Reopen a run that was interrupted or stopped, or has failed.

        Raises:
            RunBusyError: Another process has it.
            RunError: Another process has finished it.
            JournalError: The disk is full.
        """
        plan = read_run_spec(folder)
        journal = TrainingJournal.open(folder, on_problem=listener.warning)
        if journal.ended == "FINISHED" and not local_runs.is_marked_stopped(folder):
            journal.close()
            raise RunError(
                f"run {journal.run_id or journal.header.key} is finished; start a new one to train more"
            )
        for damage in journal.corrupt_spans:
            listener.warning(str(damage))
        try:
            times = local_runs.count_resume(folder)
        except OSError as error:
            raise _unwritable(journal, "resumed", error) from error
        run = cls(plan, journal, listener)
        journal.append(RunResumed(), Tag(STATUS_TAG, RunState.STARTED), Tag(RESUMED_TAG, str(times)))
        journal.append(*(Tag(key, value) for key, value in (tags or {}).items()))
        local_runs.unmark_stopped(folder)
        return run

    def progress(self, progress: "Progress") -> None:
        """Log the losses that are new."""
        from mlflow_project.training import log_values

        self.journal.append(*log_values.batch_losses(progress.batch_losses))

    def epoch(self, result: "EpochResult") -> None:
        """Log an epoch's metrics and make them durable."""
        from mlflow_project.training import log_values

        self.journal.append(*log_values.epoch_metrics(result))
        self.journal.sync()

    def backfill(self, state_: "TrainingState") -> None:
        """Log a state's metrics that the run hasn't: after a resume, or because another run trained it."""
        from mlflow_project.training import log_values

        self.journal.append(*log_values.batch_losses(state_.batch_losses))
        for result in state_.history:
            self.journal.append(*log_values.epoch_metrics(result))

    def save(self, state_: "TrainingState") -> None:
        """Write the checkpoint. A disk that refuses is warned of once, and training continues."""
        from hw2.training import checkpoint

        try:
            checkpoint.save(self.folder / CHECKPOINT, state_)
            self._checkpoint_problem = False
        except OSError as error:
            if not self._checkpoint_problem:
                self.listener.warning(
                    f"no checkpoint can be written in {self.folder} ({error.strerror}); training continues, "
                    "but a kill now would lose what it did since the last one: free disk space there"
                )
            self._checkpoint_problem = True

    def stop(self, state_: "TrainingState", reason: str) -> None:
        """End the run after these epochs, untested; it can go on.

        Raises:
            JournalError, OSError: The disk doesn't take all of it.
        """
        from hw2.models.factory import weights_sha256

        digest = weights_sha256(state_.model().state_dict())
        self.log(
            Tag("weights_sha256", digest),
            Tag(RUNG_TAG, str(state_.epoch)),
            Tag(REASON_TAG, reason),
            Tag(STATUS_TAG, RunState.STOPPED),
        )
        self.ensure_durable()
        local_runs.mark_stopped(self.folder)
        self.log(RunEnded(RunState.STOPPED.mlflow_status))
        self.journal.sync()

    def complete(self, state_: "TrainingState", images: "TrainingInputs") -> None:
        """Evaluate the trained model, log its results, and hand it over for registration.

        Raises:
            JournalError: The disk doesn't take all of it; the run isn't FINISHED then, and can be resumed.
        """
        from hw2.models.factory import weights_sha256
        from hw2.outliers.assessment import assess
        from hw2.training.early_stopping import kept_result
        from mlflow_project.packaging import model_files
        from mlflow_project.training import log_values

        model = state_.model()
        digest = weights_sha256(model.state_dict())
        patience = self.plan.config.patience
        kept = kept_result(state_.history, patience)
        assessment = assess(
            model,
            images.train,
            images.validation,
            images.dataset.test,
            images.outliers,
            fit_detector=not images.no_score,
        )
        with tempfile.TemporaryDirectory(dir=self.folder) as scratch:
            folder = Path(scratch)
            files = folder / "model"
            size = model_files.write_model_files(
                files, model, assessment.detector, images.dataset.test.images[:2].clone()
            )
            metrics = log_values.final_metrics(assessment, state_.history, size, state_.epoch, patience)
            self.metrics = {metric.key: metric.value for metric in metrics}
            name = registered_name(self.plan.config, images.dataset) if self.plan.register else None
            card = model_card.ModelCard(self.plan.config, images, assessment, state_.history, model)
            self.journal.append(*metrics, Tag("weights_sha256", digest), Tag(NOTE_TAG, card.text()))
            if patience is not None:
                text = _describe_patience(state_.epoch, self.plan.config.epochs, kept.epoch)
                self.journal.append(Tag(EARLY_STOPPING_TAG, text))
                self.listener.info(text)
            self.journal.append(
                *log_values.files(
                    folder / "files", images.dataset, images.outliers, assessment, state_.history
                )
            )
            self.journal.append(*log_values.layer_table_files(folder / "files", model))
            self.journal.append(
                ModelArtifact(
                    name="model",
                    directory=files,
                    registered_name=name,
                    version_tags=log_values.version_tags(
                        self.plan.config,
                        images.dataset,
                        state_.fingerprint,
                        assessment,
                        digest,
                        model_files.files_sha256(files),
                        kept.validation_accuracy,
                        images.runtime,
                    ),
                    aliases=self.plan.aliases,
                    description=card.text(name),
                    registered_description=name
                    and model_card.registered_model(name, self.plan.config.model, model.spec),
                )
            )
            # While the files are still here: what the disk doesn't take is lost with them.
            self.ensure_durable()
        self.end("FINISHED")

    @property
    def _again(self) -> str:
        return f"resume with: mlflow-project train --resume {self.name}"


def redirect_run(run_id: str, key: str, resumed: Header, listener: "ProgressListener") -> ActiveRun:
    """Start the run that `mlflow run` has created for a resumption; it refers to the resumed run, and ends as it does.

    Args:
        run_id: Of the run that `mlflow run` has created.
        key: The journal's key, from `claim_given_run`.
        resumed: Header of the resumed run's journal.
        listener: Receives warnings.

    Returns:
        A context around the resumption.

    Raises:
        JournalError: The disk takes nothing.
    """
    # By its journal, because it may have no id yet.
    resumes = Tag("resumes", JOURNAL_REFERENCE + resumed.key)
    return ActiveRun.create(
        f"resumed {resumed.run_name}",
        listener.warning,
        run_id,
        resumes,
        key=key,
        experiment_tags=model_card.experiment_tags(),
    )


def _describe_patience(last: int, epochs: int, best: int) -> str:
    """Say after which epoch a training ended, and which one's weights are its result."""
    end = f"stopped after epoch {last} of {epochs}" if last < epochs else f"trained {plural(epochs, 'epoch')}"
    return f"{end}; the validation loss was least after epoch {best}, whose weights are kept"


def _write(journal: Journal, name: str, text: str) -> None:
    """Write a small file of a run; JournalError, with the run closed, where the disk is full."""
    try:
        fsio.replace(journal.folder / name, text.encode(), durable=True)
    except OSError as error:
        raise _unwritable(journal, name, error) from error


def _unwritable(journal: Journal, name: str, error: OSError) -> JournalError:
    journal.close()
    return JournalError(
        f"{journal.folder / name} can't be written: {error.strerror}; free disk space there and try again"
    )
