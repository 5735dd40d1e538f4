"""What can go wrong in the service without a fault of the code.

ServiceError               exit status 1
├── UsageError             a request that makes no sense (exit status 2)
├── StoreError             the tracking server or store refused, or is unreachable
│   └── DestinationError   the store or the run that a journal belongs to isn't there any more
│       └── OlderStoreError  the store was written by an older MLflow, and opening it would migrate it
├── RunError               a run that can't be opened, resumed or finished
│   └── RunBusyError       another process owns the run
├── RegistryError          a model that isn't there or isn't what was registered
├── JournalError           a journal that can't be read or written
├── DeliveryError          entities that MLflow rejects
├── BackupError            a backup that can't be made, or isn't what was backed up
├── SweepError             a sweep of which a trial failed
└── Interrupted            SIGINT or SIGTERM (exit status 130 or 143)

Each message is one line: what, where, and the next step. Errors of `hw2.common.errors` pass through as they are.
"""

import signal


class ServiceError(Exception):
    """What a person can cause and fix."""

    exit_status = 1


class UsageError(ServiceError):
    """A request that makes no sense."""

    exit_status = 2


class StoreError(ServiceError):
    """The tracking server or store refused, or is unreachable."""


class DestinationError(StoreError):
    """The store or the run that values belong to isn't there any more: a person must say where they go."""


class OlderStoreError(DestinationError):
    """The store was written by an older MLflow, which can't open it any more once it is migrated."""


class RunError(ServiceError):
    """A run that can't be opened, resumed or finished."""


class RunBusyError(RunError):
    """Another process owns the run."""


class RegistryError(ServiceError):
    """A model that isn't there or isn't what was registered."""


class JournalError(ServiceError):
    """A journal that can't be read or written."""


class DeliveryError(ServiceError):
    """Entities that MLflow rejects."""


class BackupError(ServiceError):
    """A backup that can't be made, or isn't what was backed up."""


class SweepError(ServiceError):
    """A sweep of which a trial failed."""


class Interrupted(ServiceError):
    """A signal asked the process to end."""

    def __init__(self, signal_number: int, message: str | None = None) -> None:
        super().__init__(message or f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number
