"""The lab's programs can tell when they are no longer themselves: a witness that cannot complain proves nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from migrator.lab.programs import read_program, threads, ticker
from migrator.lab.programs.ticker import PAGE_BYTES, Ticker


@pytest.fixture
def small(tmp_path: Path) -> Ticker:
    return Ticker(64 * PAGE_BYTES, tmp_path / "state.json")


def told(one: Ticker) -> dict[str, object]:
    one.tell()
    state: dict[str, object] = json.loads(one.state.read_text())
    return state


def test_an_unharmed_ticker_checks_all_of_its_memory_and_finds_it_good(small: Ticker) -> None:
    for _ in range(50):
        small.tick()
    state = told(small)
    assert state["memory_ok"] is True
    assert state["counter"] == 50
    assert int(str(state["verified_pages"])) >= 64
    assert int(str(state["sweeps"])) >= 1


@pytest.mark.parametrize("byte", [0, 64 * PAGE_BYTES - 1, 31 * PAGE_BYTES + 1717])
def test_one_flipped_bit_anywhere_is_found(small: Ticker, byte: int) -> None:
    small.memory[byte] ^= 1
    while not small.sweeps:
        small._check(16)
    state = told(small)
    assert state["memory_ok"] is False
    assert state["bad_pages"] == [byte // PAGE_BYTES]


def test_a_page_from_an_earlier_moment_is_found(small: Ticker) -> None:
    before = bytes(small.memory[:PAGE_BYTES])
    small.generations[0] += 1
    small._write(0)
    small.rewritten += 1
    small.memory[:PAGE_BYTES] = before
    small._check(1)
    assert told(small)["memory_ok"] is False


def test_a_gap_is_remembered_and_starts_a_new_sweep(small: Ticker) -> None:
    small.tick()
    small.ticked -= 0.8
    small.ticked_realtime -= 0.8
    small.tick()
    state = told(small)
    assert 0.8 <= float(str(state["max_gap_s"])) < 1.5
    assert [round(gap["gap_s"], 1) for gap in small.gaps] == [0.8]
    while not small.sweeps_since_gap:
        small.tick()
    assert not small.hurried


def test_a_mark_starts_the_measurement_anew(small: Ticker) -> None:
    small.max_gap_s = 5.0
    small.mark(signal.SIGUSR1, None)
    small.tick()
    assert small.max_gap_s < 1.0
    assert told(small)["marks"] == 1


def test_memory_does_not_compress(small: Ticker) -> None:
    import zlib

    assert len(zlib.compress(bytes(small.memory))) > len(small.memory) * 0.99


def test_threads_whose_counters_do_not_add_up_say_so() -> None:
    circle = threads.Circle()
    assert circle.look()["ok"] is True
    circle.total += 1
    assert circle.look()["ok"] is False


@pytest.mark.parametrize("name", ["ticker.py", "counter.sh", "threads.py", "tree.py", "files.py", "ledger.py"])
def test_programs_come_with_the_package_and_start_by_themselves(name: str) -> None:
    assert read_program(name).startswith(b"#!/")


def test_page_size_is_the_kernels() -> None:
    assert ticker.PAGE_BYTES == 4096
