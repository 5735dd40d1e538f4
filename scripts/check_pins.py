"""Whether each pin of the project has a wheel for each Python that it allows, as pip's index says.

Usage: check_pins.py [PYTHON...], such as 3.12 3.13; without, all that pyproject.toml's requires-python allows, unless
`pins.sha256` says that these pins were checked for these Pythons before: it takes minutes.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKED = ROOT / "scripts" / "pins.sha256"
UNREACHABLE = 75  # EX_TEMPFAIL
_PIN = re.compile(r"([\w.-]+)(?:\[[^]]*\])?==([\w.]+)")


def read_pythons(pyproject: str) -> list[str]:
    """Return the Pythons that requires-python (>=3.X,<3.Y) allows, oldest first."""
    requires = tomllib.loads(pyproject)["project"]["requires-python"]
    bounds = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", requires)
    if bounds is None:
        sys.exit(f"check-pins: requires-python is {requires!r}; expected '>=3.X,<3.Y'")
    return [f"3.{minor}" for minor in range(int(bounds[1]), int(bounds[2]))]


def read_pins(requirements: str, pyproject: str) -> list[tuple[str, str]]:
    """Return name and version of every pin: what is always installed, the extras, and the build's."""
    project = tomllib.loads(pyproject)
    lines = [line.partition("#")[0].strip() for line in requirements.splitlines()]
    lines += project["build-system"]["requires"]
    lines += [line for extra in project["project"]["optional-dependencies"].values() for line in extra]
    pins = [match.groups() for line in lines if (match := _PIN.fullmatch(line))]
    return sorted({(name, version) for name, version in pins})


def query_index(name: str, python: str) -> tuple[list[str], str]:
    """Return the versions of a package with a wheel for this Python, and pip's own words where it has none."""
    pip = [sys.executable, "-m", "pip", "index", "versions", "--disable-pip-version-check", "--pre"]
    wheels = ["--only-binary=:all:", "--python-version", python, "--retries", "1", "--timeout", "15"]
    done = subprocess.run([*pip, *wheels, name], capture_output=True, encoding="utf-8", check=False)
    match = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
    return (match[1].split(", ") if match else [], "" if match else done.stderr)


def main(pythons: list[str]) -> int:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = read_pins((ROOT / "requirements.txt").read_text(encoding="utf-8"), pyproject)
    allowed = read_pythons(pyproject)
    digest = hashlib.sha256(repr((pins, allowed)).encode()).hexdigest()
    if not pythons and CHECKED.exists() and CHECKED.read_text(encoding="utf-8").strip() == digest:
        print(f"check-pins: {len(pins)} pins, Python {', '.join(allowed)}: checked before, none missing")
        return 0
    everything = pythons in ([], allowed)
    pythons = pythons or allowed
    # Every index has pip; where it isn't there, no index answers.
    reachable, errors = query_index("pip", pythons[0])
    if not reachable:
        last = (errors.strip().splitlines() or ["pip printed nothing"])[-1]
        print(f"check-pins: pip's index can't be reached ({last}); nothing was checked", file=sys.stderr)
        return UNREACHABLE
    wanted = list(product(pins, pythons))
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda pin: query_index(pin[0][0], pin[1]), wanted)
        missing = [
            f"{name}=={version} has no wheel for Python {python} on this system; choose another version"
            for ((name, version), python), (versions, _) in zip(wanted, answers, strict=True)
            if version not in versions
        ]
    for line in missing:
        print(f"check-pins: {line}", file=sys.stderr)
    print(f"check-pins: {len(pins)} pins, Python {', '.join(pythons)}: {len(missing) or 'none'} missing")
    if everything and not missing:
        CHECKED.write_text(f"{digest}\n", encoding="utf-8")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
