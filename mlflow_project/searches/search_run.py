"""The run above a search's trials, and the tables and figures that it keeps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw2.common.formatting import plural
from mlflow_project.common.names import (
    NAME_TAG,
    NOTE_TAG,
    SEARCH_CURVES,
    SEARCH_IMPORTANCE,
    SEARCH_PARAMETERS,
    SEARCH_SPENDING,
    SEARCH_TABLE,
    SEARCH_TAG,
    STATUS_TAG,
    VERDICT_TABLE,
    VERDICT_TAG,
    WINNER_TAG,
)
from mlflow_project.common.run_state import RunState
from mlflow_project.searches import proposals
from mlflow_project.searches.steps import read_history
from mlflow_project.sweeps.group_run import GroupRun, find_interrupted
from mlflow_project.tracking.journal.entities import Metric, Tag
from mlflow_project.tracking.journal.format import Cursor
from mlflow_project.training import model_card, ui_views

if TYPE_CHECKING:
    import pandas as pd

    from mlflow_project.searches.finish import Verdict
    from mlflow_project.searches.trials import PreparedSearch, Trials
    from mlflow_project.training.progress import ProgressListener


class SearchRun(GroupRun):
    """The parent run of a search. The same search again goes on in it, also when it had finished.

    Raises:
        RunBusyError: Another process runs the same search.
    """

    def __init__(self, prepared: "PreparedSearch", listener: "ProgressListener") -> None:
        spec = prepared.spec
        self.metrics: dict[str, float] = {}
        """What is known at the end."""
        self._spec = spec
        self.table = ui_views.table_of([prepared.base])
        identity = SEARCH_TAG, prepared.sha256
        interrupted = find_interrupted(prepared.local, identity, finished=True)
        super().__init__("search", spec.name, identity, self.table, interrupted, listener)
        self.log(
            Tag(NAME_TAG, f"search {spec.name}"),
            Tag(STATUS_TAG, RunState.STARTED),
            Tag(NOTE_TAG, self._note()),
        )
        self.journal.sync()

    def conclude(
        self, trials: "Trials", rows: Sequence[Mapping[str, Any]], verdict: "Verdict", text: str
    ) -> None:
        """Log the verdict, every table and every figure."""
        import pandas as pd

        from hw2 import figures

        halving = trials.halving
        self.log(Tag(WINNER_TAG, verdict.name), Tag(VERDICT_TAG, text))
        self.metrics = {
            "trials": len(halving.trials),
            "trials_stopped": sum(row["state"] == "stopped" for row in rows),
            "trials_tested": len(verdict.finalists),
            "trials_failed": sum(bool(trial.failed) for trial in halving.trials),
            "trials_reused": sum(trials.is_reused(trial.number) for trial in halving.trials),
            "epochs_trained": halving.epochs,
            "best_validation_accuracy": verdict.accuracy,
        }
        self.attach(SEARCH_TABLE, _csv(pd.DataFrame(rows)))
        self.attach(VERDICT_TABLE, _csv(verdict_table(verdict)))
        draw = {
            SEARCH_CURVES: figures.search_curves,
            SEARCH_PARAMETERS: figures.search_parameters,
            SEARCH_IMPORTANCE: figures.search_importance,
            SEARCH_SPENDING: figures.search_spending,
        }
        for stem, table in tables(trials, self.folders_of(trials)):
            if len(table):
                self.attach(f"tables/{stem}.csv", _csv(table))
                self.attach(f"{stem}.png", figures.png(draw[stem](table)))
        self._verdict = text

    def folders_of(self, trials: "Trials") -> dict[int, Path]:
        """Return the run folder of each trial that has one here, by number."""
        shas = {trials.sha256(trial.number): trial.number for trial in trials.halving.trials}
        return {
            number: result.folder
            for sha256, number in shas.items()
            if (result := self.results.get(sha256)) is not None and result.folder is not None
        }

    _verdict = ""

    def _log_results(self) -> None:
        metrics = {**self.metrics, "search_seconds": time.monotonic() - self._started}
        self.log(*(Metric(key, value, self._times) for key, value in metrics.items()))
        experiment_id = Cursor.load(self.journal.folder).experiment_id
        if experiment_id is not None:  # without it no page has an address
            tested = [r for r in self.results.values() if r.run_id and "test_accuracy" in r.metrics]
            tested.sort(key=lambda result: -result.metrics.get("validation_accuracy", 0.0))
            links = model_card.view_links(
                experiment_id, self.table, [str(result.run_id) for result in tested]
            )
            self.log(Tag(NOTE_TAG, f"{links}\n\n{self._note()}"))

    def _note(self) -> str:
        spec = self._spec
        lines = [
            f"A search of {spec.space} in at most {plural(spec.trials, 'trial')} and {spec.budget}: they are compared "
            f"after {', '.join(map(str, spec.rungs))} epochs, and one in {spec.reduction} goes on. All trials are in "
            f"`{SEARCH_TABLE}`; those stopped have no test accuracy, because validation alone has chosen.",
        ]
        return "\n\n".join([*([self._verdict] if self._verdict else []), *lines])


def verdict_table(verdict: "Verdict") -> "pd.DataFrame":
    """Build a row for each trial that was compared with the winner, by validation."""
    import pandas as pd

    columns = [
        "trial",
        "run",
        "epochs",
        "validation_accuracy",
        "difference",
        "low",
        "high",
        "p_holm",
        "verdict",
    ]
    words = {True: "can't be told from the winner", False: "worse"}
    rows = [
        (r.number + 1, r.name, r.epochs, r.accuracy, r.difference, r.low, r.high, r.p, words[r.undecided])
        for r in verdict.rivals
    ]
    return pd.DataFrame(rows, columns=columns)


def tables(trials: "Trials", folders: Mapping[int, Path]) -> "Iterator[tuple[str, pd.DataFrame]]":
    """Yield the table of each figure, by the figure's stem."""
    yield SEARCH_CURVES, curves_table(trials, folders)
    yield SEARCH_PARAMETERS, parameters_table(trials)
    yield SEARCH_IMPORTANCE, importance_table(trials)
    yield SEARCH_SPENDING, spending_table(trials)


