"""How often `compare` calls a configuration better in simulated studies: where none is, and where one is.

A study has configurations, seeds and 10,000 test images of which a tenth are hard. The chance that a model is right on
a hard image is normal on the probit scale: in the image, in image and configuration (`interaction`), and in a shift
that gives each seed its true accuracy exactly.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.special import ndtri, stdtrit
from scipy.stats import ttest_rel

from benchmarks.common import Cell, Report
from hw2.common.formatting import ALPHA
from hw2.common.types import BoolArray, FloatArray
from hw2.comparison.best import compare_with_best
from hw2.comparison.seed_variance import image_variance

IMAGES, HARD, SPREAD = 10_000, 0.1, 1.5
SEEDS = (2, 3, 5, 10)
FALSE_AT_MOST, FOUND_AT_LEAST = 5.0, 80.0  # percent of the studies, but for chance

Study = list[BoolArray]  # a configuration each, bool [seeds, images]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Studies of one kind. accuracies and scatters (standard deviations over seeds) in points, of each configuration.

    interaction: standard deviation of configuration by image, probit; failing: share of the seeds that don't train;
    common: correlation of two configurations' accuracies at the same seed; other_seeds: of all configurations but the
    first, where they are not as many.
    """

    name: str
    accuracies: tuple[float, ...] = (97.5, 97.5)
    scatters: tuple[float, ...] = (0.1, 0.1)
    interaction: float = 0.0
    failing: float = 0.0
    common: float = 0.0
    other_seeds: int | None = None

    @property
    def differs(self) -> bool:
        """Whether there is a true difference."""
        return len(set(self.accuracies)) > 1

    def draw(self, seeds: int, random: Generator) -> Study:
        """Draw one study; a configuration of which fewer than two seeds trained has an empty place."""
        hard = random.binomial(IMAGES, HARD)
        image = random.normal(0, SPREAD, hard)
        scale = np.sqrt(1 + SPREAD**2 + self.interaction**2)
        shared = random.normal(size=max(seeds, self.other_seeds or 0))
        study = []
        for place, (accuracy, scatter) in enumerate(zip(self.accuracies, self.scatters, strict=True)):
            count = self.other_seeds if place and self.other_seeds else seeds
            own = random.normal(size=count)
            moved = np.sqrt(self.common) * shared[:count] + np.sqrt(1 - self.common) * own
            errors = (100 - accuracy - scatter * moved) / 100 / HARD
            shift = -ndtri(np.clip(errors, 1e-9, 1 - 1e-9)) * scale
            effect = image + random.normal(0, self.interaction, hard)
            correct = np.ones((count, IMAGES), dtype=np.bool_)
            correct[:, :hard] = effect + shift[:, None] + random.normal(size=(count, hard)) > 0
            trained = random.random(count) >= self.failing
            study.append(correct[trained] if trained.sum() > 1 else correct[:0])
        return study


EQUAL = (
    Scenario(name="seeds scatter by 0.1"),
    Scenario(name="seeds scatter by 0.18", scatters=(0.18, 0.18)),
    Scenario(name="seeds scatter by 0.5", scatters=(0.5, 0.5)),
    Scenario(name="0.1 one, 0.5 the other", scatters=(0.1, 0.5)),
    Scenario(name="0.18, configuration by image", scatters=(0.18, 0.18), interaction=1.0),
    Scenario(name="no scatter, configuration by image", scatters=(0.0, 0.0), interaction=1.0),
    Scenario(name="0.18, a fifth of seeds fail", scatters=(0.18, 0.18), failing=0.2),
    Scenario(name="0.18, the same seeds alike", scatters=(0.18, 0.18), common=0.5),
    Scenario(name="0.5 one, 0.18 the other with 10 seeds", scatters=(0.5, 0.18), other_seeds=10),
    Scenario(
        name="five configurations, 0.18, by image",
        accuracies=(97.5,) * 5,
        scatters=(0.18,) * 5,
        interaction=1.0,
    ),
)
BETTER = (
    Scenario(name="0.5 points better, scatter 0.1", accuracies=(97.5, 97.0)),
    Scenario(name="0.5 better, 0.1, by image", accuracies=(97.5, 97.0), interaction=1.0),
    Scenario(name="0.6 points better, scatter 0.18", accuracies=(97.5, 96.9), scatters=(0.18, 0.18)),
)


def decide(study: Study) -> bool:
    """Decide as `compare` does: whether any configuration is better than another."""
    compared = {str(place): correct for place, correct in enumerate(study) if len(correct)}
    return len(compared) > 1 and bool(compare_with_best(compared).worse)


def decide_by_t_test(study: Study) -> bool:
    """Decide by Student's paired t-test over the seeds' accuracies, which takes the images as given."""
    first, second = (correct.mean(axis=1) for correct in study)
    if (first - second == first[0] - second[0]).all():
        return False  # no scatter at all: t is not defined
    return bool(ttest_rel(first, second).pvalue < ALPHA)


