"""Configurations over seeds and images: closed forms, another library's bootstrap, and a small simulation."""

import numpy as np
import pytest
from scipy import stats

from hw2.common.types import BoolArray
from hw2.comparison.seed_variance import compare_means, mean_interval


def draw(
    seeds: int, accuracies: list[float], generator: np.random.Generator, images: int = 2000
) -> BoolArray:
    """Seeds of these true accuracies on images that are not equally hard."""
    ease = generator.normal(0, 1, images)
    shift = stats.norm.ppf(accuracies)[:seeds, None] * np.sqrt(2)
    return np.asarray(ease + shift + generator.normal(size=(seeds, images)) > 0)


def test_where_seeds_agree_on_every_image_only_the_images_are_left() -> None:
    generator = np.random.default_rng(1)
    first, second = (np.tile(generator.random(5000) < share, (3, 1)) for share in (0.95, 0.9))
    result = compare_means(first, second)
    differences = first[0].astype(float) - second[0]
    interval = stats.norm.interval(0.95, differences.mean(), stats.sem(differences))
    assert (result.low, result.high) == pytest.approx(interval, rel=1e-2)
    assert result.p == pytest.approx(2 * stats.norm.sf(differences.mean() / stats.sem(differences)), rel=0.1)


def test_where_images_are_many_it_is_welchs_test_of_the_seeds() -> None:
    shares = [0.90, 0.93, 0.89, 0.92, 0.91], [0.85, 0.88, 0.86, 0.87, 0.84]
    first, second = (np.array([np.arange(200_000) < share * 200_000 for share in group]) for group in shares)
    result = compare_means(first, second)
    theirs = stats.ttest_ind(*shares, equal_var=False)
    assert theirs.df == pytest.approx(8)
    fewer = 2 * stats.t.sf(theirs.statistic, 7)  # what scatters that are not exactly equal leave
    assert result.difference == pytest.approx(0.05)
    assert result.p == pytest.approx(fewer, rel=0.05)


def test_both_variances_are_added_each_with_its_own_quantile() -> None:
    generator = np.random.default_rng(2)
    first = draw(4, [0.93, 0.95, 0.94, 0.96], generator)
    second = draw(3, [0.90, 0.92, 0.91], generator)
    result = compare_means(first, second)
    by_image = first.mean(axis=0) - second.mean(axis=0)
    by_seed = [np.var(group.mean(axis=1), ddof=1) / len(group) for group in (first, second)]
    welch = stats.ttest_ind(first.mean(axis=1), second.mean(axis=1), equal_var=False).df
    student = stats.t.ppf(0.975, min(int(welch), 3))
    margin = np.sqrt(1.96**2 * by_image.var() / 2000 + student**2 * sum(by_seed))
    assert result.high - result.difference == pytest.approx(margin, rel=1e-2)
    low, high = mean_interval(first)
    margin = np.sqrt(1.96**2 * first.mean(axis=0).var() / 2000 + stats.t.ppf(0.975, 3) ** 2 * by_seed[0])
    assert (high - low) / 2 == pytest.approx(margin, rel=1e-2)


def test_the_part_of_the_images_equals_a_bootstrap_of_another_library() -> None:
    generator = np.random.default_rng(3)
    first = np.tile(draw(1, [0.95], generator), (2, 1))  # no scatter over seeds
    second = np.tile(draw(1, [0.9], generator), (2, 1))
    difference = (first.mean(axis=0) - second.mean(axis=0),)
    theirs = stats.bootstrap(difference, np.mean, n_resamples=2000, method="percentile", rng=generator)
    ours = compare_means(first, second)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=1e-3)


def test_the_p_value_is_the_level_at_which_the_interval_reaches_0() -> None:
    generator = np.random.default_rng(4)
    for other in np.linspace(0.92, 0.95, 8):
        first = draw(4, [0.94, 0.95, 0.94, 0.96], generator)
        result = compare_means(first, draw(4, [other] * 4, generator))
        assert (result.p < 0.05) == (result.low > 0 or result.high < 0)


def test_the_order_of_configurations_and_seeds_changes_signs_alone() -> None:
    generator = np.random.default_rng(5)
    first = draw(5, [0.94, 0.95, 0.93, 0.96, 0.95], generator)
    second = draw(3, [0.9, 0.92, 0.91], generator)
    forward, backward = compare_means(first, second), compare_means(second[::-1], first[::-1])
    assert backward == pytest.approx((-forward.difference, -forward.high, -forward.low, forward.p))


def test_equal_answers_are_no_difference_and_no_division_by_zero() -> None:
    answers = np.random.default_rng(6).random((1, 100)) < 0.9
    same = np.tile(answers, (3, 1))
    assert compare_means(same, same) == (0.0, 0.0, 0.0, 1.0)
    everything = np.ones((2, 100), dtype=bool)
    assert compare_means(everything, ~everything).difference == 1.0
    assert mean_interval(everything)[1] == 1.0


def test_two_seeds_against_many_are_trusted_as_little_as_two() -> None:
    """Welch's degrees of freedom alone would call one better in 9 of 100 such studies where neither is."""
    generator = np.random.default_rng(7)
    few, many = generator.normal(0, 1, (500, 2)), generator.normal(0, 0.3, (500, 10))
    places = np.arange(4000)
    called = 0
    for first, second in zip(0.5 + few / 50, 0.5 + many / 50, strict=True):
        groups = (np.array([places < share * 4000 for share in group]) for group in (first, second))
        called += compare_means(*groups).p < 0.05
    assert called <= 25


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_configurations_are_rarely_called_different(seeds: int) -> None:
    seed = 11
    print(f"seed of the simulation: {seed}")
    generator = np.random.default_rng(seed)
    called = 0
    for _ in range(200):
        groups = (draw(seeds, generator.normal(0.95, 0.004, seeds).tolist(), generator) for _ in range(2))
        called += compare_means(*groups).p < 0.05
    assert called <= 10


def test_five_seeds_find_a_true_difference_that_three_can_miss() -> None:
    generator = np.random.default_rng(12)
    found = 0
    for _ in range(50):
        groups = (
            draw(5, generator.normal(mean, 0.001, 5).tolist(), generator, 10_000) for mean in (0.975, 0.97)
        )
        found += compare_means(*groups).low > 0
    assert found >= 40
