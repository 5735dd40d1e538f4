"""The shipped score: what its p-values promise, its far tail, its state, and a small real model."""

import io
import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hw2.common.errors import CheckpointError, DataError
from hw2.data.image_set import ImageSet, load_dataset
from hw2.models.factory import new_model
from hw2.models.net import ModelOutputs
from hw2.outliers.detector import OutlierDetector, TailCalibration
from hw2.outliers.fit_sets import FIT_IMAGES, HELD_OUT_IMAGES, fit_sets
from hw2.outliers.statistics import STATISTICS, knn_distance, log_odds


def some_digits(count: int, seed: int) -> SimpleNamespace:
    """Outputs as of a good model: one logit far above the others, channel means that depend on the digit."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, count)
    centers = np.random.default_rng(0).normal(size=(10, 96))
    means = centers[labels] + 0.5 * generator.normal(size=(count, 96))
    logits = generator.normal(size=(count, 10)) + 9 * np.eye(10)[labels]
    return SimpleNamespace(logits=logits, early_features=means[:, :32], late_features=means[:, 32:])


def changed(outputs: SimpleNamespace, **parts: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(outputs), **parts})


@pytest.fixture(scope="module")
def detector() -> OutlierDetector:
    return OutlierDetector.fit(some_digits(2000, 1), some_digits(5000, 2))


@pytest.fixture(scope="module")
def fresh() -> SimpleNamespace:
    return some_digits(20_000, 3)


@pytest.mark.parametrize(("p_value", "within"), [(0.5, 0.03), (0.1, 0.02), (0.01, 0.006), (0.001, 0.0015)])
def test_a_p_value_is_the_share_of_digits_at_least_as_strange(detector, fresh, p_value, within):
    assert np.mean(detector.p_value(detector.score(fresh)) <= p_value) == pytest.approx(p_value, abs=within)


def test_the_threshold_keeps_95_in_100_digits(detector, fresh):
    assert detector.is_outlier(detector.score(fresh)).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("keep", [0.9, 0.95, 0.999])
def test_the_threshold_keeps_the_share_of_held_out_digits_that_was_asked_for(keep):
    held_out = some_digits(1000, 2)
    fitted = OutlierDetector.fit(some_digits(500, 1), held_out, target_recall=keep)
    accepted = np.sum(~fitted.is_outlier(fitted.score(held_out)))
    assert 1000 * keep <= accepted <= 1000 * keep + 1


def test_the_threshold_means_what_it_says_as_a_p_value(detector):
    assert detector.p_value(detector.threshold) == pytest.approx(0.05, abs=0.002)


def first(outputs: SimpleNamespace, count: int) -> SimpleNamespace:
    return SimpleNamespace(**{name: values[:count] for name, values in vars(outputs).items()})


def test_far_outliers_keep_their_order(detector, fresh):
    some = first(fresh, 50)
    scores = [
        detector.score(changed(some, early_features=some.early_features + away))
        for away in (2, 3, 5, 10, 100, 1e6)
    ]
    assert all((further > nearer).all() for nearer, further in pairwise(scores))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("doubt", {"logits": lambda logits: logits * 0.05}),
        ("strokes", {"early_features": lambda means: means + 3}),
        ("shapes", {"late_features": lambda means: means + 3}),
        # sure, but by a pattern of the other logits that no digit has
        ("direction", {"logits": lambda logits: logits - 20 * (np.arange(10) % 2) * (logits < 5)}),
    ],
)
def test_each_statistic_says_what_is_strange(detector, fresh, part, change):
    usual = first(fresh, 500)
    strange = changed(usual, **{name: how(getattr(usual, name)) for name, how in change.items()})
    parts = detector.component_scores(strange)
    assert set(parts) == set(STATISTICS)
    assert np.median(parts[part]) > 2
    for other in set(STATISTICS) - {part} - {"doubt", "direction"}:
        assert np.median(parts[other]) < 1
    assert np.median(detector.score(strange)) > detector.threshold


def test_channel_means_are_compared_with_the_digit_that_the_image_is_taken_for(detector, fresh):
    """Each part of such an image is usual, only not together."""
    some = first(fresh, 500)
    mistaken = changed(some, logits=np.roll(some.logits, 1, axis=1))
    assert (
        np.median(detector.component_scores(mistaken)["strokes"])
        > np.median(detector.component_scores(some)["strokes"]) + 2
    )


def test_a_loaded_state_gives_the_same_scores_to_the_last_bit(detector, fresh):
    file = io.BytesIO()
    torch.save(detector.state_dict(), file)
    assert file.tell() < 150_000
    file.seek(0)
    loaded = OutlierDetector.from_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(loaded.score(fresh), detector.score(fresh))
    for name in ("threshold", "target_recall", "held_out", "threshold_from"):
        assert getattr(loaded, name) == getattr(detector, name)


@pytest.mark.parametrize("threshold_from", ["validation", "training"])
def test_a_state_remembers_where_its_threshold_is_from(threshold_from):
    fitted = OutlierDetector.fit(some_digits(200, 1), some_digits(200, 2), threshold_from=threshold_from)
    assert OutlierDetector.from_state_dict(fitted.state_dict()).threshold_from == threshold_from


@pytest.mark.parametrize("name", ["references", "strokes_means", "curve_values", "threshold"])
def test_a_state_that_is_not_whole_is_refused(detector, name):
    state = detector.state_dict()
    with pytest.raises(CheckpointError, match=f"{name} has shape None"):
        OutlierDetector.from_state_dict({key: value for key, value in state.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name} has shape"):
        OutlierDetector.from_state_dict({**state, name: torch.zeros(11, 3, 2)})


def test_a_images_score_does_not_depend_on_the_others(detector, fresh):
    alone = [
        detector.score(SimpleNamespace(**{k: v[i : i + 1] for k, v in vars(fresh).items()})) for i in range(9)
    ]
    np.testing.assert_allclose(np.concatenate(alone), detector.score(fresh)[:9], rtol=1e-9)


def test_tensors_and_arrays_are_scored_alike(detector, fresh):
    tensors = ModelOutputs(*(torch.from_numpy(fresh.__dict__[name]) for name in ModelOutputs._fields))
    np.testing.assert_array_equal(detector.score(tensors), detector.score(fresh))


def test_no_images_have_no_scores(detector, fresh):
    assert detector.score(first(fresh, 0)).shape == (0,)


def test_a_score_that_is_no_number_is_no_digit(detector):
    assert detector.is_outlier([math.nan, 0.0, 99.0]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (0.0, "100 digits in 100 look as strange"),
        (1.0, "1 digit in 10 looks as strange"),
        (math.log10(20), "1 digit in 20 looks as strange"),
        (math.log10(2000), "1 digit in 2,000 looks as strange"),
        (math.log10(2049), "1 digit in 2,000 looks as strange"),
        (math.log10(5000), "1 digit in 5,000 looks as strange"),
        (4.0, "fewer than 1 digit in 5,000 looks as strange"),
        (900.0, "fewer than 1 digit in 5,000 looks as strange"),
    ],
)
def test_a_score_in_words(detector, score, words):
    assert detector.describe(score) == words


def test_too_few_images_are_refused():
    with pytest.raises(DataError, match="99 held-out images for the outlier score, expected at least 100"):
        OutlierDetector.fit(some_digits(200, 1), some_digits(99, 2))


def test_outputs_that_are_no_numbers_are_refused():
    broken = some_digits(200, 1)
    broken.late_features[7, 3] = np.nan
    with pytest.raises(DataError, match="training images are not finite"):
        OutlierDetector.fit(broken, some_digits(200, 2))


def test_a_dead_channel_and_a_digit_that_is_never_predicted_are_survived():
    def poor(count: int, seed: int) -> SimpleNamespace:
        outputs = some_digits(count, seed)
        outputs.logits[:, 4] = -30
        outputs.early_features[:, 5] = 0
        return outputs

    fitted = OutlierDetector.fit(poor(1000, 1), poor(1000, 2))
    assert np.isfinite(fitted.score(some_digits(1000, 3))).all()


def test_a_curve_counts_and_then_goes_on():
    values = np.random.default_rng(1).exponential(size=50_000)  # whose surprise is the value itself
    curve = TailCalibration.fit(values)
    np.testing.assert_allclose(curve(np.array([0.5, 2.0, 3.5, 6.0])), [0.5, 2.0, 3.5, 6.0], rtol=0.05)
    assert curve(np.array([-1.0])) == 0


def test_a_curve_of_a_constant_is_finite():
    assert np.isfinite(TailCalibration.fit(np.full(200, 3.0))(np.array([2.0, 3.0, 4.0]))).all()


def test_doubt_is_the_log_odds_against_the_answer_even_where_that_is_certain():
    logits = np.array([[1.0, 0.0, 0.0], [900.0, 0.0, 0.0]])
    np.testing.assert_allclose(log_odds(logits), [math.log(2) - 1, math.log(2) - 900])


def test_the_neighbors_distance_in_a_worked_case():
    angles = np.radians([0, 10, 20, 30, 40])
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    fourth = 2 * np.sin(np.radians([30, 20, 20, 20, 30]) / 2)
    np.testing.assert_allclose(knn_distance(circle, circle, 4), fourth, atol=1e-9)


def numbered(count: int) -> ImageSet:
    images = torch.zeros(count, 28, 28, dtype=torch.uint8)
    return ImageSet("numbered", "train", images, torch.arange(count), ("digit",), "a test")


@pytest.mark.parametrize("size", [300, 4000, 20_000])
def test_without_validation_the_threshold_is_from_other_training_images(size):
    chosen = fit_sets(numbered(size), None)
    assert chosen.threshold_from == "training"
    assert not set(chosen.training.labels.tolist()) & set(chosen.held_out.labels.tolist())
    assert len(chosen.training) == min(FIT_IMAGES, size - size // 2)
    assert len(chosen.held_out) == min(HELD_OUT_IMAGES, size // 2)


def test_the_images_to_fit_on_are_always_the_same():
    validation = numbered(200)
    chosen, again = (fit_sets(numbered(9000), validation) for _ in range(2))
    assert chosen.held_out is validation
    assert chosen.threshold_from == "validation"
    assert len(chosen.training) == FIT_IMAGES
    assert torch.equal(chosen.training.labels, again.training.labels)


def test_a_small_real_model_tells_noise_and_inverted_digits_from_digits():
    from sklearn.metrics import roc_auc_score

    dataset = load_dataset("mnist-sample")
    train, test = dataset.train.images[:1500], dataset.test.images[:400]
    held_out = dataset.train.images[1500:2100]
    model = new_model(0)
    weights = list(model.parameters())
    for index in torch.arange(len(train)).split(50):
        loss = torch.nn.functional.cross_entropy(model(train[index]), dataset.train.labels[index])
        with torch.no_grad():
            for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 0.05 * gradient
    noise = torch.randint(0, 256, (200, 28, 28), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        detector = OutlierDetector.fit(model.forward_features(train), model.forward_features(held_out))
        usual, *strange = (detector.score(model.forward_features(x)) for x in (test, noise, 255 - test[:200]))
    assert 0.9 < np.mean(~detector.is_outlier(usual)) < 0.99
    for scores in strange:
        auroc = roc_auc_score(np.repeat([0, 1], [len(usual), len(scores)]), np.concatenate([usual, scores]))
        assert auroc > 0.999
        assert detector.is_outlier(scores).all()
