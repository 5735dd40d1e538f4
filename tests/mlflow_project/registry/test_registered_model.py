"""Look-ups as people say them, and a reload that refuses what was not registered."""

import json
import tempfile
from typing import Any

import pytest
import torch
from mlflow import MlflowClient

from mlflow_project.cli import main
from mlflow_project.common.errors import RegistryError, UsageError
from mlflow_project.registry.registered_model import RegisteredModel
from mlflow_project.registry.versions import Version, VersionFilter, split_models
from mlflow_project.tracking.delivery.client import connect
from tests.support.registered import Registered


@pytest.fixture
def registry(registered: Registered) -> RegisteredModel:
    return RegisteredModel(connect(registered.uri))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("m1,m2,3", ["m1", "m2", "3"]),
        ("lr=0.1,epochs=8", ["lr=0.1 epochs=8"]),
        ("champion,lr=0.1,epochs=8,m2", ["champion", "lr=0.1 epochs=8", "m2"]),
        ("lr=0.1,epochs=8,lr=0.01,epochs=8", ["lr=0.1 epochs=8", "lr=0.01 epochs=8"]),
        ("lr=0.1 epochs=8,lr=0.01 epochs=5", ["lr=0.1 epochs=8", "lr=0.01 epochs=5"]),
        ("", []),
    ],
)
def test_a_list_of_models_is_split_as_it_is_meant(text: str, meant: list[str]) -> None:
    assert split_models(text) == meant


@pytest.mark.parametrize(
    ("message", "number"),
    [
        ("champion", 1),
        ("m3", 3),
        ("2", 2),
        ("seed=2", 2),
        ("lr=0.020 epochs=2 seed=3", 3),
        ("lr=2e-2,seed=0", 1),
        ("lr=0.02", 3),  # the newest of several
        ("models:/mnist-base-cnn/2", 2),
        ("models:/mnist-base-cnn@m3", 3),
    ],
)
def test_a_version_is_found_by_whatever_a_person_says(
    message: str, number: int, registry: RegisteredModel
) -> None:
    assert registry.resolve(message).number == number


def test_a_configuration_means_the_newest_version_on_full_data_if_there_is_one(
    registry: RegisteredModel, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in ("1", "2"):
        registry.client.set_model_version_tag(registry.name, number, "dataset", "mnist")
    assert registry.resolve("lr=0.02 epochs=2").number == 2
    assert registry.resolve("3").number == 3
    assert main.run(["models", "find", "--lr", "0.02", "--format", "json"]) == 0
    datasets = {row["version"]: row["dataset"] for row in json.loads(capsys.readouterr().out)}
    assert datasets == {3: "mnist-sample", 2: "mnist", 1: "mnist"}


def test_a_version_is_found_by_its_run(registry: RegisteredModel) -> None:
    run_id = registry.resolve("2").run_id
    assert registry.resolve(f"runs:/{run_id}").number == 2
    assert registry.resolve(f"runs:/{run_id}/model").number == 2


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("champoin", "did you mean champion"),
        ("9", "no version 9; did you mean 3, 2, 1?"),
        ("lr=0.3", "lr=0.02 epochs=2"),
        ("models:/mnist-base-cnn@nobody", "no alias 'nobody'"),
        ("models:/another/1", "no model is registered as another; registered are mnist-base-cnn"),
        ("runs:/0123", "runs:/0123"),
    ],
)
def test_what_is_not_there_is_answered_with_what_is_near(
    message: str, hint: str, registry: RegisteredModel
) -> None:
    with pytest.raises(RegistryError) as refusal:
        registry.resolve(message)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("message", ["color=red", "lr=fast", "models:/mnist-base-cnn"])
def test_what_names_no_version_at_all_is_wrong_usage(message: str, registry: RegisteredModel) -> None:
    with pytest.raises(UsageError):
        registry.resolve(message)


def test_versions_are_found_by_accuracy_and_by_data(registry: RegisteredModel) -> None:
    every = registry.versions()
    best = max(every, key=lambda version: version.test_accuracy or 0)
    assert [v.number for v in every] == [3, 2, 1]
    result = registry.versions(VersionFilter(min_test_accuracy=best.test_accuracy))
    assert result
    assert {v.test_accuracy for v in result} == {best.test_accuracy}
    assert len(registry.versions(VersionFilter(dataset_sha256=best.tags["dataset_sha256"][:10]))) == 3
    assert registry.versions(VersionFilter(dataset_sha256="00000000")) == []


