"""Training as a stream of epochs whose state can be saved and restored at any report, bit for bit."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hw2.common import active_time
from hw2.common.errors import CheckpointError, DivergenceError
from hw2.common.image_spec import STUDY, ImageSpec
from hw2.data.image_set import ImageSet
from hw2.models.factory import model_from_weights, new_model
from hw2.models.net import CustomNetSource, Net
from hw2.train_step.augment import transform_of
from hw2.train_step.factory import make_train_step
from hw2.train_step.optimizer import net_weights
from hw2.training.config import TrainingConfig
from hw2.training.early_stopping import is_stopped, kept_result
from hw2.training.fingerprint import fingerprint
from hw2.training.runtime import ResolvedRuntime

BATCH_INTERVAL = 50  # batches between two reports of the loss
PROGRESS_INTERVAL = 1.0  # a training of large batches that is to stop needn't finish 50 of them


@dataclass(frozen=True)
class EpochResult:
    """One epoch's metrics. Losses are mean cross-entropies in nats, accuracies shares of 1.

    train_* are taken while the epoch trains, each image with the weights of its batch, as it was changed (augment) and
    with its smoothed label; validation_* after it, as they are, None without validation images. `epoch_seconds` is the
    training alone, without the validation and without what `on_progress` takes. suspended_seconds: for which the
    process was stopped during the epoch, None where it wasn't; they are in no other figure.
    """

    epoch: int  # from 1
    train_loss: float
    train_accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    epoch_seconds: float
    images_per_second: float
    suspended_seconds: float | None = None


@dataclass(frozen=True)
class Progress:
    """Where an epoch stands, every 50 batches and every second.

    On a GPU only at its end, so that nothing waits for the host.
    """

    epoch: int
    images_done: int  # of this epoch
    images_total: int
    accuracy: float  # of this epoch so far
    images_per_second: float
    # (batches since the start of training, that batch's loss), since the last report
    batch_losses: tuple[tuple[int, float], ...]


@dataclass
class TrainingState:
    """All that a training needs to resume exactly: the data order is a function of (seed, epoch) alone."""

    fingerprint: str
    weights: dict[
        str, Tensor
    ]  # float32, standard layout; the optimizer's own as "momentum.<name>" and the like
    epoch: int = 0  # complete epochs
    batch: int = 0  # batches done in the one after
    seconds: float = 0.0  # spent on those batches
    suspended: float = 0.0  # seconds for which the process was stopped meanwhile
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))  # float32 [batch]
    correct: int = 0  # right answers in those batches
    batch_losses: list[tuple[int, float]] = field(default_factory=list)  # all that `Progress` has reported
    history: list[EpochResult] = field(default_factory=list)
    custom_net: CustomNetSource | None = None  # as in the configuration
    images: ImageSpec = STUDY  # those trained on
    best_weights: dict[str, Tensor] | None = None  # the net's, of the epoch that patience keeps

    def model(self) -> Net:
        """Create the net with the weights that the training results in so far, ready to predict."""
        weights = net_weights(self.weights) if self.best_weights is None else self.best_weights
        return model_from_weights(weights, self.custom_net, self.images)


def shuffled_indices(seed: int, epoch: int, images: int) -> Tensor:
    """Shuffle an epoch's images: int64 [images], a pure function of the arguments."""
    epoch_seed = int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0] >> 1)
    return torch.randperm(images, generator=torch.Generator().manual_seed(epoch_seed))


