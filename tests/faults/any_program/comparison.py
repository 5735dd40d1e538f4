"""Whether two executions of one program left the same behind, whatever IDs and times they got."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlflow_project.common.names import CLAIM_TAG, KEY_TAG, LIVE_TAGS, NAME_TAG, PARENT_TAG, VERSIONS_TAG
from mlflow_project.tracking.identity.store_identity import STORE_TAG
from tests.faults.any_program.recorded import Owner
from tests.faults.any_program.snapshot import Content, Stored

OUR_TAGS = (KEY_TAG, CLAIM_TAG, STORE_TAG, *LIVE_TAGS, "durable.")
"""Beginnings of tags that an undisturbed run hasn't got."""
ELSEWHERE = (NAME_TAG, "mlflow.source.git.commit")
"""Tags that are compared as names, or tell of the program's folder instead of its execution."""
MADE_UP_NAME = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")
"""What MLflow calls a run that has no name."""
IMAGE = re.compile(r"([+%])timestamp\1\d+\1[0-9a-f-]{36}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?")
PLACE = re.compile(r"(durable\+)?(mlflow-artifacts|https?|file)://?([\w.:-]+/)?\d{1,9}/")
MODEL_FILE_LINES = re.compile(rb"^(utc_time_created|model_uuid|model_size_bytes): .*\n", re.MULTILINE)
ID = re.compile(r"\bm-[0-9a-f]{32}\b|\b[0-9a-f]{32}\b|\b\d{18}\b")
CHANGING = re.compile(r": (status|tag .*|latest .*|outputs|inputs|data sets|aliases)$")
"""What a program that was killed may not have brought to its end."""

MEASURED = re.compile(r": \w+ system/")
"""What MLflow measures of the machine, alike only by chance; that each logged point arrived is checked by itself."""

Facts = dict[str, Any]
"""What two executions should have alike, by a name that a person can read."""


@dataclass
class Reference:
    """What an undisturbed program leaves, and what of it differs between any two executions."""

    facts: Facts
    varying: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """From what a run was called at first to its name in the end."""


def refer(first: Content, second: Content, owners: Mapping[str, Owner]) -> Reference:
    """Learn from two undisturbed executions; `owners` are what was recorded in the first."""
    one, other = gather_facts(first), gather_facts(second)
    both = one.keys() & other.keys()
    varying = {name for name in both if one[name] != other[name] or MEASURED.search(name)}
    names = label(first)
    renamed = {
        f"{names[run_id].removesuffix(owner.names[-1])}{early}:": f"{names[run_id]}:"
        for run_id, owner in owners.items()
        for early in owner.names[:-1]
    }
    return Reference(one, varying, set(one.keys() ^ other.keys()), renamed)


def compare(found: Facts, reference: Reference) -> list[str]:
    """What differs from the undisturbed program, a line each."""
    lines = []
    for name, value in reference.facts.items():
        if name in reference.optional:
            continue
        if name not in found:
            lines.append(f"missing: {name}")
        elif found[name] != value and name not in reference.varying:
            lines.append(f"{name} {_difference(found[name], value)}")
    more = found.keys() - reference.facts.keys() - reference.optional
    lines += [f"too much: {name}" for name in sorted(more)]
    return _shorten(lines, {_owner(name) for name in found}, {_owner(name) for name in reference.facts})


def _owner(name: str) -> str:
    return name.rsplit(": ", 1)[0]


def _shorten(lines: list[str], found: set[str], expected: set[str]) -> list[str]:
    """One line for each run or model that isn't there at all, or shouldn't be."""
    short: dict[str, None] = {}
    for line in lines:
        kind, _, name = line.partition(": ")
        whole = {"missing": expected - found, "too much": found - expected}.get(kind, set())
        short[f"{kind}: {_owner(name)}, as a whole" if _owner(name) in whole else line] = None
    return list(short)


def compare_prefix(found: Facts, reference: Reference) -> list[str]:
    """What a program that was killed can't have left. What may have been changed later is checked elsewhere."""
    lines = []
    for name, value in found.items():
        for early, late in reference.renamed.items():
            name = name.replace(early, late)
        if CHANGING.search(name) or name in reference.varying or name in reference.optional:
            continue
        if name not in reference.facts:
            lines.append(f"too much: {name}")
        elif isinstance(value, Counter):
            if more := value - reference.facts[name]:
                lines.append(f"{name}: {more.total()} too much, such as {next(iter(more))}")
        elif value != reference.facts[name]:
            lines.append(f"{name} {_difference(value, reference.facts[name])}")
    return lines