def curves_table(trials: "Trials", folders: Mapping[int, Path]) -> "pd.DataFrame":
    """Build a row for each epoch of each trial; of runs that aren't on this machine, each rung."""
    import pandas as pd

    halving, rows = trials.halving, []
    for trial in halving.trials:
        end = "failed" if trial.failed else "complete" if trial.rung == len(halving.rungs) - 1 else "stopped"
        last = halving.rungs[trial.rung] if trial.outcomes else 0
        if trial.number in folders:
            history = {e: row[0] for e, row in read_history(folders[trial.number]).items() if e <= last}
        else:
            history = {halving.rungs[k]: o.accuracy for k, o in enumerate(trial.outcomes) if not o.failed}
        rows += [(trial.number + 1, epoch, accuracy, end) for epoch, accuracy in history.items()]
    return pd.DataFrame(rows, columns=["trial", "epoch", "validation_accuracy", "end"])


def parameters_table(trials: "Trials") -> "pd.DataFrame":
    """Build a row for each trial: its last validation accuracy, after how many epochs, and its parameters."""
    import pandas as pd

    rows = [
        {
            "trial": trial.number + 1,
            **trials.study.proposals[trial.number].params,
            "epochs": trials.halving.rungs[trial.rung],
            "validation_accuracy": trial.outcomes[-1].accuracy,
        }
        for trial in trials.halving.trials
        if trial.outcomes and not trial.failed
    ]
    return pd.DataFrame(rows)


def importance_table(trials: "Trials") -> "pd.DataFrame":
    """Build a row for each parameter: its share in the variance of what all trials have, the first rung's accuracy."""
    import pandas as pd

    ended = [trial for trial in trials.halving.trials if trial.outcomes]
    shares = proposals.importances(
        trials.prepared.spec.space,
        [trials.study.proposals[trial.number].params for trial in ended],
        [trial.outcomes[0].accuracy for trial in ended],
    )
    return pd.DataFrame(shares.items(), columns=["parameter", "importance"])


def spending_table(trials: "Trials") -> "pd.DataFrame":
    """Build a row for each rung: how many trials were trained to it, from the rung before, and what that took."""
    import pandas as pd

    halving, rows = trials.halving, []
    for rung, epochs in enumerate(halving.rungs):
        reached = [t for t in halving.trials if t.rung >= rung and not trials.is_reused(t.number)]
        before = halving.rungs[rung - 1] if rung else 0
        seconds = sum(trial.outcomes[rung].seconds for trial in reached)
        rows.append((epochs, len(reached), len(reached) * (epochs - before), seconds))
    return pd.DataFrame(rows, columns=["epochs", "trials", "epochs_trained", "seconds"])


def _csv(table: "pd.DataFrame") -> str:
    return table.to_csv(index=False)
