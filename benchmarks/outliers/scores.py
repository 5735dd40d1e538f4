"""Every outlier score on every outlier set, over several seeds, and what the shipped one came from."""

from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from scipy.optimize import minimize_scalar
from sklearn.neighbors import NearestNeighbors

from benchmarks.common import Cell, Report
from hw2.common.errors import DivergenceError
from hw2.common.types import FloatArray
from hw2.data.image_set import Dataset, ImageSet, load_dataset
from hw2.evaluation.evaluate import evaluate
from hw2.evaluation.result import Evaluation
from hw2.models.base_cnn import BaseCNN
from hw2.outliers.datasets import load_outliers
from hw2.outliers.detector import OutlierDetector, TailCalibration
from hw2.outliers.fit_sets import fit_sets
from hw2.outliers.metrics import ood_metrics
from hw2.outliers.scores import Scorer, energy, entropy, max_softmax, score_ensemble
from hw2.outliers.statistics import ClassGaussians, log_odds
from hw2.training import checkpoint
from hw2.training.config import TrainingConfig
from hw2.training.fingerprint import fingerprint
from hw2.training.runtime import resolve_runtime
from hw2.training.split import split_validation
from hw2.training.trainer import Trainer

Scores = dict[str, FloatArray]

SETS = ("fashion-mnist", "letters", "rotated", "inverted", "noise")
SHIPPED = "shipped"
ENSEMBLE = "all models: shipped, mean"
# Reported as AUROC and as the share of outliers that is accepted when 95 % of digits are accepted.
MEASURES = ("auroc", "outliers_accepted")
console = Console(stderr=True)


class Images(NamedTuple):
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    outliers: dict[str, ImageSet]


class AcceptedShares(NamedTuple):
    """What the threshold does to one model's test digits; shares of 1."""

    accuracy: float
    accepted: float
    accuracy_of_accepted: float
    at_most: tuple[float, ...]  # share of digits with a p-value of at most each of LEVELS


class Result(NamedTuple):
    """One model: its scores by set ("test" or an outlier set) and name, its evaluations, its threshold."""

    scores: dict[str, Scores]
    evaluations: dict[str, Evaluation]
    shares: AcceptedShares
    temperature: float


LEVELS = (0.5, 0.1, 0.01, 0.001)


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--seeds", default="0,1,2,3,4", help="of the models, default %(default)s")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0, help="threads of the training, default all cores")
    parser.add_argument(
        "--trained",
        type=Path,
        default=Path("~/.cache/mlflow-project/trained").expanduser(),
        help="folder in which trained models are stored by fingerprint",
    )


def run(arguments: Namespace) -> Report:
    dataset = load_dataset("mnist", arguments.data_dir)
    results: dict[int, Result] = {}
    notes = []
    images: Images | None = None
    for seed in map(int, arguments.seeds.split(",")):
        config = TrainingConfig(
            lr=arguments.lr, epochs=arguments.epochs, seed=seed, threads=arguments.threads
        ).for_training_set(len(dataset.train))
        images = images or _images(dataset, config, arguments.data_dir)
        try:
            model = trained(config, dataset, images, arguments.trained)
        except DivergenceError as error:
            notes.append(f"Seed {seed} is not among the models: {error}.")
            continue
        results[seed] = judge(model, images)
        console.print(f"seed {seed}: {results[seed].shares}")
    together = joint(list(results.values())) if len(results) > 1 else {}
    return Report(
        title=f"Outlier scores, lr={arguments.lr:g} epochs={arguments.epochs}, seeds {', '.join(map(str, results))}: "
        "mean and standard deviation over the models",
        rows=table(list(results.values()), together),
        notes=[*_notes(results), *notes],
        raw={
            str(seed): {"kept": result.shares._asdict(), "temperature": result.temperature}
            for seed, result in results.items()
        },
    )


def _images(dataset: Dataset, config: TrainingConfig, data_dir: Path | None) -> Images:
    train, validation = split_validation(dataset.train, config.validation_size or 0)
    assert validation is not None
    outliers = {name: load_outliers(name, data_dir, dataset.test) for name in SETS}
    return Images(train, validation, dataset.test, outliers)


def trained(config: TrainingConfig, dataset: Dataset, images: Images, folder: Path) -> BaseCNN:
    """The model of a configuration, from `folder` as far as it was trained before."""
    runtime = resolve_runtime(config)
    path = folder / f"{fingerprint(config, dataset.sha256, runtime, dataset.train.spec)}.pt"
    state = checkpoint.load(path) if path.exists() else None
    training = Trainer(config, runtime, dataset.sha256, images.train, images.validation, state)
    folder.mkdir(parents=True, exist_ok=True)
    for result in training.epochs():
        checkpoint.save(path, training.state())
        console.print(f"seed {config.seed}: {result}")
    return training.state().model()


