"""Whatever bytes a journal holds: what was written is read, the rest is named damage, and little memory is used."""

import hashlib
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlflow_project.common.errors import JournalError
from mlflow_project.tracking.journal import format
from mlflow_project.tracking.journal.entities import Artifact, Entity, Metric, ModelArtifact, RunEnded, Tag
from mlflow_project.tracking.journal.format import CorruptSpan, Entry, Header


def good_lines(folder: Path) -> list[bytes]:
    said: list[Entity | Header] = [
        Header(key="k", tracking_uri="uri", experiment="e", run_name="n", run_id=None, start_time_ms=0),
        Metric("m", 0.5, 1, 7),
        Tag("a", "\n\u2028é\x00"),
        Artifact("x", Path("y")),
        RunEnded("KILLED", 9),
    ]
    return [format.encode_line(n, value, "f/x") for n, value in enumerate(said)]


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3000))
def test_any_bytes_are_read_as_damage_or_as_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / format.JOURNAL).write_bytes(content)
    items = list(format.read_entries(tmp_path))
    assert all(isinstance(item, CorruptSpan) for item in items)
    with pytest.raises(JournalError):
        format.read_header(tmp_path)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_changed_anywhere_yields_only_what_was_written(tmp_path: Path, data: st.DataObject) -> None:
    lines = good_lines(tmp_path)
    content = bytearray(b"".join(lines))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "zero"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 400))]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=50))
            case _:
                content[at : at + 200] = bytes(len(content[at : at + 200]))
        if not content:
            break
    (tmp_path / format.JOURNAL).write_bytes(content)
    written = {n: format.decode_line(line, tmp_path / format.FILES)[1] for n, line in enumerate(lines)}
    entries = [item for item in format.read_entries(tmp_path) if isinstance(item, Entry)]
    assert all(written[entry.n] == entry.value for entry in entries)
    assert [entry.n for entry in entries] == sorted({entry.n for entry in entries})


@pytest.mark.parametrize(
    "entry",
    [
        "[" * 100_000,
        "null",
        '{"n":1}',
        '{"n":"1","kind":"tag","data":{}}',
        '{"n":1,"kind":"nothing","data":{}}',
        '{"n":1,"kind":"metric","data":{"key":"m","value":[]}}',
        '{"n":1,"kind":"metric","data":{"key":"m","value":1,"more":2}}',
        '{"n":1,"kind":"artifact","data":{"path":"x","file":"../../etc/passwd"}}',
        '{"n":1,"kind":"artifact","data":{"path":"x","file":null}}',
        '{"n":1,"kind":"end","data":{"status":"DONE"}}',
        '{"n":' + "9" * 10_000 + "}",
    ],
)
def test_a_line_with_a_right_digest_and_a_wrong_content_is_damage(tmp_path: Path, entry: str) -> None:
    import hashlib

    digest = hashlib.sha256(entry.encode()).hexdigest()
    (tmp_path / format.JOURNAL).write_text(f'{{"sha256":"{digest}","entry":{entry}}}\n', encoding="utf-8")
    (item,) = format.read_entries(tmp_path)
    assert isinstance(item, CorruptSpan)


def test_reading_holds_one_line_and_never_a_whole_file(tmp_path: Path) -> None:
    seed = 7
    path = tmp_path / format.JOURNAL
    path.write_bytes(
        random.Random(seed).randbytes(1000) + b"x" * (8 << 20) + b"\n" + b"".join(good_lines(tmp_path))
    )
    list(format.read_entries(tmp_path))
    tracemalloc.start()
    items = list(format.read_entries(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len([item for item in items if isinstance(item, Entry)]) == 5
    assert peak < 3 * format.MAX_LINE


def test_lines_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    # As they were before a journal described its experiment and its registered model.
    header = (
        b'{"sha256":"%b","entry":{"n":0,"kind":"journal","data":{"key":"k","tracking_uri":"u","experiment":"e",'
        b'"run_name":"n","run_id":null,"start_time_ms":1,"tags":{"a":"b"},"artifact_root":"/r","host":"h"}}}\n'
    )
    model = (
        b'{"sha256":"%b","entry":{"n":1,"kind":"model","data":{"name":"model","directory":"d","registered_name":"r",'
        b'"version_tags":{"lr":"0.1"},"aliases":["m1"],"description":"card","params":{},"step":3}}}\n'
    )
    lines = []
    for line in (header, model):
        entry = line.partition(b'"entry":')[2][:-2]
        lines.append(line.replace(b"%b", hashlib.sha256(entry).hexdigest().encode()))
    (tmp_path / format.JOURNAL).write_bytes(b"".join(lines))
    first, second = format.read_entries(tmp_path)
    assert isinstance(first, Entry)
    assert isinstance(first.value, Header)
    assert (first.value.tags, first.value.host, first.value.experiment_tags) == ({"a": "b"}, "h", {})
    assert isinstance(second, Entry)
    assert second.value == ModelArtifact(
        "model",
        tmp_path / "files" / "d",
        "r",
        version_tags={"lr": "0.1"},
        aliases=("m1",),
        description="card",
        step=3,
        registered_description=None,
    )
