"""The few modules that a model needs to answer, copied into it.

They get a package of their own, named by their content: a process may load models of different ages, and import
`hw2` besides, without one being taken for the other.
"""

import ast
import hashlib
import re
from pathlib import Path

import hw2
from mlflow_project import served

PACKAGES = (hw2.__name__, "mlflow_project")
_FOLDERS = {name: Path(__file__).parent.parent / name for name in PACKAGES}
_FOLDERS["hw2"] = Path(hw2.__file__).parent


def write_code(folder: Path) -> str:
    """Writes the package below `folder` and returns the name of the module that MLflow is to load."""
    sources = _sources()
    name = f"base_cnn_{_digest(sources)[:12]}"
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        '"""The code of a registered model, as it was at its registration."""\n'
    )
    for module, text in sources.items():
        (package / f"{module}.py").write_text(_moved(text, name))
    return f"{name}.{served.__name__.rpartition('.')[2]}"


def _sources() -> dict[str, str]:
    """By module, without its package: `served` and all of ours that it imports, whether directly or not."""
    found: dict[str, str] = {}
    waiting = [served.__name__]
    while waiting:
        module = waiting.pop()
        package, _, short = module.partition(".")
        if short in found:
            continue
        text = (_FOLDERS[package] / f"{short}.py").read_text()
        found[short] = text
        waiting += _imported(text)
    return dict(sorted(found.items()))


def _imported(text: str) -> list[str]:
    """Our modules that a module imports, inside functions too."""
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in PACKAGES:
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            modules.append(str(node.module))
    return modules


def _moved(text: str, name: str) -> str:
    """A module whose imports of ours go to the package `name`."""
    return re.sub(rf"^(\s*from )(?:{'|'.join(PACKAGES)})\b", rf"\g<1>{name}", text, flags=re.MULTILINE)


def _digest(sources: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for module, text in sources.items():
        digest.update(f"{module}\n{len(text)}\n{text}".encode())
    return digest.hexdigest()
