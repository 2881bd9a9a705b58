"""Label selectors."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import InvalidRequest
from migrator.service.selectors import parse_selector

WEB = {"app": "web", "io.kubernetes/tier": "front", "empty": ""}


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "app=web", "app==web", "app = web", "app!=db", "app", "!db", "db!=x", "empty=", "io.kubernetes/tier=front",
        "app in (web, db)", "app notin (db)", "db notin (x)", "app=web,!db", "app in (web,db),io.kubernetes/tier", "empty in ()",
    ],
)  # fmt: skip
def test_matches(text: str) -> None:
    assert parse_selector(text).matches(WEB)


@pytest.mark.parametrize(
    "text", ["app=db", "app!=web", "db", "!app", "app in (db)", "app notin (web,db)", "app=web,db", "app=", "db in ()"]
)
def test_does_not_match(text: str) -> None:
    assert not parse_selector(text).matches(WEB)


@pytest.mark.parametrize(
    "text", ["=", "a b", "a=b=c", "a,", ",a", "a in web", "a in (", "(a)", "a;b", "-a", "a in (b", "!a=b", "x" * 3000]
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_selector(text)
    assert caught.value.code == "bad_selector"


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet="ab=!(), in\n", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(InvalidRequest):
        parse_selector(text).matches(WEB)
