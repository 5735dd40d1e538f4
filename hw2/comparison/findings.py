"""The findings of a comparison in sentences, with their numbers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hw2.common.constants import DIGITS
from hw2.common.formatting import ALPHA, format_p, format_percent, join_names, plural
from hw2.comparison.compare import Comparison
from hw2.comparison.model_predictions import SEED, ModelPredictions, Setting


@dataclass(frozen=True)
class Finding:
    """topic: best, schedules, epochs, digits or classes; text: one or more sentences."""

    topic: str
    text: str


def findings(comparison: Comparison) -> list[Finding]:
    """List all findings; what the models at hand can't answer is left out."""
    return [
        Finding("best", best(comparison)),
        *(Finding("schedules", text) for text in short_vs_long(comparison)),
        *(Finding("epochs", text) for text in epoch_gains(comparison)),
        *(
            Finding("digits" if model.classes == DIGITS else "classes", best_class(model))
            for model in comparison.models
        ),
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
    rivals = [model for model in models[1:] if comparison.pair(first.name, model.name)["better"] == ""]
    if not rivals:
        second = comparison.pair(first.name, models[1].name)
        return (
            f"{first.name} is best, and that is certain at the 5 % level: {has}, {format_p(second['p_holm'])} "
            f"against the next, {models[1].name}."
        )
    closest = comparison.pair(first.name, rivals[0].name)
    return (
        f"{first.name} has the most right, {has}, but that it is best is not certain: it can't be told from "
        f"{join_names([model.name for model in rivals])} ({_against(first, rivals[0])}, "
        f"{format_p(closest['p_holm'])} for {rivals[0].name})."
    )


def short_vs_long(comparison: Comparison) -> Iterator[str]:
    """Compare few epochs at the largest rate with many at the smallest: the opposite corners of a grid.

    The grid is that of `grid_models`.
    """
    for alike in _grouped(comparison, "lr", "epochs").values():
        corners = grid_models(alike)
        short = min(corners, key=lambda model: (-_value(model, "lr"), _value(model, "epochs")))
        long = min(corners, key=lambda model: (_value(model, "lr"), -_value(model, "epochs")))
        if _value(short, "lr") > _value(long, "lr") and _value(short, "epochs") < _value(long, "epochs"):
            yield (
                f"Short and aggressive against long and patient: {_described(short)} against "
                f"{_described(long)}. {_verdict(comparison, short, long)}{_times(short, long)}"
            )


def grid_models(models: Sequence[ModelPredictions]) -> list[ModelPredictions]:
    """Keep models whose learning rate was trained for more than one number of epochs; all, where none was."""
    epochs: dict[Setting | None, set[Setting | None]] = {}
    for model in models:
        epochs.setdefault(model.settings.get("lr"), set()).add(model.settings.get("epochs"))
    return [model for model in models if len(epochs[model.settings.get("lr")]) > 1] or list(models)


def epoch_gains(comparison: Comparison) -> Iterator[str]:
    """Say what each step to more epochs gained, all else equal."""
    for alike in _grouped(comparison, "epochs").values():
        ordered = sorted(alike, key=lambda model: _value(model, "epochs"))
        for fewer, more in pairwise(ordered):
            if fewer.settings["epochs"] == more.settings["epochs"]:
                continue
            points = (more.accuracy - fewer.accuracy) * 100
            word = "gains" if points > 0 else "loses" if points < 0 else "changes"
            yield (
                f"From {fewer.settings['epochs']} to {more.settings['epochs']} epochs at lr "
                f"{more.settings.get('lr', '?')} ({fewer.name} to {more.name}) accuracy {word} "
                f"{abs(points):.2f} points. {_verdict(comparison, more, fewer)}"
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


def _grouped(comparison: Comparison, *varying: str) -> Mapping[object, list[ModelPredictions]]:
    """Group models that differ in nothing but the settings named; models without these are left out."""
    groups: dict[object, list[ModelPredictions]] = {}
    for model in comparison.models:
        if all(isinstance(model.settings.get(key), int | float) for key in varying):
            rest = tuple(item for item in model.without_seed if item[0] not in varying)
            groups.setdefault((model.settings.get(SEED), rest), []).append(model)
    return {key: alike for key, alike in groups.items() if len(alike) > 1}


def _value(model: ModelPredictions, key: str) -> float:
    return float(model.settings[key])


def _described(model: ModelPredictions) -> str:
    settings = model.settings
    epochs = plural(int(str(settings["epochs"])), "epoch")
    return f"{model.name} (lr {settings['lr']}, {epochs}, {format_percent(model.accuracy, 2)})"


def _against(first: ModelPredictions, second: ModelPredictions) -> str:
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    return f"{only_first:,} image{'' if only_first == 1 else 's'} against {only_second:,}"


def _verdict(comparison: Comparison, first: ModelPredictions, second: ModelPredictions) -> str:
    row = comparison.pair(first.name, second.name)
    if row["only_first_right"] == row["only_second_right"] == 0:
        return "Both are right on the same images: a tie."
    evidence = f"{_against(first, second)}, {format_p(row['p_holm'])}"
    if row["p_holm"] >= ALPHA:
        return f"No difference can be told: {evidence}."
    return f"{row['better']} is better: {evidence}."


def _times(first: ModelPredictions, second: ModelPredictions) -> str:
    if not first.train_seconds or not second.train_seconds:
        return ""
    return (
        f" Training took {first.train_seconds:,.1f} s and {second.train_seconds:,.1f} s: "
        f"{first.train_seconds / second.train_seconds:.2f} times as long."
    )