def test_a_reloaded_model_is_the_class_with_the_registered_weights(registry: RegisteredModel) -> None:
    from hw2.models.factory import weights_sha256

    loaded = registry.load(registry.resolve("m2"))
    assert weights_sha256(loaded.model.state_dict()) == loaded.version.tags["weights_sha256"]
    assert loaded.model(torch.zeros(3, 28, 28, dtype=torch.uint8)).shape == (3, 10)
    assert loaded.detector.threshold == pytest.approx(float(loaded.version.tags["outlier_threshold"]))


@pytest.mark.parametrize(
    "name", ["extra_files/weights.pt", "extra_files/detector.pt", "extra_files/SHA256SUMS", "data/model.pt2"]
)
def test_one_changed_byte_is_refused(name: str, registry: RegisteredModel, registered: Registered) -> None:
    path = registered.files(2) / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    version = registry.resolve("2")
    with pytest.raises(RegistryError, match="version 2"):
        registry.load(version)
    with pytest.raises(RegistryError, match="version 2"):
        registry.verify(version)
    registry.verify(registry.resolve("1"))


def test_weights_of_another_version_are_refused_though_their_own_sums_fit(
    registry: RegisteredModel, registered: Registered
) -> None:
    import shutil

    shutil.copytree(registered.files(1), registered.files(2), dirs_exist_ok=True)
    with pytest.raises(RegistryError, match="not what was registered"):
        registry.load(registry.resolve("2"))


