"""What `restore`, `drill` and `report` make of their words: clones, moments, lengths of time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from migrator.cli.reports import judged, read_length
from migrator.cli.restores import checkpoint_words, clone_names
from migrator.cli.times import read_moment
from migrator.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-11-20 03:00", "Europe/Berlin", datetime(2026, 11, 20, 2, 0, tzinfo=UTC)),
        ("2026-07-20 03:00", "Europe/Berlin", datetime(2026, 7, 20, 1, 0, tzinfo=UTC)),
        ("2026-11-20T03:00+05:30", None, datetime(2026, 11, 19, 21, 30, tzinfo=UTC)),
        ("2026-11-20", "UTC", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-10-25T02:30+02:00", None, datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_of_its_zone(text: str, zone: str | None, expected: datetime) -> None:
    assert read_moment(text, zone) == expected


@pytest.mark.parametrize(
    ("text", "zone", "code", "word"),
    [
        ("2026-10-25 02:30", "Europe/Berlin", "bad_time", "twice"),
        ("2026-03-29 02:30", "Europe/Berlin", "bad_time", "never"),
        ("2026-04-05 01:45", "Australia/Lord_Howe", "bad_time", "twice"),
        ("yesterday", None, "bad_time", "no time"),
        ("2026-11-20 25:00", None, "bad_time", "no time"),
        ("2026-11-20 03:00Z", "Europe/Berlin", "bad_time", "zone already"),
        ("2026-11-20 03:00", "Mars/Olympus", "unknown_zone", "no time zone"),
        ("2026-11-20 03:00", "../../etc/passwd", "unknown_zone", "no time zone"),
    ],
)
def test_what_is_no_moment_is_refused(text: str, zone: str | None, code: str, word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_moment(text, zone)
    assert caught.value.code == code
    assert word in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("names", "count", "hosts", "expected"),
    [
        ([], None, 1, [""]),
        (["web"], None, 1, ["web"]),
        (["web-{n}"], 3, 1, ["web-1", "web-2", "web-3"]),
        (["web-{n}"], None, 2, ["web-1", "web-2"]),
        (["web-{n}"], 3, 2, ["web-1", "web-2", "web-3"]),
        (["a", "b"], None, 2, ["a", "b"]),
        (["a", "b"], 2, 1, ["a", "b"]),
    ],
)
def test_clones_are_counted(names: list[str], count: int | None, hosts: int, expected: list[str]) -> None:
    assert clone_names(names, count, hosts) == expected


@pytest.mark.parametrize(
    ("names", "count", "hosts"),
    [([], 2, 1), (["web"], 2, 1), (["a", "a"], None, 1), (["a", "b-{n}"], None, 1), ([], None, 2), (["a"], None, 2)],
)
def test_clones_that_cannot_be_named_are_refused(names: list[str], count: int | None, hosts: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        clone_names(names, count, hosts)
    assert caught.value.code == "bad_clones"
    assert caught.value.remedy


def test_a_checkpoint_is_meant_by_its_id_or_by_its_workload() -> None:
    assert checkpoint_words("ck-1", None, None, "default") == {"checkpoint_id": "ck-1"}
    words = checkpoint_words("alpha/web", "2026-11-20 03:00Z", None, "other")
    assert words == {
        "workload": "alpha/web",
        "at": datetime(2026, 11, 20, 3, 0, tzinfo=UTC),
        "namespace": "other",
    }
    with pytest.raises(InvalidRequest):
        checkpoint_words("ck-1", "2026-11-20 03:00Z", None, "default")
    with pytest.raises(InvalidRequest):
        checkpoint_words("alpha/web", None, "UTC", "default")


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("90s", 90), ("15m", 900), ("1.5h", 5400), ("7d", 604800)]
)
def test_a_length_of_time_has_a_unit(text: str | None, expected: float | None) -> None:
    assert read_length(text) == expected


@pytest.mark.parametrize("text", ["", "2", "h", "-1h", "2 hours"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_length(text)


@pytest.mark.parametrize(
    ("row", "faults"),
    [
        ({"recovery_point_age_s": 3000.0, "proven_age_s": 3000.0, "drill_failure": None}, []),
        ({"recovery_point_age_s": 4000.0, "proven_age_s": 9000.0, "drill_failure": None}, ["late", "unproven"]),
        ({"recovery_point_age_s": 10.0, "proven_age_s": None, "drill_failure": "no"}, ["unproven", "drill_failed"]),
    ],
)
def test_a_workload_is_judged_by_its_limits(row: dict[str, Any], faults: list[str]) -> None:
    assert judged(row, {"late": 3600.0, "unproven": 7200.0})["faults"] == faults
    assert judged({**row, "drill_failure": None}, {"late": None, "unproven": None})["faults"] == []
