"""Bytes and documents that are almost what they should be: real ones, with some of them changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

EDGES = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\x00" * 8,
    b"\xff\xff\xff\x7f",
    b"\xff" * 9 + b"\x01",
)
"""Values at which lengths and numbers go wrong."""
JSON_EDGES = (None, True, 0, -1, 2**63, 1e308, "", "\ud800", "../..", "/" * 300, [], {}, [[]], {"": {}})


@st.composite
def mutated(draw: st.DrawFn, sample: bytes) -> bytes:
    """A sample with up to six changes: bytes that differ, are missing, doubled or new; an early end."""
    data = bytearray(sample)
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        _change(draw, data, place)
    return bytes(data)


def _change(draw: st.DrawFn, data: bytearray, place: int) -> None:
    length = draw(st.integers(1, 64))
    match draw(st.sampled_from(("bit", "edge", "cut", "remove", "double", "noise", "swap"))):
        case "bit" if data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        case "edge":
            edge = draw(st.sampled_from(EDGES))
            data[place : place + len(edge)] = edge
        case "cut":
            del data[place:]
        case "remove":
            del data[place : place + length]
        case "double":
            data[place:place] = data[place : place + length]
        case "noise":
            data[place:place] = draw(st.binary(max_size=16))
        case "swap":
            other = draw(st.integers(0, max(0, len(data) - 1)))
            data[place : place + length], data[other : other + length] = (
                data[other : other + length],
                data[place : place + length],
            )


@st.composite
def mutated_document(draw: st.DrawFn, sample: bytes) -> bytes:
    """A JSON document with up to three values that are of another kind, or gone."""
    document = json.loads(sample)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            holder[key] = deepcopy(draw(st.sampled_from(JSON_EDGES)))
        elif draw(st.booleans()):
            holder[key] = str(holder[key])
        else:
            del holder[key]
    return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a document that holds a value."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])
