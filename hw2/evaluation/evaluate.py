"""One pass of a model over an image set."""

from collections.abc import Callable

import numpy as np
import torch

from hw2.common import active_time
from hw2.common.errors import DataError, Hw2Error
from hw2.data.image_set import ImageSet
from hw2.evaluation.inference import model_outputs
from hw2.evaluation.result import Evaluation
from hw2.models.net import Net


def evaluate(
    model: Net,
    image_set: ImageSet,
    batch_size: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate the model on every image once, in float32, on its device; the model itself is left as it was.

    Args:
        batch_size: images at a time, None for what is fastest.
        on_progress: called after each batch with the number of images done so far.

    Raises:
        DataError: the set has no images.
        Hw2Error: logits of the model are not finite.
    """
    if not len(image_set):
        raise DataError(f"{image_set.name} {image_set.split}: no images to evaluate; expected at least one")
    batches, done = [], 0
    started = active_time.seconds()
    for batch in model_outputs(model, image_set.images, batch_size):
        batches.append(batch)
        done += len(batch.logits)
        if on_progress is not None:
            on_progress(done)
    seconds = active_time.seconds() - started
    logits, early_features, late_features = (torch.cat(parts).numpy() for parts in zip(*batches, strict=True))
    broken = int((~np.isfinite(logits)).any(axis=1).sum())
    if broken:
        raise Hw2Error(
            f"the model's answer to {broken} of {len(image_set)} images of {image_set.name} is not a "
            "number; its weights are unusable: train it again, with a smaller learning rate"
        )
    return Evaluation(
        name=image_set.name,
        sha256=image_set.sha256,
        labels=image_set.labels.numpy().astype(np.int64),
        logits=logits,
        early_features=early_features,
        late_features=late_features,
        seconds=seconds,
        classes=model.spec.classes,
    )
