"""The decision protocol, every state of it; and a model without one of its protections is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.simulator.protocol import Protections, search, told

ALL = Protections()


def test_no_order_of_events_breaks_the_protocol() -> None:
    verdict = search(ALL, crashes=3, tricks=2)
    print(*told(verdict), sep="\n")
    assert verdict.broken is None
    assert verdict.states > 1000


@pytest.mark.parametrize(
    "missing", ["fence", "epoch_at_turn", "epoch_at_look", "compare", "promise", "guard", "look_first"]
)
def test_a_missing_protection_is_noticed(missing: str) -> None:
    verdict = search(replace(ALL, **{missing: False}), crashes=3, tricks=2)
    print(missing, *told(verdict), sep="\n  ")
    assert verdict.broken
