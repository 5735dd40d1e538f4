"""Verdicts on configurations, from hand-made predictions at several seeds."""

import numpy as np
import pandas as pd
import pytest

from hw2.comparison.compare import compare
from hw2.comparison.configurations import ConfigurationComparison
from hw2.comparison.model_predictions import FailedTraining, ModelPredictions, configuration_labels
from hw2.comparison.seed_variance import compare_means, mean_interval

LABELS = np.arange(1000) % 10
SHORT: dict[str, object] = {"lr": "0.1", "epochs": "5"}
LONG: dict[str, object] = {"lr": "0.01", "epochs": "8"}


def model(configuration: dict[str, object], seed: int, wrong: range, **others: object) -> ModelPredictions:
    """A model that is wrong on the images at these places."""
    predicted = LABELS.copy()
    predicted[list(wrong)] += 1
    named = {**configuration, "seed": str(seed), **others}
    return ModelPredictions(f"{configuration['lr']}/{seed}", named, LABELS, predicted % 10, "a" * 64)


def repeated() -> list[ModelPredictions]:
    return [
        *(model(SHORT, seed, range(wrong)) for seed, wrong in enumerate((10, 12, 11))),
        *(model(LONG, seed, range(wrong)) for seed, wrong in enumerate((50, 53, 49))),
    ]


def collapsed(configuration: dict[str, object], seed: int) -> ModelPredictions:
    """A model that gives every image the same class."""
    name, named = f"{configuration['lr']}/{seed}", {**configuration, "seed": seed}
    return ModelPredictions(name, named, LABELS, np.zeros_like(LABELS), "a" * 64)


def verdicts(
    models: list[ModelPredictions], failed: list[FailedTraining] | None = None
) -> ConfigurationComparison:
    return compare(models, failed or []).by_configuration


class TestRepetitions:
    def test_they_are_grouped_by_configuration_apart_from_the_seed(self) -> None:
        result = verdicts(repeated())
        table = result.table
        assert table["configuration"].tolist() == ["lr=0.1 epochs=5", "lr=0.01 epochs=8"]
        assert table["seeds"].tolist() == ["0, 1, 2"] * 2
        assert table["mean"].tolist() == pytest.approx([0.989, 1 - 152 / 3000])
        assert table["sd"].tolist() == pytest.approx([0.001, np.std([50, 53, 49], ddof=1) / 1000])
        low, high = mean_interval(result.configurations[0].correct)
        assert (table["low"][0], table["high"][0]) == (low, high)
        assert result.has_repetitions

    def test_they_may_have_been_trained_with_different_numbers_of_threads(self) -> None:
        table = verdicts([model(SHORT, n, range(9), threads=n) for n in range(3)]).table
        assert table["configuration"].tolist() == ["lr=0.1 epochs=5"]

    def test_numbers_written_differently_are_the_same_configuration(self) -> None:
        models = [
            model({"lr": "0.10", "epochs": 5}, 0, range(9)),
            model({"lr": 1e-1, "epochs": "5"}, 1, range(9)),
        ]
        assert verdicts(models).table["configuration"].tolist() == ["lr=0.1 epochs=5"]

    def test_a_seed_that_is_there_twice_counts_once_and_is_named(self) -> None:
        again = ModelPredictions("again", repeated()[0].configuration, LABELS, LABELS, "a" * 64)
        result = verdicts([*repeated(), again])
        assert result.table["models"].tolist() == [3, 3]
        assert result.notes == ("again is lr=0.1 epochs=5 with seed 0, as is 0.1/0, which counts",)

    def test_a_label_names_whatever_differs(self) -> None:
        labels = configuration_labels(
            [
                (("batch_size", 64), ("epochs", 5), ("lr", 0.1)),
                (("batch_size", 128), ("epochs", 5), ("lr", 0.1)),
            ]
        )
        assert labels == ["lr=0.1 epochs=5 batch_size=64", "lr=0.1 epochs=5 batch_size=128"]


class TestVerdicts:
    def test_the_better_configuration_is_named_with_its_lead(self) -> None:
        result = verdicts(repeated())
        row = result.pairs.iloc[0]
        expected = compare_means(*(one.correct for one in result.configurations))
        assert (row["difference"], row["low"], row["high"], row["p"]) == expected
        assert row["better"] == "lr=0.1 epochs=5"
        assert row["verdict"].startswith("lr=0.1 epochs=5 is better: 3.97 points (")
        assert result.best is not None
        assert result.best.worse == ("lr=0.01 epochs=8",)

    def test_the_lead_is_positive_whichever_comes_first(self) -> None:
        row = verdicts(repeated()[::-1]).pairs.iloc[0]
        assert row["difference"] < 0
        assert row["verdict"].startswith("lr=0.1 epochs=5 is better: 3.97 points (")

    def test_seeds_that_disagree_leave_it_open(self) -> None:
        models = [
            *(model(SHORT, seed, range(wrong)) for seed, wrong in enumerate((10, 60, 30))),
            *(model(LONG, seed, range(wrong)) for seed, wrong in enumerate((50, 20, 49))),
        ]
        result = verdicts(models)
        assert result.pairs.iloc[0]["better"] == ""
        assert result.pairs.iloc[0]["verdict"].startswith("can't be told apart: 0.63 points (-")

    def test_numbers_of_seeds_may_differ(self) -> None:
        row = verdicts(repeated()[:5]).pairs.iloc[0]
        assert (row["first_seeds"], row["second_seeds"]) == (3, 2)

    def test_one_seed_among_others_with_several_is_named_and_not_compared(self) -> None:
        result = verdicts(repeated()[:4])
        assert result.best is None
        assert len(result.pairs) == 0
        assert result.notes == (
            "lr=0.01 epochs=8 has one trained seed (0) and others have up to 3: it is compared as a model only; "
            "train it with more seeds",
        )

    def test_one_seed_each_has_no_verdict_and_needs_no_note(self) -> None:
        result = verdicts([repeated()[0], repeated()[3]])
        assert (result.best, result.notes, result.has_repetitions) == (None, (), False)
        assert result.table["sd"].isna().all()


class TestFailedSeeds:
    def test_a_loss_that_became_infinite_is_part_of_the_finding(self) -> None:
        result = verdicts(repeated(), [FailedTraining("lr=0.1 epochs=5", {**SHORT, "seed": "3"})])
        assert result.table["failed"].tolist() == ["3", ""]
        assert result.notes == ("1 of 4 seeds didn't train (seed 3) of lr=0.1 epochs=5",)
        assert result.pairs.iloc[0]["first_seeds"] == 3

    def test_a_model_at_chance_has_failed_and_moves_no_mean(self) -> None:
        result = verdicts([*repeated(), collapsed(SHORT, 3), collapsed(SHORT, 4)])
        assert result.notes == ("2 of 5 seeds didn't train (seeds 3 and 4) of lr=0.1 epochs=5",)
        assert result.table["mean"][0] == pytest.approx(0.989)

    def test_a_configuration_that_never_trains_is_listed_without_a_mean(self) -> None:
        result = verdicts([*repeated()[:3], collapsed(LONG, 0), collapsed(LONG, 1)])
        assert result.notes == ("none of 2 seeds trained (seeds 0 and 1) of lr=0.01 epochs=8",)
        assert pd.isna(result.table["mean"][1])
        assert result.best is None

    def test_a_seed_that_was_trained_after_all_has_not_failed(self) -> None:
        assert verdicts(repeated(), [FailedTraining("first try", {**SHORT, "seed": 1})]).notes == ()
