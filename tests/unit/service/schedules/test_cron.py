"""Cron with time zones: as stated for the days on which clocks are put, and against a walk through every minute."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import InvalidRequest
from migrator.service.schedules.cron import NAMES, Cron
from migrator.service.schedules.zones import change_between
from tests.unit.service.schedules.walk import RANGES, Naive, utc

ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kathmandu",  # 5 h 45 min ahead, 15 minutes more since 1986
    "Pacific/Apia",  # 30 December 2011 never was
    "Africa/Casablanca",  # put four times a year
    "America/Havana",  # at midnight
    "America/Sao_Paulo",  # at midnight, until 2019
    "Antarctica/Troll",  # by two hours
    "UTC",
)
DAY = timedelta(days=1)
EXAMPLES = int(os.environ.get("EXAMPLES", "80"))


def fires(expression: str, zone: str, after: datetime, count: int) -> list[str]:
    """The next fire times as the clock shows them, with the offset from UTC."""
    found, cron, moment = [], Cron(expression), after
    for _ in range(count):
        nearest = cron.next_after(moment, ZoneInfo(zone))
        assert nearest is not None
        found.append(nearest.astimezone(ZoneInfo(zone)).strftime("%d.%m. %H:%M %z"))
        moment = nearest
    return found


def compare(expression: str, zone: str, first: datetime, days: int) -> None:
    """The same fire times, one after the other, as a walk through the minutes finds."""
    place, last = ZoneInfo(zone), first + days * DAY
    expected = list(Naive(expression).walk(first, last, place))
    cron, moment = Cron(expression), first
    for time in expected:
        found = cron.next_after(moment, place)
        assert found == time, f"after {moment}: {found}, not {time}"
        moment = time
    following = cron.next_after(moment, place)
    assert following is None or following > last, following


# ---- the days on which clocks are put


def test_a_time_that_does_not_exist_fires_when_the_clock_has_jumped() -> None:
    found = fires("30 2 * * *", "Europe/Berlin", utc(2026, 3, 28, 0), 3)
    assert found == ["28.03. 02:30 +0100", "29.03. 03:00 +0200", "30.03. 02:30 +0200"]


def test_all_that_one_jump_leaves_out_fires_once() -> None:
    found = fires("0,20,40 2,3 * * *", "Europe/Berlin", utc(2026, 3, 29, 0), 4)
    assert found == ["29.03. 03:00 +0200", "29.03. 03:20 +0200", "29.03. 03:40 +0200", "30.03. 02:00 +0200"]


def test_a_time_that_occurs_twice_fires_once() -> None:
    found = fires("30 2 * * *", "Europe/Berlin", utc(2026, 10, 24, 12), 2)
    assert found == ["25.10. 02:30 +0200", "26.10. 02:30 +0100"]


def test_between_the_two_occurrences_the_second_one_does_not_fire() -> None:
    assert fires("30 2 * * *", "Europe/Berlin", utc(2026, 10, 25, 0, 45), 1) == ["26.10. 02:30 +0100"]
    assert fires("15 2 * * *", "Europe/Berlin", utc(2026, 10, 25, 1, 5), 1) == ["26.10. 02:15 +0100"]


def test_every_other_hour_fires_once_on_a_long_day() -> None:
    found = fires("30 */2 * * *", "America/New_York", utc(2026, 11, 1, 4), 3)
    assert found == ["01.11. 00:30 -0400", "01.11. 02:30 -0500", "01.11. 04:30 -0500"]


def test_hourly_goes_by_elapsed_time() -> None:
    long = fires("0 * * * *", "Europe/Berlin", utc(2026, 10, 24, 23, 30), 4)
    assert long == ["25.10. 02:00 +0200", "25.10. 02:00 +0100", "25.10. 03:00 +0100", "25.10. 04:00 +0100"]
    short = fires("0 * * * *", "Europe/Berlin", utc(2026, 3, 28, 23, 30), 3)
    assert short == ["29.03. 01:00 +0100", "29.03. 03:00 +0200", "29.03. 04:00 +0200"]


def test_half_hours_of_lord_howe() -> None:
    assert fires("15 2 * * *", "Australia/Lord_Howe", utc(2026, 10, 3, 12), 2) == [
        "04.10. 02:30 +1100",
        "05.10. 02:15 +1100",
    ]
    assert fires("*/30 5 * * *", "Australia/Lord_Howe", utc(2026, 4, 4, 14), 2) == [
        "05.04. 05:00 +1030",
        "05.04. 05:30 +1030",
    ]


def test_a_day_that_never_was() -> None:
    assert fires("0 12 * * *", "Pacific/Apia", utc(2011, 12, 29, 12), 3) == [
        "29.12. 12:00 -1000",
        "31.12. 00:00 +1400",
        "31.12. 12:00 +1400",
    ]


def test_midnight_that_does_not_exist() -> None:
    assert fires("@daily", "America/Havana", utc(2026, 3, 7, 12), 2) == ["08.03. 01:00 -0400", "09.03. 00:00 -0400"]


# ---- against the walk


def texts(first: int, last: int) -> st.SearchStrategy[str]:
    """Fields of numbers, ranges, lists and steps."""
    number = st.integers(first, last)
    # Of one number, such as 1-1/3, cronsim makes 1/3: nobody means either.
    ends = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    span = ends.map(lambda ends: f"{ends[0]}-{ends[1]}")
    stepped = st.tuples(st.one_of(st.just("*"), span), st.integers(1, last)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    listed = st.lists(number.map(str), min_size=1, max_size=4).map(",".join)
    return st.one_of(listed, span, stepped)


ANY = st.just("*")
TIMES = st.tuples(st.one_of(texts(*RANGES[0]), ANY), st.one_of(texts(0, 4), texts(*RANGES[1]), ANY))
DAYS = st.one_of(
    st.just(("*", "*", "*")),
    st.tuples(st.one_of(ANY, texts(1, 28)), st.one_of(ANY, texts(*RANGES[3])), st.one_of(ANY, texts(*RANGES[4]))),
)
EXPRESSIONS = st.tuples(TIMES, DAYS).map(lambda parts: " ".join(parts[0] + parts[1]))


def changes(zone: str, first: int, last: int) -> list[datetime]:
    """When the clocks of a zone were put, or will be."""
    place, moment, found = ZoneInfo(zone), utc(first, 1, 1), []
    while moment < utc(last, 1, 1):
        change = change_between(moment, moment + 5 * DAY, place)
        found += [change] if change else []
        moment += 5 * DAY
    return found


CHANGES = [(zone, change) for zone in ZONES for change in changes(zone, 1980, 2038)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(expression=EXPRESSIONS, place=st.sampled_from(CHANGES), minutes=st.integers(0, 2880))
def test_like_a_walk_through_the_days_on_which_clocks_are_put(
    expression: str, place: tuple[str, datetime], minutes: int
) -> None:
    zone, change = place
    compare(expression, zone, change.replace(second=0) - timedelta(minutes=minutes), days=4)


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(
    expression=EXPRESSIONS,
    zone=st.sampled_from(ZONES),
    first=st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1), timezones=st.just(UTC)),
)
def test_like_a_walk_through_any_weeks(expression: str, zone: str, first: datetime) -> None:
    compare(expression, zone, first, days=9)


@pytest.mark.parametrize("zone", ["Australia/Lord_Howe", "Pacific/Apia"])
def test_like_a_walk_through_a_year(zone: str) -> None:
    compare("7-59/13 1-23/3 */2 * *", zone, utc(2011, 2, 1), days=365)


@pytest.mark.wide
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", ["30 2 * * *", "*/7 * * * *", "15 */3 1,15 * 1", "0 0 29 2 *", "59 23 * 12 0"])
def test_like_a_walk_through_twelve_years(zone: str, expression: str) -> None:
    compare(expression, zone, utc(2008, 1, 1), days=12 * 365)


@settings(max_examples=60, deadline=None)
@given(expression=EXPRESSIONS, place=st.sampled_from(CHANGES), seconds=st.floats(0, 86400))
def test_a_fire_time_is_always_later_and_the_same_from_anywhere_before_it(
    expression: str, place: tuple[str, datetime], seconds: float
) -> None:
    zone, change = ZoneInfo(place[0]), place[1]
    moment = change - timedelta(seconds=seconds)
    found = Cron(expression).next_after(moment, zone)
    assert found is not None
    assert moment < found
    assert Cron(expression).next_after(moment + (found - moment) / 2, zone) == found
    assert Cron(expression).next_after(found - timedelta(microseconds=1), zone) == found


# ---- words


@pytest.mark.parametrize("name", NAMES)
def test_names_are_expressions(name: str) -> None:
    moment = utc(2026, 5, 5, 5, 5)
    assert Cron(name.upper()).next_after(moment, ZoneInfo("UTC")) == Cron(NAMES[name]).next_after(
        moment, ZoneInfo("UTC")
    )


def test_words_and_last_days() -> None:
    assert fires("0 3 * JAN-FEB MON", "UTC", utc(2026, 6, 1), 2) == ["04.01. 03:00 +0000", "11.01. 03:00 +0000"]
    assert fires("0 3 L * *", "UTC", utc(2028, 2, 1), 2) == ["29.02. 03:00 +0000", "31.03. 03:00 +0000"]
    assert fires("0 3 * * 5#2", "UTC", utc(2026, 11, 1), 1) == ["13.11. 03:00 +0000"]


def test_leap_days() -> None:
    found = list(islice(fires("0 0 29 2 *", "UTC", utc(2096, 3, 1), 2), 2))
    assert found == ["29.02. 00:00 +0000", "29.02. 00:00 +0000"]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 0 31 2 *", "no month that it names has a day 31"),
        ("0 0 30 2 *", "no month that it names has a day 30"),
        ("0 0 31 4,6,9,11 *", "no month that it names has a day 31"),
        ("61 * * * *", "bad minute"),
        ("* 24 * * *", "bad hour"),
        ("* * * * 8", "bad day-of-week"),
        ("* * * 13 *", "bad month"),
        ("* * * *", "it has 4 fields, not 5"),
        ("0 * * * * *", "it has 6 fields, not 5"),
        ("", "it has 0 fields"),
        ("@never", "it has 1 fields"),
        ("*/0 * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("a b c d e", "bad minute"),
        ("* " * 200, "more than 200 signs"),
        ("L * * * *", "bad minute"),
        ("٣ * * * *", "bad minute"),
    ],
)
def test_what_can_never_be_is_refused(expression: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match="cron expression") as caught:
        Cron(expression)
    assert said in caught.value.message
    assert caught.value.code == "bad_cron"
    assert caught.value.remedy


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LW @ABC", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidRequest):  # and nothing else
        assert Cron(text).next_after(utc(2026, 1, 1), ZoneInfo("Europe/Berlin")) is not None
