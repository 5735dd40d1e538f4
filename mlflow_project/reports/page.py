"""One self-contained HTML page about several models, made from their stored artifacts. No model is run."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_project.analysis.compare_runs import compare_predictions
from mlflow_project.analysis.run_selection import Selection, select_predictions
from mlflow_project.common.errors import UsageError
from mlflow_project.common.ui_links import comparison_page, experiment_page, ui_address
from mlflow_project.registry.stored_runs import RunRecord, download_artifacts
from mlflow_project.reports import (
    class_sections,
    comparison_sections,
    configuration_sections,
    model_sections,
    outlier_sections,
    reference_study,
    study_answers,
)
from mlflow_project.reports.model_sections import ReportData
from mlflow_project.reports.search_section import search_section
from mlflow_project.tracking.delivery.client import connect as open_store
from mlflow_project.training import ui_views

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from hw2.comparison.compare import Comparison

NAME = "report.html"
TEMPLATE = "report.html.j2"


def make_report(
    selection: Selection, client: "MlflowClient | None" = None, over_seeds: "Comparison | None" = None
) -> tuple[str, tuple[str, ...]]:
    """Make the page of the selected models, with their latest outlier test if there is one.

    Args:
        selection: Which models.
        client: Of the store; that of MLflow's own variable by default.
        over_seeds: A comparison of more seeds, for the verdicts on configurations; else the models' own.

    Returns:
        The page as HTML, and notes on models that were left out.

    Raises:
        RunError, RegistryError, ComparisonError: The models can't be had or compared.
    """
    client = client or open_store()
    selected, predictions = select_predictions(client, selection)
    runs, comparison = selected.runs, compare_predictions(predictions, selected)
    without_logits = [
        f"{model.name} has no logits: its loss and calibration error are left out"
        for model, run in zip(predictions, runs, strict=True)
        if model.logits is None and "test_loss" not in run.metrics
    ]
    outliers = outlier_sections.latest_test(client, runs)
    required = [
        *model_sections.required_artifacts(runs),
        *outlier_sections.required_artifacts(runs, outliers),
    ]
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        data = ReportData(runs, comparison, download_artifacts(client, required, Path(scratch)))
        content = _content(data, outliers, over_seeds or comparison) | {
            "pages": mlflow_pages(client, runs),
            "search": search_section(client, runs),
        }
        return render(content), (*selected.notes, *without_logits)


def write(path: Path, html: str) -> None:
    """Write the page; UsageError where that can't be done."""
    require_place(path)
    with _writing(path):
        path.write_text(html, encoding="utf-8")


def require_place(path: Path) -> None:
    """Make the folder that a page goes to. A page there may be replaced by a newer one, no other file may.

    Raises:
        UsageError: The page couldn't be written.
    """
    with _writing(path):
        if path.is_file() and path.stat().st_size and not _is_page(path):
            raise UsageError(f"{path} is there and is not an HTML page; name another file by --output")
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        path.open("ab").close()
        if new:
            path.unlink()


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1000).lstrip().lower().startswith(b"<!doctype html")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{path} can't be written ({error.strerror}); name another file by --output"
        ) from error


def render(content: dict[str, Any]) -> str:
    """Fill the template; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(content)


def _content(
    data: ReportData, outliers: outlier_sections.OutlierRun | None, over_seeds: "Comparison"
) -> dict[str, Any]:
    comparison, runs = data.comparison, data.runs
    configurations, common = model_sections.configurations(data)
    observations, repeated = (
        comparison_sections.observed(comparison),
        configuration_sections.over_seeds(over_seeds),
    )
    best = repeated.findings[0] if repeated and repeated.pairs else observations[0][1][0]
    study = comparison_sections.is_digits(data)
    return {
        "title": f"{len(runs)} {'model' if len(runs) == 1 else 'models'} on {data.dataset}",
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "images": comparison.models[0].n,
        "best": best,
        "overall": comparison.overall_verdict,
        "dataset": data.dataset,
        "total": model_sections.total_images(runs[0]),
        "study_data": reference_study.StudyData() if study else None,
        "image_form": model_sections.image_form(data),
        "image_bytes": model_sections.image_bytes(data),
        "classes": model_sections.class_table(data),
        "examples": model_sections.examples(data),
        "split": model_sections.split(data),
        "configurations": configurations,
        "common": common,
        "nets": model_sections.architectures(data),
        "models": model_sections.model_sections(data),
        "confusion": class_sections.confusion(data),
        "outliers": outlier_sections.outlier_section(data, outliers),
        "side_by_side": comparison_sections.side_by_side(data),
        "accuracies": comparison_sections.accuracies(data),
        "pareto": comparison_sections.pareto(data),
        "pairs": comparison_sections.pairs(comparison) if len(runs) > 1 else None,
        "over_seeds": repeated,
        "answers": study_answers.answers_section(over_seeds, study),
        "observations": observations,
        "provenance": comparison_sections.provenance(runs),
    }


def mlflow_pages(client: "MlflowClient", runs: Sequence[RunRecord]) -> dict[str, str]:
    """Return addresses in MLflow's UI by what they show; none where the store of the runs has no server."""
    if not client.tracking_uri.startswith("http"):
        return {}
    run_ids = [run.run_id for run in runs]
    experiment_id = client.get_run(run_ids[0]).info.experiment_id
    present = client.get_experiment(experiment_id).tags
    views = {"table": ui_views.table(), "charts": ui_views.charts()}
    pages = {
        text: experiment_page(experiment_id, view.query)
        for text, view in views.items()
        if view.tag[0] in present
    }
    if len(run_ids) > 1:
        pages["these models side by side"] = comparison_page(experiment_id, run_ids)
    server = ui_address(client.tracking_uri)
    return {text: f"{server}/{page}" for text, page in pages.items()}
