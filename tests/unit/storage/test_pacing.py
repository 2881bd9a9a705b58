"""A store that is used no faster than allowed: on the average, fairly, and until nobody wants it any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from migrator.errors import Cancelled
from migrator.storage.memory import MemoryStore
from migrator.storage.pacing import Limits, Pace, PacedStore

MIB = 1 << 20


def nothing() -> None:
    """Nobody has cancelled."""


def took_s(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def test_what_goes_is_as_much_as_may_go() -> None:
    pace = Pace(20 * MIB)

    def ten_and_one() -> None:
        for _ in range(11):
            pace.take("a", MIB, nothing)

    assert 0.35 < took_s(ten_and_one) < 2


def test_a_large_request_goes_whole_and_the_next_one_waits_for_it() -> None:
    pace = Pace(10 * MIB)
    assert took_s(lambda: pace.take("a", 6 * MIB, nothing)) < 0.2
    assert took_s(lambda: pace.take("a", 1, nothing)) > 0.3


def test_jobs_take_turns_however_many_requests_each_of_them_makes() -> None:
    pace, done = Pace(8 * MIB), list[str]()
    pace.take("before", 2 * MIB, nothing)

    def work(job: str) -> None:
        pace.take(job, MIB // 2, nothing)
        done.append(job)

    threads = [threading.Thread(target=work, args=(job,)) for job in [*["greedy"] * 8, *["modest"] * 2]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert "modest" in done[:3]
    assert done[:5].count("modest") == 2


def test_who_is_not_wanted_any_more_stops_waiting_and_stands_in_nobodys_way() -> None:
    pace = Pace(MIB)
    pace.take("a", 2 * MIB, nothing)

    def cancelled() -> None:
        raise Cancelled("turned back")

    with pytest.raises(Cancelled):
        pace.take("a", MIB, cancelled)
    pace = Pace(MIB, now_s=iter(range(100)).__next__)
    assert took_s(lambda: pace.take("b", 1, nothing)) < 1


@pytest.mark.parametrize("way", ["put", "put_hashed", "upload", "get_range", "download"])
def test_all_content_is_counted(way: str) -> None:
    sent, fetched = Pace(1 << 40), Pace(1 << 40)
    store = PacedStore(MemoryStore(), Limits("job", [sent], [fetched], nothing))
    data = bytes(3 * MIB)
    store.session("ck-1")
    sent_before, fetched_before = sent._next_turns.get("job", 0.0), fetched._next_turns.get("job", 0.0)
    if way == "put":
        store.put("a", data)
    elif way == "put_hashed":
        store.put_hashed("a", data, "")
    else:
        store.upload("a", [data], size_bytes=len(data), digest=None)
        if way == "get_range":
            assert store.get_range("a", 0, len(data)) == data
        if way == "download":
            assert b"".join(store.download("a", size_bytes=len(data))) == data
    assert sent._next_turns["job"] - sent_before == len(data)
    assert fetched._next_turns.get("job", 0.0) - fetched_before == (
        len(data) if way in ("get_range", "download") else 0
    )
