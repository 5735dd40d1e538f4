"""What can go wrong in an experiment through no fault of the code.

Hw2Error
├── ConfigurationError   a configuration that can't be trained here
├── DataError            files or images that are not what they should be
├── DivergenceError      the loss is not a number any more
├── NetError             a custom net that fails at work, or ends the program
├── CheckpointError      a saved state that can't be continued
└── ComparisonError      models whose predictions can't be compared

Each message is one line: what was found, what was expected, and the next step.
"""


class Hw2Error(Exception):
    """What a person can cause and fix: the base of all errors here."""


class ConfigurationError(Hw2Error):
    """A configuration that can't be trained here."""


class DataError(Hw2Error):
    """Files or images that are not what they should be."""


DIVERGED = "the loss became"
"""How the message of a DivergenceError begins."""


class DivergenceError(Hw2Error):
    """The loss became NaN or infinite.

    `epoch` counts from 1, `batch` counts batches since the start of training, from 1.
    """

    def __init__(self, epoch: int, batch: int, loss: float, lr: float) -> None:
        super().__init__(
            f"{DIVERGED} {loss} at batch {batch} (epoch {epoch}): training stopped; "
            f"a learning rate below {lr:g} may be stable"
        )
        self.epoch = epoch
        self.batch = batch


class NetError(Hw2Error):
    """A net of one's own that fails at work, or ends the program."""


class CheckpointError(Hw2Error):
    """A saved state that can't be continued."""


class ComparisonError(Hw2Error):
    """Models whose predictions can't be compared."""