def gather_facts(content: Content) -> Facts:
    """Everything by readable names, with names in the place of IDs."""
    names = label(content)

    def plain(text: str | None) -> str | None:
        if text is None:
            return None
        text = ID.sub(lambda match: names.get(match[0], match[0]), text)
        return TIME.sub("TIME", PLACE.sub("PLACE/", text))

    facts: Facts = {}
    for experiment, tags in content.experiments.items():
        facts[f"experiment {experiment}"] = True
        facts.update({f"experiment {experiment}: tag {k}": plain(v) for k, v in _shown(tags).items()})
    for stored_id, stored in {**content.runs, **content.models}.items():
        for fact, value in _of_stored(stored, plain).items():
            facts[f"{names[stored_id]}: {fact}"] = value
    for name, model in content.registered.items():
        owner = f"registered {name}"
        facts[owner] = (model.description, model.tags)
        for number, version in model.versions.items():
            facts[f"{owner} {number}: status"] = version.status
            facts[f"{owner} {number}: source"] = plain(version.source)
            facts[f"{owner} {number}: run"] = plain(version.run_id)
            facts[f"{owner} {number}: model"] = plain(version.model_id)
            facts[f"{owner} {number}: description"] = version.description
            facts[f"{owner} {number}: aliases"] = tuple(version.aliases)
            for key, text in _shown(version.tags).items():
                facts[f"{owner} {number}: tag {key}"] = plain(text)
    return facts


def label(content: Content) -> dict[str, str]:
    """A name for each ID, that another execution gives to the same thing."""
    names = {key: f"experiment {name}" for key, name in content.experiment_ids.items()}
    taken: Counter[str] = Counter()

    def add(prefix: str, stored_id: str, stored: Stored) -> None:
        shown = "unnamed" if MADE_UP_NAME.fullmatch(stored.name) else stored.name
        name = f"{prefix} {shown}"
        taken[name] += 1
        names[stored_id] = name if taken[name] == 1 else f"{name} ({taken[name]})"

    waiting = sorted(content.runs.items(), key=lambda pair: _order(pair[1]))
    while waiting:
        later = []
        for run_id, run in waiting:
            parent = run.tags.get(PARENT_TAG)
            if parent in content.runs and parent not in names:
                later.append((run_id, run))
            elif parent in content.runs:
                add(f"{names[parent]} /", run_id, run)
            else:
                add(f"run {run.experiment}:", run_id, run)
        if len(later) == len(waiting):
            raise ValueError("runs are each other's parents")
        waiting = later
    for model_id, model in sorted(
        content.models.items(), key=lambda pair: (pair[1].source or "", pair[1].name)
    ):
        add(f"model of {names.get(model.source or '', 'no run')}:", model_id, model)
    return names


def _order(run: Stored) -> tuple[int, str, list[tuple[str, str]]]:
    name = "" if MADE_UP_NAME.fullmatch(run.name) else run.name
    return run.start or 0, name, sorted(run.params.items())


def find_leaks(content: Content, unknown: set[str]) -> list[str]:
    """Where IDs that only the program saw stand on the server."""
    lines = []
    for stored_id, stored in {**content.runs, **content.models}.items():
        texts = {f"tag {key}": text for key, text in _shown(stored.tags).items()}
        texts |= {f"param {key}": text for key, text in stored.params.items()}
        texts |= {path: text.decode(errors="replace") for path, text in stored.files.items()}
        for place, text in texts.items():
            if leaked := unknown & set(ID.findall(text)):
                lines.append(f"{place} of {stored_id} has the provisional ID {leaked.pop()}")
    for name, model in content.registered.items():
        for number, version in model.versions.items():
            if unknown & set(ID.findall(f"{version.source} {version.run_id} {version.model_id}")):
                lines.append(f"version {number} of {name} has a provisional ID: {version.source}")
    return lines


def _of_stored(stored: Stored, plain: Any) -> Facts:
    facts: Facts = {
        "status": stored.status,
        "data sets": tuple(stored.datasets),
        "inputs": tuple(sorted(map(plain, stored.inputs))),
        "outputs": tuple(sorted(map(plain, stored.outputs))),
        "source": plain(stored.source),
        "kind": stored.kind,
    }
    facts |= {f"param {key}": plain(text) for key, text in stored.params.items()}
    facts |= {f"tag {key}": plain(text) for key, text in _shown(stored.tags).items()}
    if (
        VERSIONS_TAG in stored.tags
    ):  # MLflow's server and its client each write it, one a number and one a text
        versions = {(each["name"], str(each["version"])) for each in json.loads(stored.tags[VERSIONS_TAG])}
        facts[f"tag {VERSIONS_TAG}"] = sorted(versions)
    facts |= {f"latest {key}": repr(value) for key, value in stored.latest.items()}
    for key in {point[0] for point in stored.points}:
        points = [(step, value) for name, value, step, _ in stored.points if name == key]
        facts[f"points {key}"] = Counter((step, repr(value)) for step, value in points)
        facts[f"steps {key}"] = Counter(step for step, _ in points)
    for path, content in stored.files.items():
        name = IMAGE.sub("", path)
        if name.endswith("MLmodel"):
            content = MODEL_FILE_LINES.sub(b"", content)
        text = plain(content.decode())
        facts[f"file {name}"] = hashlib.sha256(text.encode()).hexdigest()
    return facts


def _shown(tags: dict[str, str]) -> dict[str, str]:
    return {key: text for key, text in tags.items() if not key.startswith(OUR_TAGS) and key not in ELSEWHERE}


def _difference(found: Any, expected: Any) -> str:
    if isinstance(expected, Counter):
        lost, more = expected - found, found - expected
        parts = [
            f"{points.total()} {word}, such as {next(iter(points))}"
            for word, points in (("lost", lost), ("too much", more))
            if points
        ]
        return "has " + "; ".join(parts)
    return f"is {found!r}, not {expected!r}"[:400]
