"""The report's section about configurations over their seeds: accuracies, verdicts and findings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hw2.comparison.findings import configuration_findings
from mlflow_project.reports.elements import (
    Column,
    ReportFigure,
    Table,
    columns,
    difference_columns,
    draw,
    frame_table,
    p_value,
    points,
    share,
)

if TYPE_CHECKING:
    import pandas as pd

    from hw2.comparison.compare import Comparison
    from hw2.comparison.configurations import ConfigurationComparison


@dataclass(frozen=True)
class OverSeeds:
    """Configurations over their seeds; pairs: None where no two have two trained seeds each."""

    findings: tuple[str, ...]
    figure: ReportFigure
    table: Table
    pairs: Table | None


def over_seeds(comparison: "Comparison") -> OverSeeds | None:
    """Build the section; None where no configuration has two seeds."""
    found = comparison.by_configuration
    if not found.has_repetitions:
        return None
    texts = [finding.text for finding in configuration_findings(found)] or [
        f"{note}." for note in found.notes
    ]
    return OverSeeds(
        findings=tuple(texts),
        figure=accuracies(found),
        table=configuration_table(found),
        pairs=pair_table(found) if len(found.pairs) else None,
    )


def seed_accuracies(found: "ConfigurationComparison") -> "pd.DataFrame":
    """Build the table of the figure, a row a seed; without accuracy for one that failed."""
    import pandas as pd

    rows = []
    for one, row in zip(found.configurations, found.table.to_dict("records"), strict=True):
        same = {key: row[key] for key in ("configuration", "mean", "low", "high")}
        rows += [same | {"seed": seed, "accuracy": accuracy} for seed, accuracy in one.accuracies.items()]
        rows += [same | {"seed": seed, "accuracy": None} for seed in one.failed]
    columns = ["configuration", "seed", "accuracy", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns).astype({"accuracy": float})


def accuracies(found: "ConfigurationComparison") -> ReportFigure:
    """Draw each configuration's accuracies, a dot a seed, with the interval of its mean."""
    from hw2 import figures

    frame = seed_accuracies(found)
    described = []
    for row in found.table.to_dict("records"):
        interval = (
            "" if row["low"] != row["low"] else f", between {share(row['low'])} and {share(row['high'])}"
        )
        mean = "no seed trained" if row["mean"] != row["mean"] else f"{share(row['mean'])}{interval}"
        described.append(f"{row['configuration']} {mean}")
    shown = [
        *columns("configuration", "seed"),
        Column("accuracy", "Accuracy", share),
        Column("mean", "Mean", share),
        Column("low", "From", share),
        Column("high", "To", share),
    ]
    return draw(
        figures.seed_accuracies(frame),
        "Accuracy of each configuration, a dot a seed, and the 95 % interval of its mean",
        f"Accuracies by configuration: {'; '.join(described)}.",
        frame_table("Accuracies by configuration and seed", frame, shown),
    )


def configuration_table(found: "ConfigurationComparison") -> Table:
    """Build each configuration's mean over seeds with its interval, and the seeds that didn't train."""
    shown = [
        *columns("configuration", "seeds"),
        Column("failed", "Didn’t train"),
        Column("mean", "Mean accuracy", share),
        Column("low", "From", share),
        Column("high", "To", share),
        Column("sd", "Standard deviation (points)", points),
        Column("least", "Lowest", share),
        Column("most", "Highest", share),
    ]
    return frame_table("Each configuration over its seeds", found.table, shown)


def pair_table(found: "ConfigurationComparison") -> Table:
    """Build the verdict on each pair of configurations."""
    shown = [
        *columns("first", "second", "verdict"),
        *difference_columns(),
        Column("p_holm", "p, corrected", p_value),
    ]
    return frame_table("Each pair of configurations over seeds and test images", found.pairs, shown)