def decide_by_satterthwaite(study: Study) -> bool:
    """Decide by the sum of both variances less the noise that both have, with Satterthwaite's degrees of freedom."""
    parts = np.array([correct.mean(axis=1).var(ddof=1) / len(correct) for correct in study])
    noise = sum(map(_noise, study))
    images = image_variance(study[0].mean(axis=0) - study[1].mean(axis=0))
    total = images + max(parts.sum() - noise, 0.0)
    uncertainty = (parts**2 / [len(correct) - 1 for correct in study]).sum() if total > images else 0.0
    degrees = total**2 / uncertainty if uncertainty else 1e9
    difference = study[0].mean() - study[1].mean()
    return bool(abs(difference) > stdtrit(degrees, 1 - ALPHA / 2) * np.sqrt(total))


def _noise(correct: BoolArray) -> float:
    """Estimate what single answers add to the variance of a mean."""
    share, seeds = correct.mean(axis=0), len(correct)
    return float((share * (1 - share)).sum() / (seeds - 1) / IMAGES**2)


class Bootstrap:
    """Decides by the percentiles of a bootstrap over seeds and over images, both drawn anew."""

    def __init__(self, resamples: int, random: Generator) -> None:
        self._random = random
        # Weights of the images, Poisson for multinomial; of the easy ones, on which all are right, their sum.
        self._hard = random.poisson(1, (resamples, IMAGES // 5)).astype(np.float32)

    def __call__(self, study: Study) -> bool:
        wrong = np.concatenate(study) == 0
        somewhere = wrong[:, wrong.any(axis=0)].astype(np.float32)
        weights = self._hard[:, : somewhere.shape[1]]
        easy = self._random.poisson(IMAGES - somewhere.shape[1], len(weights))
        errors = weights @ somewhere.T / (weights.sum(axis=1) + easy)[:, None]
        first, second = errors[:, : len(study[0])], errors[:, len(study[0]) :]
        differences = self._mean(second) - self._mean(first)
        low, high = np.quantile(differences, (ALPHA / 2, 1 - ALPHA / 2))
        return bool(low > 0 or high < 0)

    def _mean(self, errors: FloatArray) -> FloatArray:
        seeds = errors.shape[1]
        drawn = self._random.multinomial(seeds, np.full(seeds, 1 / seeds), len(errors))
        return np.asarray((errors * drawn).sum(axis=1) / seeds, dtype=np.float64)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--studies", type=int, default=1000, help="of each kind, default %(default)s")
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap, default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the simulation, default %(default)s")


def run(arguments: Namespace) -> Report:
    random = np.random.default_rng(arguments.seed)
    methods: dict[str, Callable[[Study], bool]] = {
        "compare": decide,
        "bootstrap": Bootstrap(arguments.resamples, random),
        "two-way, Satterthwaite": decide_by_satterthwaite,
        "t-test over seeds": decide_by_t_test,
    }
    rows: list[Mapping[str, Cell]] = []
    wrong: list[str] = []
    for scenario in (*EQUAL, *BETTER):
        for seeds in SEEDS:
            counts = simulate(scenario, seeds, methods, arguments.studies, random)
            shares = {name: 100 * count / arguments.studies for name, count in counts.items()}
            rows.append(
                {"truth": "better" if scenario.differs else "equal", "studies": scenario.name, "seeds": seeds}
                | {f"{name} (%)": f"{shares[name]:.1f}" if name in shares else "–" for name in methods}
            )
            wrong += missed(scenario, seeds, shares["compare"], arguments.studies)
    return Report(
        f"Studies in which a configuration is called better, of {arguments.studies:,} of each kind",
        rows,
        [
            f"seed of the simulation: {arguments.seed}; {IMAGES:,} test images; accuracies and scatters in points"
        ],
        wrong=wrong,
    )


def simulate(
    scenario: Scenario,
    seeds: int,
    methods: Mapping[str, Callable[[Study], bool]],
    studies: int,
    random: Generator,
) -> dict[str, int]:
    """Count the studies in which each method calls a configuration better; those it can't decide on are left out."""
    plain = len(scenario.accuracies) == 2 and not scenario.failing and scenario.other_seeds is None
    used = {name: method for name, method in methods.items() if plain or name == "compare"}
    counts = dict.fromkeys(used, 0)
    for _ in range(studies):
        study = scenario.draw(seeds, random)
        for name, method in used.items():
            counts[name] += method(study)
    return counts


def missed(scenario: Scenario, seeds: int, percent: float, studies: int) -> Sequence[str]:
    """Say what `compare` promises and did not hold, by more than two standard errors of the simulation."""
    error = 2 * np.sqrt(FALSE_AT_MOST * (100 - FALSE_AT_MOST) / studies)
    if not scenario.differs and percent > FALSE_AT_MOST + error:
        return [f"{scenario.name}, {seeds} seeds: called better falsely in {percent:.1f} %"]
    if scenario == BETTER[0] and seeds >= 5 and percent < FOUND_AT_LEAST:
        return [f"{scenario.name}, {seeds} seeds: found in {percent:.1f} %"]
    return []
