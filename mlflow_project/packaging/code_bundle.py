"""Copy the few modules that a model needs to predict into the model.

They get a package of their own, named by their content: a process may load models of different ages, and import
`hw2` besides, without mixing them up. Below it they lie in the folders that they have here.
"""

import ast
import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from mlflow_project.packaging import pyfunc_model

PACKAGES = ("hw2", "mlflow_project")


def bundle_code(folder: Path) -> str:
    """Write the package below `folder`.

    Returns:
        The name of the module that MLflow is to load.
    """
    sources = _collect_sources()
    name = f"base_cnn_{_digest(sources)[:12]}"
    package = folder / name
    for module, text in sources.items():
        path = package.joinpath(*module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_relocate_imports(text, name), encoding="utf-8")
    # The packages' own `__init__` stay behind: they are faces that name what isn't bundled.
    for directory in [package, *(path for path in package.rglob("*") if path.is_dir())]:
        (directory / "__init__.py").write_text("", encoding="utf-8")
    return f"{name}.{pyfunc_model.__name__}"


def _collect_sources() -> dict[str, str]:
    """Return `pyfunc_model` and all of ours that it imports, directly or not: text by module name."""
    sources: dict[str, str] = {}
    waiting = [pyfunc_model.__name__]
    while waiting:
        module = waiting.pop()
        if module not in sources:
            sources[module] = _path(module).read_text(encoding="utf-8")
            waiting += _imported_modules(sources[module])
    return dict(sorted(sources.items()))


def _path(module: str) -> Path:
    """Return the place of a module's file, without importing the package that it is in."""
    package, *below = module.split(".")
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.origin is not None, f"{package} has no file"
    return Path(spec.origin).parent.joinpath(*below).with_suffix(".py")


def _imported_modules(text: str) -> list[str]:
    """Return our modules that a module imports, inside functions too."""
    modules = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in PACKAGES:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                modules.append(full if _path(full).is_file() else str(node.module))
    return modules


def _relocate_imports(text: str, name: str) -> str:
    """Return a module's text with its imports of ours led to the package `name`."""
    return re.sub(rf"^(\s*from )({'|'.join(PACKAGES)})\b", rf"\g<1>{name}.\g<2>", text, flags=re.MULTILINE)


def _digest(sources: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for module, text in sources.items():
        digest.update(f"{module}\n{len(text)}\n{text}".encode())
    return digest.hexdigest()
