"""The findings of a comparison in sentences, with their numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np

from hw2.common.constants import DIGITS
from hw2.common.formatting import ALPHA, format_p, format_percent, join_names, plural
from hw2.comparison.compare import Comparison
from hw2.comparison.configurations import ConfigurationComparison
from hw2.comparison.model_predictions import REPEATED, SEED, ModelPredictions, Setting
from hw2.comparison.significance import count_discordant


@dataclass(frozen=True)
class Finding:
    """topic: best, schedules, epochs, digits or classes; text: one or more sentences."""

    topic: str
    text: str


@dataclass(frozen=True)
class _Candidate:
    """A model or a configuration. seed: None for a configuration, which has several."""

    name: str
    settings: Mapping[str, Setting]
    seed: Setting | None
    accuracy: float
    train_seconds: float | None
    description: str


_WithSettings = TypeVar("_WithSettings", _Candidate, ModelPredictions)
_Candidates = Sequence[_Candidate]
_Judge = Callable[[_Candidate, _Candidate], str]


def findings(comparison: Comparison) -> list[Finding]:
    """List all findings on models; what those at hand can't answer is left out."""
    return [
        Finding("best", best(comparison)),
        *(Finding("schedules", text) for text in short_vs_long(comparison)),
        *(Finding("epochs", text) for text in epoch_gains(comparison)),
        *(
            Finding("digits" if model.classes == DIGITS else "classes", best_class(model))
            for model in comparison.models
        ),
    ]


def configuration_findings(found: ConfigurationComparison) -> list[Finding]:
    """List the findings on configurations with several seeds; none where no two can be compared."""
    if found.best is None:
        return []
    candidates, judge = _configurations(found), partial(_configuration_verdict, found)
    notes = [f"{note}." for note in found.notes]
    return [
        Finding("best", " ".join([*found.best.sentences(), *notes])),
        *(Finding("schedules", text) for text in _schedules(candidates, judge)),
        *(Finding("epochs", text) for text in _epoch_gains(candidates, judge)),
    ]


def best(comparison: Comparison) -> str:
    """Name the most accurate model, and the others that are not significantly worse."""
    models = sorted(comparison.models, key=lambda model: -model.accuracy)
    first = models[0]
    leaders = [model for model in models if model.accuracy == first.accuracy]
    has = f"{format_percent(first.accuracy, 2)} of {first.n:,} images right"
    if len(models) == 1:
        return f"{first.name} has {has}; there is no other model to compare it with."
    if len(leaders) > 1:
        return f"{join_names([model.name for model in leaders])} share the first place, each with {has}."
    others = comparison.best.table.set_index("candidate")["p_corrected"]
    if not comparison.best.rivals:
        return (
            f"{first.name} is best, and that is certain at the 5 % level: {has}, "
            f"{format_p(others[models[1].name])} against the next, {models[1].name}."
        )
    closest = next(model for model in models if model.name == comparison.best.rivals[0])
    return (
        f"{first.name} has the most right, {has}, but that it is best is not certain: it can't be told from "
        f"{join_names(comparison.best.rivals)} ({_against(first, closest)}, {format_p(others[closest.name])} for "
        f"{closest.name})."
    )


def short_vs_long(comparison: Comparison) -> Iterator[str]:
    """Compare few epochs at the largest rate with many at the smallest: the opposite corners of a grid.

    The grid is that of `grid_models`.
    """
    return _schedules(_models(comparison), partial(_verdict, comparison))


def _schedules(candidates: _Candidates, judge: _Judge) -> Iterator[str]:
    for alike in _grouped(candidates, "lr", "epochs").values():
        corners = grid_models(alike)
        short = min(corners, key=lambda one: (-_value(one, "lr"), _value(one, "epochs")))
        long = min(corners, key=lambda one: (_value(one, "lr"), -_value(one, "epochs")))
        if _value(short, "lr") > _value(long, "lr") and _value(short, "epochs") < _value(long, "epochs"):
            yield (
                f"Short and aggressive against long and patient: {short.description} against "
                f"{long.description}. {judge(short, long)}{_times(short, long)}"
            )


def grid_models(models: Sequence[_WithSettings]) -> list[_WithSettings]:
    """Keep those whose learning rate was trained for more than one number of epochs; all, where none was."""
    epochs: dict[Setting | None, set[Setting | None]] = {}
    for model in models:
        epochs.setdefault(model.settings.get("lr"), set()).add(model.settings.get("epochs"))
    return [model for model in models if len(epochs[model.settings.get("lr")]) > 1] or list(models)


def epoch_gains(comparison: Comparison) -> Iterator[str]:
    """Say what each step to more epochs gained, all else equal."""
    return _epoch_gains(_models(comparison), partial(_verdict, comparison))