def judge(model: BaseCNN, images: Images) -> Result:
    """All scores of one model on the test digits and on every outlier set."""
    chosen = fit_sets(images.train, images.validation)
    training, held_out = evaluate(model, chosen.training), evaluate(model, chosen.held_out)
    detector = OutlierDetector.fit(training, held_out)
    scorer = Scorer.fit(training, chosen.training.labels.numpy())
    alternatives = Alternatives(training, held_out)
    temperature = best_temperature(held_out)
    evaluations = {
        name: evaluate(model, image_set)
        for name, image_set in {"test": images.test, **images.outliers}.items()
    }
    scores: dict[str, Scores] = {}
    for name, evaluation in evaluations.items():
        scaled = evaluation.logits / temperature
        scores[name] = {
            **scorer.scores(evaluation),
            "max_softmax, temperature": max_softmax(scaled),
            "entropy, temperature": entropy(scaled),
            "energy, temperature": energy(scaled),
            **alternatives.scores(evaluation, detector),
            SHIPPED: detector.score(evaluation),
        }
    rejected = detector.is_outlier(scores["test"][SHIPPED])
    correct = evaluations["test"].correct
    p_values = detector.p_value(scores["test"][SHIPPED])
    shares = AcceptedShares(
        float(correct.mean()),
        float(1 - rejected.mean()),
        float(correct[~rejected].mean()),
        tuple(float((p_values <= level).mean()) for level in LEVELS),
    )
    return Result(scores, evaluations, shares, temperature)


def best_temperature(held_out: Evaluation) -> float:
    """What the logits are divided by for the smallest cross-entropy on held-out digits (Guo et al., ICML 2017)."""
    rows = np.arange(held_out.n)

    def loss(log_temperature: float) -> float:
        scaled = held_out.logits.astype(np.float64) / np.exp(log_temperature)
        return float(np.mean(-energy(scaled) - scaled[rows, held_out.labels]))

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


class Alternatives:
    """Other choices of the statistics that go into the score; the first is what it was developed from.

    That has one Gaussian for all digits instead of one each, and distances between logits as they are.
    """

    def __init__(self, training: Evaluation, held_out: Evaluation) -> None:
        one = np.zeros(training.n, dtype=np.int64)
        self._strokes = ClassGaussians.fit(training.early_features.astype(np.float64), one, 1)
        self._shapes = ClassGaussians.fit(training.late_features.astype(np.float64), one, 1)
        self._search = NearestNeighbors(n_neighbors=4).fit(training.logits)
        self._curves = [TailCalibration.fit(values) for values in self._statistics(held_out)]

    def _statistics(self, evaluation: Evaluation) -> list[FloatArray]:
        one = np.zeros(evaluation.n, dtype=np.int64)
        return [
            log_odds(evaluation.logits.astype(np.float64)),
            self._strokes.distance(evaluation.early_features.astype(np.float64), one),
            self._shapes.distance(evaluation.late_features.astype(np.float64), one),
            self._search.kneighbors(evaluation.logits)[0][:, -1],
        ]

    def scores(self, evaluation: Evaluation, detector: OutlierDetector) -> Scores:
        """Sums of -log10 p, by what is summed."""
        doubtful, strokes, shapes, logits = (
            curve(values) / np.log(10)
            for curve, values in zip(self._curves, self._statistics(evaluation), strict=True)
        )
        parts = detector.component_scores(evaluation)
        everything = np.sum(list(parts.values()), axis=0)
        return {
            "prototype: doubt, strokes, shapes of any digit, neighbors in logits": (
                doubtful + strokes + shapes + logits
            ),
            "shipped, neighbors in logits": everything - parts["direction"] + logits,
            "shipped, strokes and shapes of any digit": (
                parts["doubt"] + strokes + shapes + parts["direction"]
            ),
            **{f"shipped without {part}": everything - values for part, values in parts.items()},
            **{f"{part} alone": values for part, values in parts.items()},
            "neighbors in logits alone": logits,
        }


def joint(results: list[Result]) -> dict[str, Scores]:
    """Scores of all models together, by set and name."""
    return {
        name: {
            **{
                f"all models: {score}": values
                for score, values in score_ensemble([result.evaluations[name] for result in results]).items()
            },
            ENSEMBLE: np.mean([result.scores[name][SHIPPED] for result in results], axis=0),
        }
        for name in results[0].scores
    }


def table(results: list[Result], together: Mapping[str, Scores]) -> list[dict[str, Cell]]:
    """One row for each measure and score, one column for each outlier set."""
    columns: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in SETS:
        for score in results[0].scores[name]:
            measured = [
                ood_metrics(result.scores["test"][score], result.scores[name][score], resamples=0)
                for result in results
            ]
            for what in MEASURES:
                values = [getattr(each, what).value for each in measured]
                spread = np.std(values, ddof=1) if len(values) > 1 else np.nan
                columns[what, score][name] = f"{np.mean(values):.5f} ± {spread:.5f}"
        for score, values_of in together.get(name, {}).items():
            one = ood_metrics(together["test"][score], values_of, resamples=0)
            for what in MEASURES:
                columns[what, score][name] = f"{getattr(one, what).value:.5f}"
    return [
        {"measure": what, "score": score, **cells}
        for what in MEASURES
        for (of, score), cells in columns.items()
        if of == what
    ]


def _notes(results: Mapping[int, Result]) -> list[str]:
    notes = []
    for name in AcceptedShares._fields[:3]:
        values = [getattr(result.shares, name) for result in results.values()]
        notes.append(
            f"Test digits, {name.replace('_', ' ')}: mean {np.mean(values):.4f}, "
            f"from {min(values):.4f} to {max(values):.4f}"
        )
    for level, shares in zip(
        LEVELS, zip(*(r.shares.at_most for r in results.values()), strict=True), strict=True
    ):
        notes.append(f"Test digits with a p-value of at most {level:g}: mean {np.mean(shares):.4f}")
    temperatures = [result.temperature for result in results.values()]
    notes.append(f"Temperature on validation: from {min(temperatures):.2f} to {max(temperatures):.2f}")
    return notes
