"""An alias moves on evidence alone or with a reason, and every move is remembered."""

import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from mlflow_project.cli.main import run
from mlflow_project.common.errors import UsageError
from mlflow_project.registry import promotion
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.registry.versions import Version
from mlflow_project.tracking.delivery.alias_log import (
    CHANGE_TAG,
    MAX_CHARACTERS,
    AliasChange,
    changes,
    history,
    record_change,
)
from tests.support.swept import NAME, Swept


@pytest.fixture
def client(swept: Swept) -> MlflowClient:
    return MlflowClient(swept.uri, registry_uri=swept.uri)


def models(*arguments: str) -> int:
    command, *more = arguments
    return run(["models", command, "--name", NAME, *more])


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.splitlines()[-1]


def validated(client: MlflowClient) -> dict[int, float]:
    """The validation accuracies that the runs, not the versions' tags, say."""
    versions = client.search_model_versions(f"name = '{NAME}'")
    return {int(v.version): client.get_run(v.run_id).data.metrics["validation_accuracy"] for v in versions}


def champion(client: MlflowClient) -> int | None:
    number = client.get_registered_model(NAME).aliases.get("champion")
    return None if number is None else int(number)


def test_the_best_is_the_one_with_the_best_validation_accuracy(client: MlflowClient) -> None:
    assert models("promote", "--best") == 0
    accuracies = validated(client)
    assert champion(client) == max(accuracies, key=lambda number: accuracies[number])


