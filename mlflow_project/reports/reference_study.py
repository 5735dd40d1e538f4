"""The reference study, which `reproduce` repeats: its five models, and the metrics that it gives for each."""

from dataclasses import dataclass, replace

from hw2.training.config import TrainingConfig

OUTLIER_MODELS = ("m1", "m2", "m3")
OUTLIER_EXAMPLES = 10
MATCHED, ANSWERS = 0, 30
"""How many predictions for Fashion-MNIST images were the number of the image's class."""
MODEL_KB = 565
"""The size that the study gives for every model."""


@dataclass(frozen=True)
class StudyData:
    """The data set as the study describes it."""

    dataset: str = "mnist"
    train: int = 60_000
    test: int = 10_000
    megabytes: float = 54.9
    image_bytes: int = 785


@dataclass(frozen=True)
class StudyModel:
    """A model of the study, by its alias here. Times are in seconds, accuracies shares of 1."""

    alias: str
    epochs: int
    lr: float
    train_seconds: float
    train_accuracy: float
    test_seconds: float
    test_accuracy: float

    def config(self, base: TrainingConfig) -> TrainingConfig:
        """Return the model's configuration: all 60,000 training images are trained on."""
        return replace(base, epochs=self.epochs, lr=self.lr, validation_size=0)


def warmup_note(warmup: int) -> str:
    """How its rates are used here, and why."""
    plain = "with the study's rate of 0.1 from the first batch on, about a third of the seeds fail or spike"
    if warmup == 0:
        return f"warmup 0, as in the study: {plain}"
    rising = f"warmup {warmup}: each rate rises over the first {warmup:,} batches"
    return f"{rising}, since {plain}; --warmup 0 is the study's"


STUDY = (
    StudyModel("m1", 10, 0.001, 1125.44, 0.932, 6.48, 0.935),
    StudyModel("m2", 5, 0.1, 570.09, 0.988, 6.67, 0.983),
    StudyModel("m3", 8, 0.1, 850.39, 0.993, 7.01, 0.986),
    StudyModel("m4", 5, 0.01, 573.23, 0.978, 6.51, 0.979),
    StudyModel("m5", 8, 0.01, 858.87, 0.983, 6.57, 0.982),
)