def test_models_commands_print_what_programs_can_read(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["models", "list", "--format", "json"]) == 0
    assert [row["version"] for row in json.loads(capsys.readouterr().out)] == [3, 2, 1]
    assert main.run(["models", "find", "--lr", "0.02", "--seed", "2", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("mnist-base-cnn,2,m2,")
    assert main.run(["models", "find", "--lr", "0.5"]) == 1
    assert "no version of mnist-base-cnn fits" in capsys.readouterr().err
    assert main.run(["models", "show", "champion"]) == 0
    assert "outlier_threshold" in capsys.readouterr().out
    assert main.run(["models", "verify", "--all"]) == 0
    assert capsys.readouterr().out.count("verified") == 3


def test_models_of_every_name_are_listed_with_it(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    client.create_registered_model("another")
    client.create_model_version("another", f"{registered.folder}/elsewhere", None)
    assert main.run(["models", "list", "--all", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sorted((row["model"], row["version"]) for row in rows) == [
        ("another", 1),
        *((registered.name, number) for number in (1, 2, 3)),
    ]


@pytest.mark.parametrize("command", [["list"], ["find", "--lr", "0.02"], ["history"], ["show", "1"]])
@pytest.mark.usefixtures("registered")
def test_a_name_that_is_not_registered_is_an_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["models", *command, "--name", "mnist-base-cmm"]) == 1
    assert (
        "no model is registered as mnist-base-cmm; registered are mnist-base-cnn" in capsys.readouterr().err
    )


OF_RUN = {"optimizer": "sgd", "momentum": "0.0", "precision": "bfloat16", "device": "cpu"}


@pytest.mark.parametrize("where", ["version", "run"])
def test_precision_device_optimizer_and_momentum_are_shown_and_found(
    where: str, registry: RegisteredModel, capsys: pytest.CaptureFixture[str]
) -> None:
    version = registry.resolve("2")
    for key, value in OF_RUN.items():
        if where == "version":
            registry.client.set_model_version_tag(registry.name, "2", key, value)
            continue
        registry.client.delete_model_version_tag(registry.name, "2", key) if key in version.tags else None
        if key in ("optimizer", "momentum"):  # as versions of earlier versions of this project are
            registry.client.log_param(version.run_id, key, value)
        else:
            registry.client.set_tag(version.run_id, f"{key}_used", value)
    assert main.run(["models", "show", "2", "--format", "json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert OF_RUN.items() <= facts.items()
    options = [word for key, value in OF_RUN.items() for word in (f"--{key}", value)]
    assert main.run(["models", "find", *options, "--format", "json"]) == 0
    assert [row["version"] for row in json.loads(capsys.readouterr().out)] == [2]
    assert main.run(["models", "find", *options, "--momentum", "0.9"]) == 1


def test_a_version_repeats_what_it_was_trained_with(registry: RegisteredModel) -> None:
    tags = registry.resolve("2").tags
    assert (tags["optimizer"], tags["momentum"], tags["device"]) == ("sgd", "0.0", "cpu")
    assert tags["precision"] in ("float32", "bfloat16")


def test_verify_all_names_the_one_that_was_changed(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    path = registered.files(3) / "extra_files/weights.pt"
    path.write_bytes(path.read_bytes()[:-1])
    assert main.run(["models", "verify", "--all", "--format", "json"]) == 1
    captured = capsys.readouterr()
    assert {row["version"]: row["result"] == "verified" for row in json.loads(captured.out)} == {
        1: True,
        2: True,
        3: False,
    }
    assert "1 of 3 versions" in captured.err


def test_verify_all_goes_on_where_a_version_has_lost_its_files(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.rmtree(registered.files(3))
    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    client.create_model_version(registered.name, f"{registered.folder}/gone", None)
    assert main.run(["models", "verify", "--all", "--format", "json"]) == 1
    captured = capsys.readouterr()
    results = {row["version"]: row["result"] for row in json.loads(captured.out)}
    assert [number for number, result in results.items() if result == "verified"] == [2, 1]
    lost = "mnist-base-cnn version {} has lost its files; restore them from a backup"
    assert [results[number] for number in (4, 3)] == [lost.format(4), lost.format(3)]
    assert "2 of 4 versions" in captured.err


def test_a_version_that_has_lost_files_names_no_temporary_path(
    registered: Registered, registry: RegisteredModel
) -> None:
    import shutil

    (registered.files(2) / "extra_files" / "SHA256SUMS").unlink()
    with pytest.raises(RegistryError, match="version 2 has lost its extra_files/SHA256SUMS") as refusal:
        registry.verify(registry.resolve("2"))
    assert tempfile.gettempdir() not in str(refusal.value)
    for path in registered.files(3).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(RegistryError, match="version 3 has lost its files"):
        registry.load(registry.resolve("3"))


def test_verify_all_sees_more_models_than_a_page_of_mlflow_holds(
    registered: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient(registered.uri, registry_uri=registered.uri)
    for number in range(101):
        client.create_registered_model(f"a model without versions, {number:03}")
    assert main.run(["models", "verify", "--all"]) == 0
    assert capsys.readouterr().out.count("verified") == 3


def test_one_version_is_looked_up_without_reading_the_others(
    registry: RegisteredModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = registry.resolve("2").run_id
    calls: list[str] = []
    search = registry.client.search_model_versions

    def noted(condition: str, **more: Any) -> Any:
        calls.append(condition)
        return search(condition, **more)

    monkeypatch.setattr(registry.client, "search_model_versions", noted)
    for text in ("champion", "2", "models:/mnist-base-cnn@m3", f"runs:/{run_id}"):
        registry.resolve(text)
    assert calls == [f"name = 'mnist-base-cnn' and run_id = '{run_id}'"]


@pytest.mark.parametrize("message", ["latest", "9" * 30, "m 1", "runs:/a' or name = 'b"])
def test_what_a_store_would_stumble_over_is_not_there(message: str, registry: RegisteredModel) -> None:
    with pytest.raises(RegistryError, match="mnist-base-cnn has no"):
        registry.resolve(message)


def test_an_accuracy_that_is_no_number_is_none(registry: RegisteredModel) -> None:
    registry.client.set_model_version_tag(registry.name, "1", "test_accuracy", "good")
    version = registry.resolve("champion")
    assert version.test_accuracy is None
    assert 1 not in [v.number for v in registry.versions(VersionFilter(min_test_accuracy=0.0))]


def test_an_alias_that_is_moved_is_looked_up_anew(registry: RegisteredModel, registered: Registered) -> None:
    MlflowClient(registered.uri).set_registered_model_alias(registered.name, "champion", "3")
    assert registry.resolve("champion").number == 3


def test_a_version_is_described_by_all_that_sets_its_training_apart() -> None:
    tags = {"lr": "0.1", "epochs": "2", "batch_size": "64", "warmup": "100", "seed": "0", "optimizer": "sgd"}
    others = {"momentum": "0.9", "nesterov": "False", "schedule": "cosine", "dataset": "leaves"}
    version = Version(name="leaves", number=1, run_id="", created_ms=0, tags=tags | others)
    assert version.configuration == "lr=0.1 epochs=2 batch_size=64 seed=0 momentum=0.9 schedule=cosine"