def test_the_best_on_test_is_no_champion_for_that(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = validated(client)
    best = max(accuracies, key=lambda number: accuracies[number])
    worst = min(accuracies, key=lambda number: accuracies[number])
    client.set_model_version_tag(NAME, str(worst), "test_accuracy", "1.0")
    assert models("promote", str(worst)) == 1
    assert f"version {best} has {accuracies[best]:.4f}" in error(capsys)
    assert champion(client) is None


@pytest.mark.parametrize("option", ["--reason", "--because"])
def test_a_model_that_is_worse_by_the_paired_test_needs_a_reason(
    option: str, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("promote", "3", "--alias", "staging") == 0
    assert models("promote", "1", "--alias", "staging") == 1
    assert "version 3 (staging now) is better" in error(capsys)
    assert models("promote", "1", "--alias", "staging", option, "a baseline is wanted") == 0
    assert int(client.get_registered_model(NAME).aliases["staging"]) == 1
    last = history(client, NAME)[-1]
    assert (last.from_version, last.to_version, last.because) == (3, 1, "a baseline is wanted")
    assert "is better" in last.objections[0]


def test_a_better_model_takes_the_place(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    assert models("promote", "1", "--alias", "staging") == 0
    capsys.readouterr()
    assert models("promote", "3", "--alias", "staging", "--format", "json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["from"], row["to"]) == (1, 3)
    assert "version 3 is better" in row["why"]


def test_a_run_that_is_not_completed_is_no_evidence(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("promote", "--best") == 0
    best = champion(client)
    client.delete_registered_model_alias(NAME, "champion")
    run_id = client.get_model_version(NAME, str(best)).run_id
    client.set_terminated(run_id, "FAILED")
    assert models("promote", str(best)) == 1
    assert f"run {run_id} is not completed but FAILED" in error(capsys)
    assert models("promote", "--best") == 0
    assert champion(client) != best


@pytest.mark.parametrize(("how", "message"), [("deleted", "was deleted"), ("removed for good", "is gone")])
def test_a_run_that_is_no_longer_there_is_no_evidence_and_the_next_best_is_taken(
    how: str, message: str, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("promote", "--best") == 0
    best = champion(client)
    client.delete_registered_model_alias(NAME, "champion")
    run_id = client.get_model_version(NAME, str(best)).run_id
    client.delete_run(run_id)
    if how == "removed for good":
        remove_for_good(client, run_id)
    assert models("promote", str(best)) == 1
    assert f"run {run_id} {message}" in error(capsys)
    assert models("promote", "--best") == 0
    assert champion(client) not in (None, best)


def remove_for_good(client: MlflowClient, run_id: str) -> None:
    """As `mlflow gc` does."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(client.tracking_uri, "unused")._hard_delete_run(run_id)


def test_a_tag_that_is_no_number_hides_that_version_alone(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = validated(client)
    best = max(accuracies, key=lambda number: accuracies[number])
    for key in ("validation_accuracy", "test_accuracy"):
        client.set_model_version_tag(NAME, str(best), key, "good")
    assert models("promote", "--best") == 0
    assert champion(client) not in (None, best)
    capsys.readouterr()
    assert models("find", "--min-test-accuracy", "0", "--format", "json") == 0
    listed = {row["version"] for row in json.loads(capsys.readouterr().out)}
    assert listed == set(accuracies) - {best}


def test_no_reason_helps_a_model_whose_weights_were_changed(
    swept: Swept, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    (model,) = client.search_logged_models(
        ["1"], filter_string=f"source_run_id = '{client.get_model_version(NAME, '3').run_id}'"
    )
    weights = Path(model.artifact_location.removeprefix("file://")) / "extra_files" / "weights.pt"
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    assert models("promote", "3", "--reason", "I know better") == 1
    assert "is not what was registered" in error(capsys)
    assert champion(client) is None
    assert history(client, NAME) == []


@pytest.mark.parametrize("missing", ["predictions", "other images"])
def test_what_cannot_be_compared_needs_a_reason(
    missing: str, swept: Swept, client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    import pandas as pd

    assert models("promote", "3", "--alias", "staging") == 0
    run = client.get_run(client.get_model_version(NAME, "4").run_id)
    path = Path(run.info.artifact_uri.removeprefix("file://")) / "predictions" / "test.parquet"
    if missing == "predictions":
        path.unlink()
    else:
        frame = pd.read_parquet(path)
        frame.attrs["sha256"] = "another"
        frame.to_parquet(path, index=False)
    assert models("promote", "4", "--alias", "staging") == 1
    assert "it can't be compared with version 3" in error(capsys)
    assert int(client.get_registered_model(NAME).aliases["staging"]) == 3


def test_giving_an_alias_again_changes_and_records_nothing(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("promote", "--best") == 0
    known = history(client, NAME)
    assert models("promote", "--best") == 0
    assert "is champion already" in capsys.readouterr().err
    assert history(client, NAME) == known


def test_history_shows_who_and_when_and_what_was_done_by_other_means(
    client: MlflowClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    assert models("promote", "--best") == 0
    best = champion(client)
    client.set_registered_model_alias(NAME, "champion", "1")
    assert models("promote", "2", "--reason", "a trial") == 0
    client.delete_registered_model_alias(NAME, "champion")
    capsys.readouterr()
    assert models("history", "--alias", "champion", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["from"], row["to"]) for row in rows] == [(None, best), (best, 1), (1, 2), (2, None)]
    assert [row["who"].partition("@")[0] for row in rows] == ["ada", "", "ada", ""]
    assert "changed outside" in rows[1]["why"]
    assert rows[2]["why"].endswith("because a trial")
    assert all(row["when"].endswith("UTC") for row in rows[:3])


def test_the_same_move_made_again_is_kept_again_with_its_reason(client: MlflowClient) -> None:
    assert models("promote", "1") == 1
    for number, because in (("1", "a trial"), ("3", "better")):
        assert models("promote", number, "--reason", because) == 0
    client.set_registered_model_alias(NAME, "champion", "1")
    assert models("promote", "3", "--reason", "the trial is over") == 0
    moves = [(change.from_version, change.to_version, change.because) for change in history(client, NAME)]
    assert moves == [(None, 1, "a trial"), (1, 3, "better"), (3, 1, ""), (1, 3, "the trial is over")]


def test_a_change_that_is_delivered_twice_is_kept_once(client: MlflowClient) -> None:
    for _ in range(2):
        record_change(client, NAME, AliasChange("m1", None, 1), "abc123")
    record_change(client, NAME, AliasChange("m2", None, 1), "abc123")
    assert [change.alias for change in changes(client.get_registered_model(NAME).tags)] == ["m1", "m2"]


def test_a_long_reason_fits_in_any_script_and_a_longer_one_is_refused_unwritten(client: MlflowClient) -> None:
    because = "причина " * 125
    assert models("promote", "3", "--alias", "staging", "--reason", because) == 0
    (text,) = (v for k, v in client.get_registered_model(NAME).tags.items() if k.startswith(CHANGE_TAG))
    assert because in text
    assert len(text) <= MAX_CHARACTERS
    with pytest.raises(UsageError, match="shorter reason"):
        record_change(client, NAME, AliasChange("staging", 3, 4, because="x" * MAX_CHARACTERS))
    assert len(history(client, NAME)) == 1


def test_an_alias_that_somebody_moves_meanwhile_is_left_to_them(
    client: MlflowClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = RegisteredModel.verify

    def slowly(self: RegisteredModel, version: Version) -> None:
        verify(self, version)
        client.set_registered_model_alias(NAME, "staging", "4")

    monkeypatch.setattr(RegisteredModel, "verify", slowly)
    assert models("promote", "3", "--alias", "staging") == 1
    assert "staging was moved meanwhile, to version 4" in error(capsys)
    assert int(client.get_registered_model(NAME).aliases["staging"]) == 4
    assert not changes(client.get_registered_model(NAME).tags)


def test_two_who_promote_at_once_are_both_remembered(client: MlflowClient) -> None:
    class Late(MlflowClient):
        """Sees the registered model as it was before the other's change."""

        def get_registered_model(self, name: str) -> Any:
            return before

    before = client.get_registered_model(NAME)
    record_change(client, NAME, AliasChange("champion", None, 3))
    record_change(
        Late(client.tracking_uri, registry_uri=client.tracking_uri), NAME, AliasChange("champion", None, 4)
    )
    saved = changes(client.get_registered_model(NAME).tags)
    assert {change.to_version for change in saved} == {3, 4}


def test_a_tag_that_is_no_change_does_not_hide_the_others(client: MlflowClient) -> None:
    client.set_registered_model_tag(NAME, f"{CHANGE_TAG}000001", "{")
    record_change(client, NAME, AliasChange("champion", None, 3))
    (change,) = changes(client.get_registered_model(NAME).tags)
    assert change.to_version == 3


def test_an_alias_that_a_run_brings_is_remembered_too(registered: Any) -> None:
    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    known = {(c.alias, c.from_version, c.to_version) for c in history(client, registered.name)}
    assert known == {("m1", None, 1), ("m2", None, 2), ("m3", None, 3), ("champion", None, 1)}


def test_validation_on_different_images_does_not_rank(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    client.set_model_version_tag(NAME, "2", "validation_size", "50")
    assert models("promote", "--best") == 1
    assert "validated on different images" in error(capsys)


def test_versions_that_say_nothing_of_their_data_are_not_ranked(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for version in client.search_model_versions(f"name = '{NAME}'"):
        client.delete_model_version_tag(NAME, version.version, "dataset_sha256")
    assert models("promote", "--best") == 1
    assert f"no version of {NAME} says which data it was trained on" in error(capsys)


def test_the_best_validated_is_not_advised_to_be_found_by_best(
    client: MlflowClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = promotion.Check("test", "the champion is better", False)
    monkeypatch.setattr(promotion, "_check_not_worse", lambda *arguments: worse)
    assert models("promote", "--best") == 1
    message = error(capsys)
    assert "the champion is better; choose another, or give a reason" in message
    assert "--best" not in message
    assert models("promote", "1") == 1
    assert "(--best takes the best validated one)" in error(capsys)


def test_a_deleted_run_is_said_where_its_version_is_shown(
    client: MlflowClient, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = client.get_model_version(NAME, "1").run_id
    assert models("show", "1") == 0
    assert "deleted" not in capsys.readouterr().out
    client.delete_run(run_id)
    assert models("show", "1") == 0
    assert f"run {run_id} was deleted" in capsys.readouterr().out


def test_without_a_champion_the_command_that_makes_one_is_named(
    swept: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models("show", "champion") == 1
    assert f"models promote --best --alias champion --name {NAME}" in error(capsys)


@pytest.mark.parametrize("alias", ["latest", "v3", "7", "a b", ""])
def test_a_name_that_mlflow_refuses_is_refused_before_anything_is_written(
    alias: str, client: MlflowClient
) -> None:
    assert models("promote", "3", "--alias", alias) == 2
    assert history(client, NAME) == []


@pytest.mark.parametrize("arguments", [[], ["3", "--best"]])
def test_one_version_is_named(arguments: list[str], swept: Swept) -> None:
    assert models("promote", *arguments) == 2


def test_a_model_nobody_registered_has_no_history(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "history"]) == 1
    assert "no model is registered as mnist-base-cnn" in error(capsys)
    assert run(["models", "promote", "--best"]) == 1
    assert "train one first" in error(capsys)
