"""What comes from the object store was perhaps changed by somebody: parsers say so, and do nothing else.

For each parser: only our own error of the right kind comes out, with a code; memory and time are bounded; no file
appears outside of the place that was meant. `make fuzz` tries for longer.
"""

from __future__ import annotations

import os
import shutil
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from migrator.errors import MigratorError
from tests.fuzz.targets import TARGETS, VOLUME, Target

TRIES = int(os.environ.get("FUZZ_TRIES", "15"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "inf"))
"""For each parser; then the rest is let go."""
ALWAYS_THE_SAME = "FUZZ_TRIES" not in os.environ
"""In `make test`: what is found by chance belongs to `make fuzz`, not to whoever tests something else."""
AT_ONCE = 200
"""Tries between two looks at the clock."""
MEMORY_LIMIT_BYTES = 96 << 20
PROCESSOR_LIMIT_S = 5.0


def attempt(target: Target, data: bytes, place: Path) -> None:
    """Let a parser read something, and hold it to the rules."""
    place.mkdir()
    tracemalloc.start()
    began = time.thread_time()
    refusal = refusal_of(target, data, place)
    took_s = time.thread_time() - began
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if refusal is not None:
        assert isinstance(refusal, target.kinds), f"{refusal!r} is not of the right kind"
        assert refusal.code != type(refusal).default_code, f"{refusal!r} has no code of its own"
    assert peak_bytes < MEMORY_LIMIT_BYTES, "memory"
    assert took_s < PROCESSOR_LIMIT_S, "time"
    assert {path.name for path in place.parent.iterdir()} == {place.name}, "written outside"
    assert {path.name for path in place.iterdir()} <= {"inside"}, "written beside"
    shutil.rmtree(place)


def refusal_of(target: Target, data: bytes, place: Path) -> MigratorError | None:
    """What a parser says of something; None if it takes it."""
    try:
        target.read(data, place)
    except MigratorError as error:
        return error
    return None


def hold(target: Target, place: Path, tries: int) -> None:
    """Try a parser with changed samples, some at a time until the time is over."""
    end = time.monotonic() + SECONDS
    while tries > 0 and time.monotonic() < end:
        hold_some(target, place, min(tries, AT_ONCE))
        tries -= AT_ONCE


def hold_some(target: Target, place: Path, tries: int) -> None:
    """Try a parser with some changed samples."""

    @settings(
        max_examples=tries,
        deadline=None,
        database=None,
        derandomize=ALWAYS_THE_SAME,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.data)
    def check(data: bytes) -> None:
        shutil.rmtree(place / "here", ignore_errors=True)  # of a try that failed, before it is made smaller
        attempt(target, data, place / "here")

    check()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_parser_of_what_is_in_the_store(target: Target, tmp_path: Path) -> None:
    hold(target, tmp_path, TRIES)


def test_a_volume_comes_out_nowhere_else(tmp_path: Path) -> None:
    """GNU tar does the work, and is started for every try."""
    hold(VOLUME, tmp_path, max(3, TRIES // 25))
