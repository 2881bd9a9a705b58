"""A log goes on where it is: what it lacks is appended, and taken away again by an undo."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.models.streams import fifos, log_files, log_programs
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy
from migrator.service.volumes.places import PIECE_BYTES, Places

JOB = "mig-2222222222"
LONG = "line\n" * (PIECE_BYTES // 4)


def go_on(tmp_path: Path, here: str | None, travelled: str) -> tuple[Path, Places]:
    log, places = tmp_path / "log/web.log", Places(tmp_path / "state", JOB)
    if here is not None:
        log.parent.mkdir()
        log.write_text(here)
    part = Volume("stdout", str(log), VolumePolicy.COPY, VolumeKind.FILE, role="stdout")

    def fill(stage: Path) -> None:
        (stage / "web.log").write_text(travelled)

    places.append(part, "default/web", fill)
    return log, places


@pytest.mark.parametrize(
    ("here", "travelled", "after"),
    [
        (None, "1\n2\n", "1\n2\n"),
        ("", "1\n2\n", "1\n2\n"),
        ("1\n", "1\n2\n", "1\n2\n"),
        ("1\n2\n", "1\n2\n", "1\n2\n"),
        ("1\n2\n3\n", "1\n2\n", "1\n2\n3\n"),
        ("theirs\n", "1\n2\n", "theirs\n1\n2\n"),
        ("1\nother\n", "1\n2\n", "1\nother\n1\n2\n"),
        (LONG, LONG + "end\n", LONG + "end\n"),
        (LONG[:PIECE_BYTES], LONG, LONG),
        (LONG + "theirs\n", LONG + "ours\n", LONG + "theirs\n" + LONG + "ours\n"),
    ],
    ids=["absent", "empty", "behind", "same", "ahead", "other", "forked", "long", "whole-piece", "long-fork"],
)
def test_a_log_goes_on_and_comes_back(tmp_path: Path, here: str | None, travelled: str, after: str) -> None:
    log, places = go_on(tmp_path, here, travelled)
    assert log.read_text() == after
    assert [path.name for path in log.parent.iterdir()] == ["web.log"]
    places.take_back()
    assert (log.read_text() if log.exists() else None) == here
    assert log.parent.exists() is (here is not None)


def test_a_log_that_was_replaced_is_left_alone(tmp_path: Path) -> None:
    log, places = go_on(tmp_path, "1\n", "1\n2\n")
    log.rename(tmp_path / "rotated")
    log.write_text("somebody else's\n")
    places.take_back()
    assert log.read_text() == "somebody else's\n"


@pytest.mark.parametrize(("here", "travelled"), [("1\n", "1\n2\n"), ("1\n2\n", "1\n2\n")], ids=["behind", "same"])
def test_what_others_wrote_since_is_not_cut_off(tmp_path: Path, here: str, travelled: str) -> None:
    log, places = go_on(tmp_path, here, travelled)
    with log.open("a") as other:
        other.write("theirs\n")
    places.take_back()
    assert log.read_text() == travelled + "theirs\n"


def test_where_output_goes_is_read_from_its_name() -> None:
    both = {"stdout": "file:///var/log/a%20b", "stderr": "file:///var/log/a%20b", "stdin": ""}
    assert log_files(both) == {"stdout": "/var/log/a b"}
    assert log_files({"stdout": "file:///a", "stderr": "file:///b"}) == {"stdout": "/a", "stderr": "/b"}
    assert log_programs({"stdout": "binary:///bin/logger?id=x", "stderr": "binary:///bin/logger?id=x"}) == [
        "/bin/logger"
    ]
    assert fifos({"stdin": "/run/in", "stdout": "file:///a", "stderr": "/dev/null"}) == ["/run/in"]
    assert (log_files({}), log_programs({}), fifos({"stdin": None})) == ({}, [], [])
