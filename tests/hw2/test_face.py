"""The names that `import hw2` offers, and what offering them costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hw2


@pytest.mark.parametrize("name", hw2.__all__)
def test_every_name_resolves_to_what_is_called_so(name: str) -> None:
    assert getattr(hw2, name).__name__ == name
    assert name in dir(hw2)


def test_the_list_is_sorted_and_names_each_once() -> None:
    assert list(hw2.__all__) == sorted(set(hw2.__all__))


def test_type_checkers_see_the_same_names_in_the_same_modules() -> None:
    tree = ast.parse(Path(str(hw2.__file__)).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    assert typed == hw2._EXPORTS


def test_another_name_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'hw2' has no attribute 'train'"):
        _ = hw2.train


def test_it_imports_neither_numpy_nor_torch_nor_mlflow() -> None:
    code = "import sys, hw2; hw2.__all__; print({'numpy', 'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert result.stdout == "set()\n"
