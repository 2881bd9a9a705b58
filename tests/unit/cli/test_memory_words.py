"""Options that say when a program gets its memory, and how long it may stand still."""

from __future__ import annotations

import pytest

from migrator.cli.arguments import mode_word, path_word, seconds_of
from migrator.errors import InvalidRequest


@pytest.mark.parametrize(
    ("mode", "eager", "lazy", "word"),
    [("auto", False, False, "auto"), ("auto", True, False, "eager"), ("auto", False, True, "lazy"),
     ("lazy", False, True, "lazy"), ("eager", False, False, "eager")],
)  # fmt: skip
def test_a_mode_is_said_in_either_way(mode: str, eager: bool, lazy: bool, word: str) -> None:
    assert mode_word(mode, eager=eager, lazy=lazy) == word


@pytest.mark.parametrize(
    ("mode", "eager", "lazy"), [("auto", True, True), ("eager", False, True), ("soon", False, False)]
)
def test_two_modes_at_once_and_unknown_ones_are_refused(mode: str, eager: bool, lazy: bool) -> None:
    with pytest.raises(InvalidRequest) as caught:
        mode_word(mode, eager=eager, lazy=lazy)
    assert caught.value.code == "bad_mode"


@pytest.mark.parametrize(("word", "seconds"), [(None, 0.0), ("500ms", 0.5), ("2s", 2.0), ("1.5s", 1.5)])
def test_a_time_has_its_unit(word: str | None, seconds: float) -> None:
    assert seconds_of(word) == seconds


@pytest.mark.parametrize("word", ["", "500", "0ms", "-1s", "2 s", "2m"])
def test_what_is_no_time_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        seconds_of(word)
    assert caught.value.code == "bad_max_downtime"


def test_a_path_is_one_of_two() -> None:
    assert path_word("content") == "content"
    with pytest.raises(InvalidRequest):
        path_word("tape")
