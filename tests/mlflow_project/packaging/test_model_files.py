"""A model's files: what MLflow loads of them answers as the class does, without pickle, and without this project."""

import ast
import io
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hw2.data.image_set import load_dataset
from hw2.models.factory import new_model, weights_sha256
from hw2.models.net import Net
from mlflow_project.common.errors import RegistryError
from mlflow_project.packaging import exported_program
from mlflow_project.packaging import model_files as packaging
from mlflow_project.packaging.pyfunc_model import COLUMNS, PyfuncModel
from tests.support.registered import Registered

SIZES = (1, 2, 257)
MODULE = "mlflow_project/packaging/pyfunc_model.py"  # below the package that a model carries


@pytest.fixture
def model_files(registered: Registered, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the first version, as they are registered, where pickle is forbidden."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return registered.files(1)


@pytest.fixture
def images() -> torch.Tensor:
    return load_dataset("mnist-sample").test.images


@pytest.fixture
def load() -> Callable[[str], Any]:
    """`mlflow.pyfunc.load_model`, whose module warns of MLflow's own type hints when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
    return mlflow.pyfunc.load_model


def the_class(files: Path) -> tuple[Net, PyfuncModel]:
    model, detector = packaging.read_model(files, "it")
    return model, PyfuncModel(model, detector)


@pytest.mark.parametrize("size", SIZES)
def test_the_exported_program_gives_the_logits_of_the_class(
    model_files: Path, images: torch.Tensor, size: int
) -> None:
    import mlflow.pytorch

    loaded = mlflow.pytorch.load_model(str(model_files))
    with torch.no_grad():
        torch.testing.assert_close(
            # A sum of 12,544 products in float32, whose order may depend on the threads.
            loaded(images[:size]),
            the_class(model_files)[0](images[:size]),
            rtol=1e-5,
            atol=1e-5,
        )


def test_weights_decide_the_exported_program_and_nothing_else_does() -> None:
    first, second = (new_model(seed).state_dict() for seed in (1, 2))
    assert exported_program.exported_program(first) == exported_program.exported_program(first)
    assert exported_program.exported_program(first) != exported_program.exported_program(second)


def test_weights_of_another_net_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        exported_program.exported_program({"fc1.weight": torch.zeros(10, 12544)})
    weights = new_model(0).state_dict()
    with pytest.raises(ValueError, match="of 36 bytes, expected 40"):
        exported_program.exported_program({**weights, "fc1.bias": torch.zeros(9)})


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("_LAYOUT", {"archive_format": b"pt2", "archive_version": b"99"}),
        ("_TABLE", "data/weights/of_another_pytorch.json"),
        ("_WEIGHTS", "data/elsewhere/"),
    ],
)
def test_an_archive_laid_out_otherwise_is_traced_with_the_weights_themselves(
    place: str, other: object, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(1).eval()
    monkeypatch.setattr(exported_program, place, other)
    program = torch.export.load(io.BytesIO(exported_program.exported_program(model.state_dict())))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images[:3]), model(images[:3]))
    with pytest.raises(ValueError, match="weights of another net"):
        exported_program.exported_program({"fc1.weight": torch.zeros(10, 12544)})


def test_the_graph_is_traced_once_and_a_damaged_one_again(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = new_model(1).state_dict()
    expected = exported_program.exported_program(weights)
    template = exported_program._template(None, exported_program.STUDY)
    traced: list[int] = []

    def trace(*_: object) -> bytes:
        traced.append(1)
        return template

    monkeypatch.setattr(exported_program, "_trace", trace)
    for cached in (Path("state") / "exported").glob("*"):  # whatever was traced before this test
        cached.unlink()
    for damage, calls in ((None, 1), (None, 1), (b"PK", 2), (template[:-2000], 3)):
        exported_program._template.cache_clear()
        saved = list((Path("state") / "exported").glob("*"))
        assert all(damage or len(file.read_bytes()) < 100_000 for file in saved)  # the weights are 577,064
        if damage is not None:
            saved[0].write_bytes(damage)
        assert exported_program.exported_program(weights) == expected
        assert len(traced) == calls


@pytest.mark.parametrize("size", SIZES)
def test_the_python_function_answers_as_predict_does(
    model_files: Path, images: torch.Tensor, size: int, load: Callable[[str], Any]
) -> None:
    loaded = load(str(model_files))
    answer = loaded.predict(images[:size].numpy())
    assert list(answer) == list(COLUMNS)
    expected = the_class(model_files)[1].predict(images[:size].numpy())
    assert answer["label"].tolist() == expected["label"].tolist()
    np.testing.assert_allclose(answer["outlier_score"], expected["outlier_score"], rtol=1e-6)


WITHOUT_US = """
import json, sys
sys.modules["hw2"] = sys.modules["mlflow_project"] = None  # as where they aren't installed
import mlflow.pyfunc, numpy
answer = mlflow.pyfunc.load_model(sys.argv[1]).predict(numpy.zeros((2, 28, 28), numpy.uint8))
print(json.dumps([list(answer), str(answer.dtypes.to_dict())]))
"""


def test_the_python_function_needs_neither_of_our_packages(model_files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_US, str(model_files)],
        capture_output=True,
        text=True,
        cwd="/",
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[0] == list(COLUMNS)


def test_what_the_carried_code_imports_is_required(model_files: Path) -> None:
    imported = set()
    for file in model_files.rglob("code/*/**/*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
    (package,) = (path.name for path in (model_files / "code").iterdir())
    required = {
        line.partition("==")[0]
        for line in (model_files / "requirements.txt").read_text(encoding="utf-8").split()
    }
    assert imported - sys.stdlib_module_names <= required | {package}
    assert package in imported


def test_two_models_of_different_code_are_each_answered_by_their_own(
    model_files: Path, tmp_path: Path, images: torch.Tensor, load: Callable[[str], Any]
) -> None:
    older = tmp_path / "older"
    shutil.copytree(model_files, older)
    (package,) = (older / "code").iterdir()
    package.rename(package.with_name("base_cnn_older"))
    for file in (older / "code" / "base_cnn_older").rglob("*.py"):
        file.write_text(
            file.read_text(encoding="utf-8").replace(package.name, "base_cnn_older"), encoding="utf-8"
        )
    module = older / "code" / "base_cnn_older" / MODULE
    module.write_text(
        module.read_text(encoding="utf-8").replace("label = logits", "label = -logits"), encoding="utf-8"
    )
    card = older / "MLmodel"
    card.write_text(
        card.read_text(encoding="utf-8").replace(package.name, "base_cnn_older"), encoding="utf-8"
    )
    loaded = [load(str(files)) for files in (model_files, older, model_files)]
    answers: list[Any] = [one.predict(images[:5].numpy())["label"].tolist() for one in loaded]
    assert answers[0] == answers[2] != answers[1]


def test_the_signature_names_the_columns(model_files: Path) -> None:
    from mlflow.models import get_model_info

    info = get_model_info(str(model_files))
    assert set(info.flavors) == {"python_function", "pytorch"}
    assert info.signature.outputs.input_names() == list(COLUMNS)
    # Of bytes, MLflow would cut fractions before the model sees them.
    assert str(info.signature.inputs.inputs[0].type) == "object"


@pytest.fixture
def tags(model_files: Path) -> dict[str, str]:
    """What the registry keeps of the files."""
    return {
        "files_sha256": packaging.files_sha256(model_files),
        "weights_sha256": weights_sha256(the_class(model_files)[0].state_dict()),
    }


def test_verification_passes_over_what_python_compiles(model_files: Path, tags: dict[str, str]) -> None:
    (package,) = (model_files / "code").iterdir()
    cache = (package / MODULE).parent / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "pyfunc_model.cpython-311.pyc").touch()
    packaging.verify(model_files, tags, "it")
    (package / MODULE).write_text("", encoding="utf-8")
    with pytest.raises(RegistryError, match=f"{package.name}/{MODULE} has SHA-256"):
        packaging.verify(model_files, tags, "it")


@pytest.mark.parametrize("name", ["__pycache__/torch.cpython-311.pyc", "__pycache__/net.py", "net.pyc"])
def test_what_is_compiled_of_no_module_is_refused(name: str, model_files: Path, tags: dict[str, str]) -> None:
    (package,) = (model_files / "code").iterdir()
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).touch()
    with pytest.raises(RegistryError, match=f"code/{package.name}/{name} was not in it"):
        packaging.verify(model_files, tags, "it")


def test_each_file_is_refused_by_its_name_when_it_changes_or_goes(
    model_files: Path, tags: dict[str, str]
) -> None:
    packaging.verify(model_files, tags, "it")
    files = [path for path in model_files.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
    assert len(files) > 10
    for path in files:
        name, content = path.relative_to(model_files).as_posix(), path.read_bytes()
        middle = len(content) // 2
        if path.name != "MLmodel":  # where it depends on the line: see below
            flipped = bytes(byte ^ 1 for byte in content[middle : middle + 1]) or b"#"
            path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
            with pytest.raises(RegistryError, match=f"{name} has SHA-256"):
                packaging.verify(model_files, tags, "it")
        path.unlink()
        with pytest.raises(RegistryError, match=f"{name} is missing"):
            packaging.verify(model_files, tags, "it")
        path.write_bytes(content)
    packaging.verify(model_files, tags, "it")
    (model_files / "data" / "added").touch()
    with pytest.raises(RegistryError, match="data/added was not in it"):
        packaging.verify(model_files, tags, "it")


def test_every_line_of_the_card_is_verified_but_those_of_the_delivery(
    model_files: Path, tags: dict[str, str]
) -> None:
    card = model_files / "MLmodel"
    lines = card.read_text(encoding="utf-8").splitlines(keepends=True)
    for place, line in enumerate(lines):
        key, _, value = line.rstrip().rpartition(" ")
        changed = f"{key} {value[:-1]}{'x' if value[-1] != 'x' else 'y'}\n"
        card.write_text("".join([*lines[:place], changed, *lines[place + 1 :]]), encoding="utf-8")
        if line.partition(":")[0] in packaging.DELIVERY_KEYS:
            packaging.verify(model_files, tags, "it")
        else:
            with pytest.raises(RegistryError, match="MLmodel has SHA-256"):
                packaging.verify(model_files, tags, "it")


def test_a_version_from_before_the_card_was_summed_is_still_verified(
    model_files: Path, tags: dict[str, str]
) -> None:
    sums = model_files / packaging.CHECKSUMS
    saved = [
        line
        for line in sums.read_text(encoding="utf-8").splitlines(keepends=True)
        if not line.endswith("  MLmodel\n")
    ]
    sums.write_text("".join(saved), encoding="utf-8")
    packaging.verify(model_files, tags | {"files_sha256": packaging.files_sha256(model_files)}, "it")


@pytest.mark.parametrize("name", ["weights.pt", "detector.pt"])
def test_mlflow_itself_loads_nothing_that_was_changed(
    name: str, model_files: Path, load: Callable[[str], Any]
) -> None:
    from hw2.common.errors import CheckpointError

    path = model_files / "extra_files" / name
    tensors = torch.load(path, weights_only=True)
    first = next(
        key for key, value in tensors.items() if torch.is_tensor(value) and value.is_floating_point()
    )
    tensors[first] = tensors[first] + 1
    torch.save(tensors, path)
    with pytest.raises(Exception, match=f"{name} is not what was registered") as caught:
        load(str(model_files))
    assert type(caught.value).__name__ == CheckpointError.__name__  # of the carried code


def test_mlflow_is_not_imported_beside_the_thread_that_delivers() -> None:
    # Two threads that import MLflow at once each find half of it; who takes the lock waits for the other.
    program = """
import sys, tempfile
from pathlib import Path
from mlflow_project.packaging import model_files
from mlflow_project.tracking.delivery import client
class Notes:
    def find_spec(self, name, path=None, target=None):
        if name == "mlflow":
            print("locked" if client._importing.locked() else "free")
sys.meta_path.insert(0, Notes())
import torch
with tempfile.TemporaryDirectory() as folder:
    model_files._describe(Path(folder), "loader", torch.zeros(2, 28, 28, dtype=torch.uint8), model_files.STUDY, True)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.split() == ["locked"]
