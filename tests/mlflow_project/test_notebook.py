"""The example notebook runs as it stands, and its kept outputs tell nothing of the machine that made them."""

import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "notebook.ipynb"


def code_cells() -> list[Any]:
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_its_outputs_are_kept_and_name_no_machine() -> None:
    _, *cells = code_cells()
    assert all(cell.outputs for cell in cells)
    assert {output.output_type for cell in cells for output in cell.outputs} == {"execute_result", "stream"}
    assert not re.search(r"/(home|root|tmp|srv|work|Users)/", NOTEBOOK.read_text(encoding="utf-8"))


@pytest.mark.process
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs_from_its_first_cell_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    expected = [cell.outputs[-1].output_type for cell in code_cells() if cell.outputs]
    executed = [cell.outputs[-1] for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert [output.output_type for output in executed][-len(expected) :] == expected
    assert "did you mean champion" in executed[-1].text
