"""What can go wrong through no fault of the code.

Each message is one line: what was found, what was expected, and the next step.
"""


class Hw2Error(Exception):
    """What a person can cause and fix: the base of all errors here."""


class ConfigurationError(Hw2Error):
    """A configuration that can't be trained here."""


class DataError(Hw2Error):
    """Files or images that are not what they should be."""


class DivergenceError(Hw2Error):
    """The loss became NaN or infinite.

    `epoch` counts from 1, `batch` counts batches since the start of training, from 1.
    """

    def __init__(self, epoch: int, batch: int, loss: float, lr: float) -> None:
        super().__init__(
            f"the loss became {loss} at batch {batch} (epoch {epoch}): training stopped; "
            f"a learning rate below {lr:g} may be stable"
        )
        self.epoch = epoch
        self.batch = batch


class CheckpointError(Hw2Error):
    """A saved state that can't be continued."""


class ComparisonError(Hw2Error):
    """Models whose predictions can't be compared."""
