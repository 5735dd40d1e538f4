"""One self-contained HTML page about several models, made from what MLflow keeps of them. No model is run."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project import report_models, report_outliers, report_verdicts, study
from mlflow_project.connection import client as open_store
from mlflow_project.report_models import Material
from mlflow_project.selection import Selection, select
from mlflow_project.stored_runs import StoredRun, fetch, stored_predictions

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "report.html"
TEMPLATE = "report.html.j2"


def make_report(selection: Selection, client: "MlflowClient | None" = None) -> tuple[str, tuple[str, ...]]:
    """The page of the selected models as HTML, and what a person should know of models left out.

    With the latest outlier test of these models, if there is one. RunError, RegistryError or ComparisonError
    where the models can't be had or compared.
    """
    client = client or open_store()
    selected = select(client, selection)
    return page(client, selected.runs), selected.notes


def page(client: "MlflowClient", runs: Sequence[StoredRun]) -> str:
    """The page of these runs as HTML."""
    from hw2.comparison import compare

    comparison = compare(stored_predictions(client, runs))
    outliers = report_outliers.latest_test(client, runs)
    wanted = [*report_models.wanted(runs), *report_outliers.wanted(runs, outliers)]
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        material = Material(runs, comparison, fetch(client, wanted, Path(scratch)))
        return render(_content(material, outliers))


def write(path: Path, html: str) -> None:
    """Writes the page; UsageError where that can't be done."""
    require_place(path)
    with _told(path):
        path.write_text(html, encoding="utf-8")


def require_place(path: Path) -> None:
    """Makes the folder that a page goes to; UsageError where the page couldn't be written. What is there stays."""
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    from mlflow_project.errors import UsageError

    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror}); name another file by --output"
        ) from error


def render(content: dict[str, Any]) -> str:
    """The template with its content; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(content)


def _content(material: Material, outliers: report_outliers.OutlierRun | None) -> dict[str, Any]:
    comparison, runs = material.comparison, material.runs
    configurations, common = report_models.configurations(material)
    best = report_verdicts.observed(comparison)[0][1][0]
    return {
        "title": f"{len(runs)} {'model' if len(runs) == 1 else 'models'} on {material.dataset}",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "pictures": comparison.models[0].n,
        "best": best,
        "overall": comparison.overall_verdict,
        "dataset": material.dataset,
        "total": report_models.total_pictures(runs[0]),
        "study_data": study.StudyData() if report_verdicts.is_digits(material) else None,
        "classes": report_models.class_table(material),
        "examples": report_models.examples(material),
        "split": report_models.split(material),
        "configurations": configurations,
        "common": common,
        "nets": report_models.architectures(material),
        "models": report_models.model_rooms(material),
        "confusion": report_models.confusion(material),
        "outliers": report_outliers.outlier_room(material, outliers),
        "side_by_side": report_verdicts.side_by_side(material),
        "accuracies": report_verdicts.accuracies(material),
        "pareto": report_verdicts.pareto(material),
        "pairs": report_verdicts.pairs(comparison) if len(runs) > 1 else None,
        "seeds": report_verdicts.over_seeds(comparison),
        "observations": report_verdicts.observed(comparison),
        "provenance": report_verdicts.provenance(runs),
    }
