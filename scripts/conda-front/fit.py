"""Whether this Python's environment is what conda.yaml in the current folder asks for, told in one line.

Started with the name that MLflow gave the environment; exit status 0 where it fits, else 1.
"""

import hashlib
import platform
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


class MisfitError(Exception):
    pass


def requirements(path: Path) -> Iterator[str]:
    """Yield the requirements of a file in pip's format, those of the files it names with -r included."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield from requirement(line, path.parent)


def requirement(line: str, folder: Path) -> Iterator[str]:
    text = line.split(" #")[0].strip()
    if text.startswith(("-r ", "--requirement ")):
        yield from requirements(folder / text.split(maxsplit=1)[1])
    elif text and not text.startswith("#"):
        yield text


def asked_for(environment: Path) -> tuple[str, list[str]]:
    """Return what a conda.yaml asks for: Python's version as pip would write it, and pip's requirements."""
    import yaml

    python, packages = "", []
    for entry in yaml.safe_load(environment.read_text(encoding="utf-8"))["dependencies"]:
        if isinstance(entry, dict):
            packages += [r for line in entry["pip"] for r in requirement(line, environment.parent)]
        elif entry.startswith("python") and not entry[6:7].isalnum():
            wanted = entry[6:].strip()
            fuzzy = wanted.startswith("=") and not wanted.startswith("==")
            python = f"={wanted.rstrip('.*')}.*" if fuzzy else wanted
        elif entry != "pip":
            raise MisfitError(f"conda.yaml asks for '{entry}', which only conda provides; install conda")
    return python, packages


def requires_python(pyproject: Path) -> list[str]:
    """Return the Pythons that the project itself takes beside the one that conda would make, if it says so."""
    if not pyproject.is_file():
        return []
    project = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {})
    return [project["requires-python"]] if "requires-python" in project else []


def check(name: str, environment: Path) -> str:
    """Return what was found to fit; raise MisfitError with what doesn't and the next step."""
    if not environment.is_file() or not name.endswith(hashlib.sha1(environment.read_bytes()).hexdigest()):
        raise MisfitError(
            f"{environment} is not what the environment {name} stands for; install conda for that"
        )
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    python, packages = asked_for(environment)
    allowed = [python, *requires_python(environment.with_name("pyproject.toml"))]
    if not any(SpecifierSet(asked).contains(platform.python_version()) for asked in allowed):
        raise MisfitError(
            f"{sys.prefix} has Python {platform.python_version()}, conda.yaml asks for {python};"
            " remove it, run scripts/setup, and start again"
        )
    wrong = []
    for wanted in map(Requirement, packages):
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} is {found}, asked for {wanted.specifier}")
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
        raise MisfitError(
            f"{sys.prefix} does not fit conda.yaml: {wrong[0]}{more};"
            f" run '{sys.executable} -m pip install -r requirements.txt' and start again"
        )
    return f"Python {platform.python_version()} and {len(packages)} packages as conda.yaml asks"


if __name__ == "__main__":
    try:
        fits = check(sys.argv[1], Path.cwd() / "conda.yaml")
    except MisfitError as error:
        sys.exit(f"conda front: {error}")
    except Exception as error:  # whatever else is wrong with those files, a person gets one line
        sys.exit(
            f"conda front: conda.yaml can't be read: {error}; mend it or install conda".replace("\n", " ")
        )
    print(f"conda front: no conda here; using {sys.prefix} ({fits})", file=sys.stderr)
