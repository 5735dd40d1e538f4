"""Scores against worked cases and against pytorch-ood on the same logits and features."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import mahalanobis

from hw2.common.errors import DataError
from hw2.common.types import FloatArray, IntArray
from hw2.outliers.scores import (
    ENSEMBLE_SCORES,
    LOGIT_SCORES,
    KNearestNeighbors,
    Mahalanobis,
    Scorer,
    energy,
    entropy,
    entropy_of_mean,
    max_logit,
    max_softmax,
    mutual_information,
    score_ensemble,
    vote_disagreement,
)


@pytest.fixture(scope="module")
def logits() -> FloatArray:
    """Close enough to each other that pytorch-ood's clip of probabilities at 1e-7 changes nothing."""
    return np.random.default_rng(3).normal(size=(500, 10)) * 2


@pytest.fixture(scope="module")
def features() -> tuple[FloatArray, IntArray]:
    """600 points of 6 correlated channels in 4 classes."""
    generator = np.random.default_rng(4)
    labels = generator.permutation(np.arange(600) % 4)
    mixing = generator.normal(size=(6, 6))
    return generator.normal(size=(600, 6)) @ mixing + 3 * generator.normal(size=(4, 6))[labels], labels


@pytest.mark.parametrize(
    ("score", "detector"),
    [(max_softmax, "MaxSoftmax"), (max_logit, "MaxLogit"), (energy, "EnergyBased"), (entropy, "Entropy")],
)
def test_a_score_of_logits_is_pytorch_oods(score, detector, logits):
    from pytorch_ood import detector as theirs

    expected = getattr(theirs, detector)(None).predict_logits(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(score(logits), expected, rtol=0, atol=1e-6)


def test_the_mahalanobis_score_is_pytorch_oods(features):
    """Which leaves the scatter undivided: its scores are smaller by the number of images."""
    from pytorch_ood.detector import Mahalanobis as Theirs

    points, labels = features
    new = points[:100] + 0.5
    theirs = Theirs(None).to("cpu")
    theirs.fit_features(torch.from_numpy(points).float(), torch.from_numpy(labels))
    # float32 inside of pytorch-ood: its own precision is 1e-6 of the value
    expected = theirs.predict_features(torch.from_numpy(new).float()).numpy() * len(points)
    np.testing.assert_allclose(Mahalanobis.fit(points, labels).score(new), expected, rtol=2e-5)


def test_the_mahalanobis_score_is_scipys(features):
    points, labels = features
    new = points[:100] + 0.5
    means = np.stack([points[labels == label].mean(axis=0) for label in range(4)])
    inverse = np.linalg.inv(np.cov((points - means[labels]).T, bias=True))
    expected = [min(mahalanobis(one, mean, inverse) ** 2 for mean in means) / 2 for one in new]
    np.testing.assert_allclose(Mahalanobis.fit(points, labels).score(new), expected, rtol=0, atol=1e-6)


def test_the_neighbor_score_is_pytorch_oods(features):
    from pytorch_ood.detector import KNN

    points, labels = features
    new = points[:100] + 0.5
    theirs = KNN(None, k=7).fit_features(torch.from_numpy(points), torch.from_numpy(labels))
    expected = theirs.predict_features(torch.from_numpy(new)).numpy()
    np.testing.assert_allclose(KNearestNeighbors.fit(points, 7).score(new), expected, rtol=0, atol=1e-6)


def test_scores_of_a_worked_case():
    even, sure = [0.0, 0.0], [np.log(3), 0.0]  # probabilities 1/2, 1/2 and 3/4, 1/4
    both = np.array([even, sure])
    np.testing.assert_allclose(max_softmax(both), [-1 / 2, -3 / 4])
    np.testing.assert_allclose(max_logit(both), [0, -np.log(3)])
    np.testing.assert_allclose(energy(both), [-np.log(2), -np.log(4)])
    np.testing.assert_allclose(entropy(both), [np.log(2), np.log(4) - 0.75 * np.log(3)])


def test_models_together_in_a_worked_case():
    one, other = [50.0, 0.0, 0.0], [0.0, 50.0, 0.0]
    agreeing, split = [one, one, one, one], [one, one, other, other]
    models = np.array([agreeing, split]).swapaxes(0, 1)  # [4 models, 2 images, 3 classes]
    np.testing.assert_allclose(vote_disagreement(models), [0, 1 / 2])
    np.testing.assert_allclose(entropy_of_mean(models), [0, np.log(2)], atol=1e-12)
    np.testing.assert_allclose(mutual_information(models), [0, np.log(2)], atol=1e-12)


def test_models_that_are_unsure_in_the_same_way_share_no_information():
    unsure = np.tile(np.array([1.0, 0.5, 0.0]), (5, 1, 1))
    np.testing.assert_allclose(mutual_information(unsure), [0], atol=1e-12)
    np.testing.assert_allclose(entropy_of_mean(unsure), entropy(unsure[0]))


@given(arrays.arrays(np.float64, (4, 3, 5), elements=st.floats(-1e4, 1e4)))
def test_scores_are_finite_and_in_their_range_for_any_finite_logits(logits):
    for score in LOGIT_SCORES.values():
        assert np.isfinite(score(logits[0])).all()
    assert ((max_softmax(logits[0]) >= -1) & (max_softmax(logits[0]) <= -1 / 5)).all()
    assert (entropy(logits[0]) >= 0).all()
    for score in ENSEMBLE_SCORES.values():
        assert (score(logits) >= -1e-9).all()
    assert (entropy_of_mean(logits) <= np.log(5) + 1e-9).all()


def test_a_larger_score_is_more_of_an_outlier(features):
    points, labels = features
    logits = np.eye(4)[labels] * 9
    fitted = Scorer.fit(SimpleNamespace(logits=logits, late_features=points), labels)
    # between all classes, and far from every training image on the other side of the origin
    strange = SimpleNamespace(
        logits=np.zeros((20, 4)), late_features=np.full((20, 6), -60.0) + points[:20] / 9
    )
    usual = SimpleNamespace(logits=logits[:20], late_features=points[:20])
    for name, score in fitted.scores(strange).items():
        assert score.min() > fitted.scores(usual)[name].max(), name


def test_a_channel_that_never_fires_does_not_break_the_distance(features):
    points, labels = features
    dead = np.column_stack([points, np.zeros(len(points))])
    np.testing.assert_allclose(
        Mahalanobis.fit(dead, labels).score(dead), Mahalanobis.fit(points, labels).score(points), rtol=1e-6
    )


def test_fewer_training_images_than_neighbors_are_all_looked_at():
    assert KNearestNeighbors.fit(np.eye(3)).neighbor == 3


def test_a_score_of_several_models_wants_several():
    with pytest.raises(DataError, match="name two or more"):
        score_ensemble([SimpleNamespace(logits=np.zeros((2, 10)), late_features=np.zeros((2, 64)))])
