"""Training as a stream of epochs, and its state on disk."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from hw2.common.errors import CheckpointError, DivergenceError
from hw2.data.image_set import Dataset, ImageSet, load_dataset
from hw2.models.factory import new_model, weights_sha256
from hw2.train_step.factory import make_train_step
from hw2.train_step.options import UpdateRule
from hw2.training import checkpoint
from hw2.training.config import TrainingConfig
from hw2.training.runtime import ResolvedRuntime
from hw2.training.split import split_validation
from hw2.training.trainer import BATCH_INTERVAL, Progress, Trainer, TrainingState, shuffled_indices

RUNTIME = ResolvedRuntime("float32", "cpu", 1)
CONFIG = TrainingConfig(lr=0.05, epochs=2, batch_size=8, validation_size=100)


@pytest.fixture(scope="module")
def sample() -> Dataset:
    return load_dataset("mnist-sample")


@pytest.fixture(scope="module")
def states(sample: Dataset) -> list[TrainingState]:
    """After the first and after the second epoch."""
    one = training(sample)
    return [one.state() for _ in one.epochs()]


@pytest.fixture(scope="module")
def undisturbed() -> dict[int, Trainer]:
    """What nothing has stopped, by its warm-up, once it has been trained."""
    return {}


@pytest.fixture(autouse=True)
def same_threads() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def reports_by_batches_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hw2.training.trainer.PROGRESS_INTERVAL", math.inf)


def training(sample: Dataset, state: TrainingState | None = None, config: TrainingConfig = CONFIG) -> Trainer:
    """On 1,003 images: 126 batches of 8, the last of 3."""
    train, validation = split_validation(sample.train.subset(torch.arange(1_103)), 100)
    return Trainer(config, RUNTIME, sample.sha256, train, validation, state)


def digest(state: TrainingState) -> str:
    return weights_sha256(state.weights)


def test_the_order_is_a_function_of_seed_and_epoch_and_holds_every_image() -> None:
    orders = {
        (seed, epoch): shuffled_indices(seed, epoch, 1_000) for seed in (0, 1, 2) for epoch in (1, 2, 3)
    }
    for key, order in orders.items():
        assert torch.equal(order, shuffled_indices(*key, 1_000))
        assert torch.equal(order.sort().values, torch.arange(1_000))
    assert len({tuple(order.tolist()) for order in orders.values()}) == len(orders)


def test_the_same_seed_ends_with_bit_equal_weights_and_figures(sample: Dataset) -> None:
    ended = []
    for _ in range(2):
        one = training(sample)
        losses = [
            (r.train_loss, r.train_accuracy, r.validation_loss, r.validation_accuracy) for r in one.epochs()
        ]
        ended.append((digest(one.state()), losses, one.batch_losses))
    assert ended[0] == ended[1]
    other = training(sample, config=dataclasses.replace(CONFIG, seed=1))
    assert len(list(other.epochs())) == 2
    assert digest(other.state()) != ended[0][0]


def test_without_a_warm_up_the_weights_are_those_of_the_plain_rate_and_with_one_of_the_rising_rate(
    sample: Dataset,
) -> None:
    images, labels = sample.train.images[:400], sample.train.labels[:400]
    rising = [0.05 * (n / 80) for n in range(1, 80)] + [
        0.05
    ] * 21  # over the first epoch and some of the second
    for warmup, rates in ((0, [0.05] * 100), (80, rising)):
        config = TrainingConfig(lr=0.05, epochs=2, batch_size=8, validation_size=0, warmup=warmup)
        one = Trainer(config, RUNTIME, sample.sha256, sample.train.subset(torch.arange(400)), None)
        list(one.epochs())
        step = make_train_step(
            new_model(0), lr=0.05, rule=UpdateRule(), precision="float32", device="cpu", batch_size=8
        )
        prepared = step.prepare(images)
        batches = [*shuffled_indices(0, 1, 400).split(8), *shuffled_indices(0, 2, 400).split(8)]
        for rate, index in zip(rates, batches, strict=True):
            step.lr = rate
            step(prepared, labels, index)
        assert weights_sha256(step.state()) == digest(one.state())


def test_a_shorter_training_is_the_beginning_of_a_longer_one_also_where_it_ends_in_the_warm_up(
    sample: Dataset,
) -> None:
    config = dataclasses.replace(CONFIG, warmup=200)
    shorter, longer = (training(sample, config=dataclasses.replace(config, epochs=n)) for n in (1, 2))
    list(shorter.epochs())
    next(iter(longer.epochs()))
    assert digest(shorter.state()) == digest(longer.state())


def test_losses_are_reported_every_50_batches_counted_over_epochs(sample: Dataset) -> None:
    heard: list[Progress] = []
    one = training(sample)
    results = list(one.epochs(heard.append))
    steps = [step for progress in heard for step, _ in progress.batch_losses]
    assert steps == [50, 100, 150, 200, 250]
    assert [p.images_done for p in heard if p.epoch == 1] == [400, 800, 1_003]
    assert [(step, loss) for p in heard for step, loss in p.batch_losses] == one.batch_losses
    assert [result.epoch for result in results] == [1, 2]


def test_slow_batches_are_reported_each_and_change_nothing(
    sample: Dataset, states: list[TrainingState], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = states[1]
    monkeypatch.setattr("hw2.training.trainer.PROGRESS_INTERVAL", -1.0)
    heard: list[Progress] = []
    one = training(sample)
    list(one.epochs(heard.append))
    assert len(heard) == 2 * 126
    assert one.batch_losses == expected.batch_losses
    assert digest(one.state()) == digest(expected)


def test_what_a_report_takes_is_not_the_trainings(sample: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 0.001
        return now

    def on_progress(progress: Progress) -> None:
        nonlocal now
        now += 1_000

    monkeypatch.setattr("hw2.common.active_time.seconds", clock)
    for result in training(sample).epochs(on_progress):
        assert 0 < result.epoch_seconds < 1


def test_an_epochs_figures_are_means_over_all_its_images(sample: Dataset) -> None:
    # A learning rate that changes nothing lets the epoch's figures be computed afterwards.
    one = training(sample, config=dataclasses.replace(CONFIG, lr=1e-30, epochs=1))
    (result,) = one.epochs()
    train, validation = split_validation(sample.train.subset(torch.arange(1_103)), 100)
    for part, loss, accuracy in (
        (train, result.train_loss, result.train_accuracy),
        (validation, result.validation_loss, result.validation_accuracy),
    ):
        assert isinstance(part, ImageSet)
        logits = one.state().model()(part.images)
        assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, part.labels)), rel=1e-4)
        assert accuracy == pytest.approx(float((logits.argmax(1) == part.labels).float().mean()), abs=2e-3)


@pytest.mark.parametrize("warmup", [0, 200])
@pytest.mark.parametrize("stop", [1, 3, 4, 6], ids=lambda tick: f"report {tick}")
def test_a_training_that_stops_anywhere_goes_on_bit_for_bit(
    sample: Dataset, undisturbed: dict[int, Trainer], stop: int, warmup: int, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, warmup=warmup)
    if warmup not in undisturbed:
        undisturbed[warmup] = training(sample, config=config)
        list(undisturbed[warmup].epochs())
    whole = undisturbed[warmup]

    class StopError(Exception):
        pass

    heard = 0
    first = training(sample, config=config)

    def on_progress(progress: Progress) -> None:
        nonlocal heard
        heard += 1
        if heard == stop:
            checkpoint.save(tmp_path / "state.pt", first.state())
            raise StopError

    with pytest.raises(StopError):
        list(first.epochs(on_progress))
    second = training(sample, checkpoint.load(tmp_path / "state.pt"), config)
    list(second.epochs())
    assert digest(second.state()) == digest(whole.state())
    assert second.batch_losses == whole.batch_losses
    assert [r.train_loss for r in second.history] == [r.train_loss for r in whole.history]
    assert [r.train_accuracy for r in second.history] == [r.train_accuracy for r in whole.history]


def test_a_state_of_another_configuration_is_refused_but_not_for_its_epochs(sample: Dataset) -> None:
    state = training(sample).state()
    training(sample, state, dataclasses.replace(CONFIG, epochs=7))
    with pytest.raises(CheckpointError, match="fingerprint"):
        training(sample, state, dataclasses.replace(CONFIG, lr=0.06))


def test_a_loss_that_is_no_number_stops_at_its_batch(sample: Dataset) -> None:
    with pytest.raises(DivergenceError, match="batch") as stopped:
        list(training(sample, config=dataclasses.replace(CONFIG, lr=1e6)).epochs())
    assert stopped.value.epoch == 1
    assert 1 <= stopped.value.batch <= BATCH_INTERVAL
    assert "\n" not in str(stopped.value)


class TestCheckpoint:
    """The state on disk."""

    def test_it_comes_back_whole(self, states: list[TrainingState], tmp_path: Path) -> None:
        checkpoint.save(tmp_path / "state.pt", states[0])
        again = checkpoint.load(tmp_path / "state.pt")
        assert digest(again) == digest(states[0])
        assert again.history == states[0].history
        assert (again.epoch, again.batch, again.batch_losses) == (1, 0, states[0].batch_losses)

    @pytest.mark.parametrize("damage", ["truncated", "zeroed", "torn", "empty", "gone", "one bit"])
    def test_where_the_newest_is_damaged_the_one_before_serves(
        self, states: list[TrainingState], damage: str, tmp_path: Path
    ) -> None:
        path = tmp_path / "state.pt"
        checkpoint.save(path, states[0])
        checkpoint.save(path, states[1])
        content = path.read_bytes()
        middle = len(content) // 2
        broken = {
            "truncated": content[:middle],
            "zeroed": bytes(len(content)),
            "torn": content[:middle] + bytes(len(content) - middle),
            "empty": b"",
            "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(broken[damage])
        assert checkpoint.load(path).epoch == 1

    def test_one_that_was_damaged_never_takes_the_place_of_the_whole_one_before(
        self, states: list[TrainingState], tmp_path: Path
    ) -> None:
        path = tmp_path / "state.pt"
        checkpoint.save(path, states[0])
        checkpoint.save(path, states[1])
        for _ in range(2):
            path.write_bytes(path.read_bytes()[:-1])
            assert "damaged" in str(checkpoint.read_problem(path))
            assert checkpoint.load(path).epoch == 1
            checkpoint.save(path, states[1])
            assert checkpoint.read_problem(path) is None

    def test_where_none_is_whole_it_says_so(self, states: list[TrainingState], tmp_path: Path) -> None:
        checkpoint.save(tmp_path / "state.pt", states[0])
        (tmp_path / "state.pt").write_bytes(b"not a state")
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(tmp_path / "state.pt")


@pytest.mark.parametrize(
    ("images", "accuracy"), [(15_000, 0.9), pytest.param(60_000, 0.95, marks=pytest.mark.campaign)]
)
def test_one_epoch_on_the_full_set_reaches_095_and_a_quarter_of_it_09(
    images: int, accuracy: float, full_data: Path
) -> None:
    from hw2.evaluation.evaluate import evaluate
    from hw2.training.runtime import resolve_runtime

    dataset = load_dataset("mnist", full_data)
    config = TrainingConfig(lr=0.1, epochs=1, validation_size=0)
    one = Trainer(
        config, resolve_runtime(config), dataset.sha256, dataset.train.subset(torch.arange(images)), None
    )
    (result,) = one.epochs()
    assert result.validation_loss is None
    assert evaluate(one.state().model(), dataset.test).accuracy >= accuracy
    assert math.isfinite(result.train_loss)
