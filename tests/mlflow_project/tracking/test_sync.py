"""`sync`: what it says of a run that it can't upload."""

from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Metric, RunEnded
from mlflow_project.tracking.journal.locks import FileLock
from mlflow_project.tracking.journal.writer import Journal
from mlflow_project.tracking.sync import sync


def test_of_two_who_sync_at_once_the_second_names_the_other_and_not_the_run(store: str) -> None:
    journal = Journal.create(store, "tests", "a run")
    journal.append(Metric("loss", 1.0), RunEnded())
    journal.close()
    other = FileLock(journal.folder / format.SENDING_LOCK)
    assert other.acquire()
    (result,) = sync()
    assert result.problem == "another process is uploading it"
    other.release()
    (result,) = sync()
    assert (result.problem, result.pending) == (None, 0)