def _epoch_gains(candidates: _Candidates, judge: _Judge) -> Iterator[str]:
    for alike in _grouped(candidates, "epochs").values():
        ordered = sorted(alike, key=lambda one: _value(one, "epochs"))
        for fewer, more in pairwise(ordered):
            if fewer.settings["epochs"] == more.settings["epochs"]:
                continue
            points = (more.accuracy - fewer.accuracy) * 100
            word = "gains" if points > 0 else "loses" if points < 0 else "changes"
            yield (
                f"From {fewer.settings['epochs']} to {more.settings['epochs']} epochs at lr "
                f"{more.settings.get('lr', '?')} ({fewer.name} to {more.name}) accuracy {word} "
                f"{abs(points):.2f} points. {judge(more, fewer)}"
            )


def best_class(model: ModelPredictions) -> str:
    """Name the class with the most correct predictions, and the one with the highest accuracy.

    Classes are not equally frequent, so the two often differ.
    """
    totals = np.bincount(model.labels, minlength=len(model.classes))
    noun = "digit" if model.classes == DIGITS else "class"
    correct = np.bincount(model.labels[model.correct], minlength=len(totals))
    shares = correct / np.maximum(totals, 1)
    by_count, by_share = int(correct.argmax()), int(shares.argmax())
    text = (
        f"{model.name} has most correct predictions for {noun} {model.classes[by_count]}: {correct[by_count]:,} of "
        f"{totals[by_count]:,} ({format_percent(shares[by_count], 1)})"
    )
    if by_share == by_count:
        return f"{text}, also its largest share."
    return (
        f"{text}; by share it is best at {noun} {model.classes[by_share]}: {correct[by_share]:,} of "
        f"{totals[by_share]:,} "
        f"({format_percent(shares[by_share], 1)})."
    )


def _models(comparison: Comparison) -> _Candidates:
    return [
        _Candidate(
            name=model.name,
            settings=model.settings,
            seed=model.settings.get(SEED),
            accuracy=model.accuracy,
            train_seconds=model.train_seconds,
            description=_described(model),
        )
        for model in comparison.models
    ]


def _configurations(found: ConfigurationComparison) -> _Candidates:
    """List the configurations that are compared; the training time is the mean over seeds, where all are known."""
    candidates = []
    for one in found.configurations:
        if one.is_compared:
            mean = float(one.correct.mean())
            times = [model.train_seconds for model in one.models.values() if model.train_seconds]
            seconds = sum(times) / len(times) if len(times) == len(one.models) else None
            description = f"{one.label} ({format_percent(mean, 2)} over {len(one.models)} seeds)"
            candidates.append(_Candidate(one.label, one.settings, None, mean, seconds, description))
    return candidates


def _grouped(candidates: _Candidates, *varying: str) -> Mapping[object, list[_Candidate]]:
    """Group those that differ in nothing but the settings named; those without these are left out."""
    groups: dict[object, list[_Candidate]] = {}
    for one in candidates:
        if all(isinstance(one.settings.get(key), int | float) for key in varying):
            rest = tuple(
                sorted(item for item in one.settings.items() if item[0] not in (*varying, *REPEATED))
            )
            groups.setdefault((one.seed, rest), []).append(one)
    return {key: alike for key, alike in groups.items() if len(alike) > 1}


def _value(candidate: _Candidate, key: str) -> float:
    return float(candidate.settings[key])


def _described(model: ModelPredictions) -> str:
    lr, epochs = model.settings.get("lr", "?"), model.settings.get("epochs", "?")
    trained = plural(epochs, "epoch") if isinstance(epochs, int) else f"{epochs} epochs"
    return f"{model.name} (lr {lr}, {trained}, {format_percent(model.accuracy, 2)})"


def _against(first: ModelPredictions, second: ModelPredictions) -> str:
    return _counts(*count_discordant(first.correct, second.correct))


def _counts(first: int, second: int) -> str:
    return f"{first:,} image{'' if first == 1 else 's'} against {second:,}"


def _verdict(comparison: Comparison, first: _Candidate, second: _Candidate) -> str:
    row = comparison.pair(first.name, second.name)
    counts = {row["first"]: row["only_first_right"], row["second"]: row["only_second_right"]}
    if not any(counts.values()):
        return "Both are right on the same images: a tie."
    evidence = f"{_counts(counts[first.name], counts[second.name])}, {format_p(row['p_holm'])}"
    if row["p_holm"] >= ALPHA:
        return f"No difference can be told: {evidence}."
    return f"{row['better']} is better: {evidence}."


def _configuration_verdict(found: ConfigurationComparison, first: _Candidate, second: _Candidate) -> str:
    verdict = str(found.pair(first.name, second.name)["verdict"])
    return f"{verdict[0].upper()}{verdict[1:]}." if verdict.startswith("can't") else f"{verdict}."


def _times(first: _Candidate, second: _Candidate) -> str:
    if not first.train_seconds or not second.train_seconds:
        return ""
    return (
        f" Training took {first.train_seconds:,.1f} s and {second.train_seconds:,.1f} s: "
        f"{first.train_seconds / second.train_seconds:.2f} times as long."
    )
