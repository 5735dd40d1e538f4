"""The images that a detector is fitted on, and those that its threshold is measured on."""

from dataclasses import dataclass

import torch

from hw2.data.image_set import ImageSet

# Training digits that are evaluated for a fit; 10,000 instead gain less than 0.001 of any AUROC.
FIT_IMAGES = 4000
# Held-out digits that are taken from the training set where there is no validation set.
HELD_OUT_IMAGES = 5000


@dataclass(frozen=True, eq=False)
class FitSets:
    """The images that a detector is fitted on. `threshold_from` is "validation" or "training"."""

    training: ImageSet
    held_out: ImageSet
    threshold_from: str


def fit_sets(train: ImageSet, validation: ImageSet | None) -> FitSets:
    """Choose training digits, the same in every run, and held-out ones: validation, or else other training digits."""
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    if validation is not None:
        return FitSets(train.subset(order[:FIT_IMAGES]), validation, "validation")
    held_out = min(HELD_OUT_IMAGES, len(train) // 2)
    chosen = order[held_out : held_out + FIT_IMAGES]
    return FitSets(train.subset(chosen), train.subset(order[:held_out]), "training")
