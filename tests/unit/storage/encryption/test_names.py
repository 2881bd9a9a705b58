"""Hidden names: reversible, stable, plain for every store, and nobody else's."""

from __future__ import annotations

import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.storage.encryption.names import NameCipher
from migrator.storage.layout import check_key

CIPHER, OTHER = NameCipher(bytes(range(64))), NameCipher(bytes(range(1, 65)))
segments = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", fullmatch=True)
keys = st.lists(segments, min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=50)
@given(keys)
def test_a_key_is_hidden_and_read_again(key: str) -> None:
    hidden = CIPHER.hide(key)
    assert CIPHER.read(hidden) == key
    assert CIPHER.hide(key) == hidden
    assert check_key(hidden) == hidden
    assert all(len(piece) <= 200 for piece in hidden.split("/"))
    assert OTHER.read(hidden) is None


@settings(deadline=None, max_examples=50)
@given(keys, segments)
def test_what_is_below_a_directory_is_below_it_hidden(key: str, name: str) -> None:
    assert CIPHER.hide(f"{key}/{name}").startswith(CIPHER.hide(key) + "/")


def test_equal_names_in_two_places_do_not_look_alike() -> None:
    one, two = (CIPHER.hide(f"checkpoints/{workload}/index.json").rpartition("/")[2] for workload in ("a", "b"))
    assert one != two


@pytest.mark.parametrize("junk", ["", "a", "abc/def", "A2/b", "-", "a-", "a-/", "a//b", "blobs/sha256/00", "a/-/b"])
def test_names_that_are_no_hidden_ones(junk: str) -> None:
    assert CIPHER.read(junk) is None


def test_moved_segments_are_not_read() -> None:
    first, second = CIPHER.hide("one/name"), CIPHER.hide("two/name")
    assert CIPHER.read(f"{first.partition('/')[0]}/{second.rpartition('/')[2]}") is None


def test_a_name_tells_nothing_of_its_length_beyond_its_length() -> None:
    assert len(CIPHER.hide(secrets.token_hex(32))) == len(CIPHER.hide("0" * 64))
