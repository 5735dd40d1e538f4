"""What MLflow's UI says of runs, models and experiments, in words."""

import json
import re
from urllib.parse import unquote

import pytest
from mlflow import MlflowClient

from hw2.common.formatting import format_percent, format_ratio
from mlflow_project.common.names import NOTE_TAG
from mlflow_project.tracking.journal.entities import EXPERIMENT_PLACE, VERSION_PLACE
from mlflow_project.training import model_card, ui_views
from tests.support.swept import EXPERIMENT, NAME, Swept


@pytest.fixture
def client(swept: Swept) -> MlflowClient:
    return MlflowClient(swept.uri, registry_uri=swept.uri)


def test_a_versions_card_says_what_its_run_measured(client: MlflowClient) -> None:
    version = client.get_model_version(NAME, "3")
    metrics = client.get_run(version.run_id).data.metrics
    card = version.description or ""
    for share in ("test_accuracy", "test_accuracy_low", "test_accuracy_high", "validation_accuracy"):
        assert f"{metrics[share]:.2%}" in card
    assert f"AUROC of {format_ratio(metrics['outlier_auroc'])}" in card
    for name, text in (
        ("digits_kept", "inlier acceptance {} of the test images"),
        ("accuracy_on_kept", "selective accuracy {},"),
        ("outliers_rejected", "outlier rejection rate {} of fashion-mnist"),
    ):
        assert re.search(r"^[\d.]+ % \([\d.]+ to [\d.]+\)$", version.tags[name])
        assert text.format(version.tags[name]) in card
    assert version.tags["digits_kept"].startswith(format_percent(1 - metrics["test_rejected"]))
    assert version.tags["outliers_rejected"].startswith(format_percent(metrics["outlier_rejected"]))
    assert f"{float(version.tags['outlier_threshold']):.3f}" in card
    assert "500 images to train, 100 for validation, 200 to test" in card
    assert version.tags["dataset_sha256"][:16] in card
    assert "**Limits.**" in card


def test_a_versions_card_says_how_that_version_is_loaded(client: MlflowClient) -> None:
    for number in ("1", "4"):
        card = client.get_model_version(NAME, number).description or ""
        assert f'mlflow.pyfunc.load_model("models:/{NAME}/{number}")' in card
        assert VERSION_PLACE not in card
        assert len(card) < 5000  # what the registry's column holds


def test_a_cards_first_line_reads_well_in_a_table(client: MlflowClient) -> None:
    first = (client.get_model_version(NAME, "3").description or "").splitlines()[0]
    assert first.startswith("BaseCNN, lr=0.3 epochs=1: ")
    assert "/" not in first


def test_a_run_has_its_card_too_but_nothing_of_versions(client: MlflowClient) -> None:
    version = client.get_model_version(NAME, "3")
    note = client.get_run(version.run_id).data.tags[NOTE_TAG]
    assert note.splitlines()[0] == (version.description or "").splitlines()[0]
    assert "models:/" not in note


def test_the_registered_model_says_how_its_champion_is_chosen(client: MlflowClient) -> None:
    assert client.get_registered_model(NAME).description == model_card.registered_model(NAME)
    assert f"models promote --best --name {NAME}" in model_card.registered_model(NAME)


def test_an_experiment_is_described_once_and_a_persons_words_stay(store: str) -> None:
    from mlflow_project.tracking.delivery.background import deliver
    from mlflow_project.tracking.journal.entities import RunEnded
    from mlflow_project.tracking.journal.writer import Journal

    client = MlflowClient(store, registry_uri=store)
    theirs: set[str] = set()
    for view in (ui_views.table(), ui_views.table(["momentum"])):
        tags = model_card.experiment_tags(view)
        journal = Journal.create(store, EXPERIMENT, "a run", experiment_tags=tags)
        journal.append(RunEnded())
        journal.close()
        assert deliver(journal.folder).complete
        experiment = client.get_experiment_by_name(EXPERIMENT)
        assert experiment is not None
        written = {key: tags[key].replace(EXPERIMENT_PLACE, experiment.experiment_id) for key in tags}
        described = {key: text for key, text in experiment.tags.items() if not key.startswith("store_id.")}
        assert described == written | dict.fromkeys(theirs, "My own words")
        theirs = {NOTE_TAG, ui_views.charts().tag[0]}
        for key in theirs:
            client.set_experiment_tag(experiment.experiment_id, key, "My own words")


def test_an_experiment_and_a_sweep_link_to_the_views_and_the_sweep_to_its_models(
    client: MlflowClient,
) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["metrics.test_accuracy DESC"])
    (parent,) = [run for run in runs if "test_accuracy" not in run.data.metrics]
    for note in (experiment.tags[NOTE_TAG], parent.data.tags[NOTE_TAG]):
        keys = re.findall(
            rf"\(#/experiments/{experiment.experiment_id}/runs\?.*?viewStateShareKey=(\w+)\)", note
        )
        assert len(keys) == 2
        assert {f"{ui_views.TAG_PREFIX}{key}" for key in keys} <= experiment.tags.keys()
    compared = re.search(r"#/compare-runs\?runs=([^&]*)", parent.data.tags[NOTE_TAG])
    assert compared is not None
    accuracies = {run.info.run_id: run.data.metrics["test_accuracy"] for run in runs if run is not parent}
    named = json.loads(unquote(compared[1]))
    assert set(named) == set(accuracies)
    assert [accuracies[run_id] for run_id in named] == sorted(accuracies.values(), reverse=True)


def test_every_metric_of_a_training_has_its_place_in_the_charts_or_is_left_out(client: MlflowClient) -> None:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    trainings = client.search_runs([experiment.experiment_id], ui_views.TRAININGS)
    assert len(trainings) == 4
    logged = {key for run in trainings for key in run.data.metrics}
    cards = ui_views.charts().state["compareRunCharts"]
    assert logged - {card.get("metricKey") for card in cards} == set()


def test_a_registered_models_own_words_stay(client: MlflowClient) -> None:
    from mlflow_project.tracking.delivery.remote import IdempotentStore
    from mlflow_project.tracking.journal.format import Header

    client.create_registered_model("described", description="My own words")
    IdempotentStore(
        client, Header(key="key", tracking_uri="", experiment="", run_name="", run_id=None, start_time_ms=0)
    ).ensure_registered("described", "A delivery's words")
    assert client.get_registered_model("described").description == "My own words"
