"""Measures against hand-made scores, scikit-learn and pytorch-ood; intervals against repeated samples."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

from hw2.common.errors import DataError
from hw2.common.types import FloatArray
from hw2.outliers import metrics
from hw2.outliers.metrics import OODMetrics, ood_metrics

NAMES = ("auroc", "aupr_out", "aupr_in", "outliers_accepted", "digits_rejected")


def normal(count: int, mean: float, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(mean, size=count)


def values(measures: OODMetrics) -> list[float]:
    return [getattr(measures, name).value for name in NAMES]


def test_separable_scores_give_exactly_one():
    perfect = ood_metrics(np.arange(50.0), np.arange(50.0, 80.0))
    assert values(perfect) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert {perfect.auroc.low, perfect.auroc.high, perfect.aupr_in.low, perfect.aupr_out.low} == {1.0}


def test_separable_the_wrong_way_round_gives_exactly_nothing():
    assert ood_metrics(np.arange(50.0, 80.0), np.arange(50.0)).auroc == (0.0, 0.0, 0.0)


def test_equal_scores_are_a_guess():
    guess = ood_metrics(np.zeros(40), np.zeros(60))
    assert values(guess)[0] == 0.5
    assert values(guess)[3:] == [1.0, 1.0]


def test_which_share_is_which():
    digits = np.arange(100.0)  # the threshold that keeps 95 is 94
    outliers = np.repeat([90.0, 97.5], [20, 80])  # one that rejects 95 % lies at 90
    measures = ood_metrics(digits, outliers, resamples=0)
    assert measures.outliers_accepted.value == pytest.approx(0.20)
    assert measures.digits_rejected.value == pytest.approx(0.10)


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_measures_are_scikit_learns_and_pytorch_oods(decimals):
    from pytorch_ood.metrics import AUPR, AUROC, FPRAtTPR

    digits, outliers = normal(900, 0, 1).round(decimals), normal(400, 1.5, 2).round(decimals)
    ours = ood_metrics(digits, outliers, resamples=0)
    scores, is_outlier = np.concatenate([digits, outliers]), np.repeat([0, 1], [900, 400])
    precision, recall, _ = precision_recall_curve(is_outlier, scores)
    false, true, _ = roc_curve(is_outlier, scores, drop_intermediate=False)
    is_digit = 1 - is_outlier
    of_digits, digits_found, _ = precision_recall_curve(is_digit, -scores)
    accepted, inliers, _ = roc_curve(is_digit, -scores, drop_intermediate=False)
    assert ours.auroc.value == pytest.approx(roc_auc_score(is_outlier, scores), abs=1e-6)
    assert ours.aupr_out.value == pytest.approx(auc(recall, precision), abs=1e-6)
    assert ours.aupr_in.value == pytest.approx(auc(digits_found, of_digits), abs=1e-6)
    assert ours.digits_rejected.value == pytest.approx(false[np.argmax(true >= 0.95)], abs=1e-6)
    assert ours.outliers_accepted.value == pytest.approx(accepted[np.argmax(inliers >= 0.95)], abs=1e-6)

    labels = torch.from_numpy(-is_outlier)  # below zero: an outlier

    def theirs(metric, scores, labels):
        (value,) = metric.update(torch.from_numpy(scores), labels).compute().values()
        return pytest.approx(float(value), abs=1e-6)

    assert ours.auroc.value == theirs(AUROC(), scores, labels)
    assert ours.aupr_out.value == theirs(AUPR(positive="ood"), scores, labels)
    assert ours.aupr_in.value == theirs(AUPR(positive="id"), scores, labels)
    assert ours.digits_rejected.value == theirs(FPRAtTPR(0.95), scores, labels)
    # the reverse: digits are sought, so that both the scores and who counts as an outlier change sides
    assert ours.outliers_accepted.value == theirs(FPRAtTPR(0.95), -scores, -1 - labels)


class EachOnce:
    """Draws each image once."""

    def integers(self, count, size):
        return np.tile(np.arange(count), (size[0], 1))


@pytest.mark.parametrize(("shift", "decimals"), [(1.5, 9), (1.5, 1), (1.5, 0), (6, 9), (0, 9), (-2, 9)])
def test_a_resample_that_draws_each_image_once_gives_the_measures_themselves(monkeypatch, shift, decimals):
    assert_resampled_exactly(
        monkeypatch, normal(3000, 0, 3).round(decimals), normal(2000, shift, 4).round(decimals)
    )


def test_the_same_where_ties_and_runs_lie_unevenly(monkeypatch):
    digits = np.concatenate([np.full(50, 5.0), np.linspace(0, 1, 30_000)])
    outliers = np.concatenate([np.full(100, 5.0), [2.0, -1.0], np.linspace(6, 7, 30_000)])
    assert_resampled_exactly(monkeypatch, digits, outliers)
    assert_resampled_exactly(monkeypatch, -outliers, -digits)


def assert_resampled_exactly(monkeypatch, digits: FloatArray, outliers: FloatArray) -> None:
    expected = values(ood_metrics(digits, outliers, resamples=0))
    monkeypatch.setattr(metrics.np.random, "default_rng", lambda seed: EachOnce())
    measures = ood_metrics(digits, outliers, resamples=2)
    assert [getattr(measures, name).low for name in NAMES] == pytest.approx(expected, abs=1e-4)
    assert [getattr(measures, name).high for name in NAMES] == pytest.approx(expected, abs=1e-4)


def test_intervals_are_as_wide_as_new_samples_differ():
    seeds = np.random.SeedSequence(11).generate_state(200).reshape(100, 2)
    drawn = [values(ood_metrics(normal(3000, 0, a), normal(2000, 1, b), resamples=0)) for a, b in seeds]
    spread = np.diff(np.quantile(drawn, [0.025, 0.975], axis=0), axis=0)[0]
    measures = ood_metrics(normal(3000, 0, 5), normal(2000, 1, 6), resamples=500)
    for name, expected in zip(NAMES, spread, strict=True):
        interval = getattr(measures, name)
        assert interval.low < interval.value < interval.high
        assert interval.high - interval.low == pytest.approx(expected, rel=0.4), name


def test_the_same_scores_have_the_same_intervals():
    digits, outliers = normal(100, 0, 7), normal(100, 1, 8)
    assert ood_metrics(digits, outliers) == ood_metrics(digits, outliers)
    assert ood_metrics(digits, outliers, seed=1) != ood_metrics(digits, outliers)


@pytest.mark.parametrize(("digits", "outliers"), [([], [1.0]), ([1.0], [])])
def test_one_kind_of_image_alone_is_refused(digits, outliers):
    with pytest.raises(DataError, match="at least one image of each kind"):
        ood_metrics(digits, outliers)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="1 of 2 scores of outliers are NaN"):
        ood_metrics([1.0], [1.0, np.nan])


def test_a_row_says_each_measure_with_its_interval():
    row = ood_metrics(normal(50, 0, 1), normal(50, 1, 2), resamples=50).row()
    assert list(row) == [f"{name}{end}" for name in NAMES for end in ("", "_low", "_high")]