class Trainer:
    """One training, from the beginning or from a state.

    Sets PyTorch's number of threads, since it decides the last bits.

    Args:
        config: with a resolved `validation_size` (see `TrainingConfig.for_training_set`).
        state: where to resume; None starts anew.

    Raises:
        CheckpointError: the state has another fingerprint.
    """

    def __init__(
        self,
        config: TrainingConfig,
        runtime: ResolvedRuntime,
        dataset_sha256: str,
        train: ImageSet,
        validation: ImageSet | None,
        state: TrainingState | None = None,
    ) -> None:
        self.config = config
        self.fingerprint = fingerprint(config, dataset_sha256, runtime, train.spec)
        self._on_gpu = runtime.device == "cuda"
        torch.set_num_threads(runtime.threads)
        model = new_model(config.seed, config.custom_net, train.spec)
        self._step = make_train_step(
            model,
            lr=config.lr,
            rule=config.update_rule,
            precision=runtime.precision,
            device=runtime.device,
            batch_size=config.batch_size,
        )
        if state is None:
            state = TrainingState(
                self.fingerprint, self._step.state(), custom_net=config.custom_net, images=train.spec
            )
        elif state.fingerprint != self.fingerprint:
            raise CheckpointError(
                f"the saved state has fingerprint {state.fingerprint[:12]}, this training {self.fingerprint[:12]}: "
                "another configuration, data set, code or machine; start a new run instead"
            )
        else:
            self._step.load(state.weights)
        self._spec = train.spec
        self.batches_per_epoch = math.ceil(len(train) / config.batch_size)
        self._images = self._step.prepare(train.images)
        self._labels = train.labels.to(runtime.device)
        self._validation_images = None if validation is None else self._step.prepare(validation.images)
        self._validation_labels = None if validation is None else validation.labels.to(runtime.device)
        self._epoch = state.epoch
        self._batch = state.batch
        self._seconds = state.seconds
        self._suspended = state.suspended
        self._losses = torch.zeros(self.batches_per_epoch, device=runtime.device)
        self._losses[: state.batch] = state.losses
        self._correct = torch.tensor(state.correct, device=runtime.device)
        self.history = list(state.history)
        self.batch_losses = list(state.batch_losses)
        self._best_weights = state.best_weights

    def state(self) -> TrainingState:
        """Copy the present state; exact after an epoch and inside `on_progress`."""
        return TrainingState(
            fingerprint=self.fingerprint,
            weights=self._step.state(),
            epoch=self._epoch,
            batch=self._batch,
            seconds=self._seconds,
            suspended=self._suspended,
            losses=self._losses[: self._batch].cpu().clone(),
            correct=int(self._correct),
            batch_losses=list(self.batch_losses),
            history=list(self.history),
            custom_net=self.config.custom_net,
            images=self._spec,
            best_weights=self._best_weights,
        )

    def epochs(self, on_progress: Callable[[Progress], None] | None = None) -> Iterator[EpochResult]:
        """Train, and yield each epoch as it ends, the last or the one where patience does.

        What `on_progress` raises ends the training where it stands.

        Raises:
            DivergenceError: the loss is not finite any more.
        """
        patience = self.config.patience
        while self._epoch < self.config.epochs and not is_stopped(self.history, patience):
            result = self._train_epoch(self._epoch + 1, on_progress)
            self._epoch += 1
            self._batch = 0
            self._seconds = self._suspended = 0.0
            self._correct.zero_()
            self.history.append(result)
            if patience is not None and kept_result(self.history, patience) is result:
                self._best_weights = net_weights(self._step.state())
            yield result

    def _train_epoch(self, epoch: int, on_progress: Callable[[Progress], None] | None) -> EpochResult:
        images = len(self._labels)
        before = (epoch - 1) * self.batches_per_epoch
        batches_in_all = self.config.epochs * self.batches_per_epoch
        order = shuffled_indices(self.config.seed, epoch, images).to(self._labels.device)
        batches = order.split(self.config.batch_size)
        reported = self._batch
        spent = self._seconds
        started = last_report = active_time.seconds()
        suspended_before = active_time.suspended() - self._suspended
        while self._batch < len(batches):
            self._step.lr = self.config.rate(before + self._batch + 1, batches_in_all)
            transform = transform_of(self.config.augment, self.config.seed, epoch, self._batch + 1)
            loss, correct = self._step(self._images, self._labels, batches[self._batch], transform)
            self._losses[self._batch] = loss
            self._correct += correct
            self._batch += 1
            last = self._batch == len(batches)
            steps = before + self._batch
            due = steps % BATCH_INTERVAL == 0 or active_time.seconds() > last_report + PROGRESS_INTERVAL
            if last or (due and not self._on_gpu):
                losses = self._finite_losses(epoch, before, reported)
                last_report = active_time.seconds()
                self._seconds = spent + last_report - started
                self._suspended = active_time.suspended() - suspended_before
                progress = self._progress(epoch, before, reported, losses)
                self.batch_losses += progress.batch_losses
                reported = self._batch
                if on_progress is not None:
                    on_progress(progress)
                    started += active_time.seconds() - last_report
        self._seconds = spent + active_time.seconds() - started
        self._suspended = active_time.suspended() - suspended_before
        return self._result(epoch)

    def _finite_losses(self, epoch: int, before: int, start: int) -> list[float]:
        """Copy the losses from batch `start` of this epoch to the present one to the host."""
        losses: list[float] = self._losses[start : self._batch].tolist()
        for offset, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise DivergenceError(epoch, before + start + offset + 1, loss, self.config.lr)
        return losses

    def _progress(self, epoch: int, before: int, start: int, losses: list[float]) -> Progress:
        done = min(self._batch * self.config.batch_size, len(self._labels))
        steps = range(before + start + 1, before + self._batch + 1)
        return Progress(
            epoch=epoch,
            images_done=done,
            images_total=len(self._labels),
            accuracy=int(self._correct) / done,
            images_per_second=done / self._seconds,
            batch_losses=tuple((s, x) for s, x in zip(steps, losses, strict=True) if s % BATCH_INTERVAL == 0),
        )

    def _result(self, epoch: int) -> EpochResult:
        images = len(self._labels)
        sizes = torch.full((self.batches_per_epoch,), float(self.config.batch_size), dtype=torch.float64)
        sizes[-1] = images - self.config.batch_size * (self.batches_per_epoch - 1)
        loss = float(self._losses.double().cpu() @ sizes) / images
        validation: tuple[float, float] | tuple[None, None] = (None, None)
        if self._validation_images is not None and self._validation_labels is not None:
            validation = self._step.evaluate(self._validation_images, self._validation_labels)
        return EpochResult(
            epoch=epoch,
            train_loss=loss,
            train_accuracy=int(self._correct) / images,
            validation_loss=validation[0],
            validation_accuracy=validation[1],
            epoch_seconds=self._seconds,
            images_per_second=images / self._seconds,
            suspended_seconds=self._suspended or None,
        )
