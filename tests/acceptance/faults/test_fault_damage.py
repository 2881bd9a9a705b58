"""The object store does not hold what was put into it."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.cases import BACK
from tests.acceptance.faults.scene import Scene
from tests.acceptance.faults.strikes import at_once, damaged

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

PARTS = (
    ("memory", "changed"),
    pytest.param("memory", "cut", marks=pytest.mark.wide),
    ("memory", "gone"),
    pytest.param("rw-diff", "changed", marks=pytest.mark.wide),
    ("container", "cut"),
    ("index", "changed"),
    pytest.param("index", "cut", marks=pytest.mark.wide),
    pytest.param("index", "gone", marks=pytest.mark.wide),
)


@pytest.mark.parametrize(("part", "how"), PARTS)
def test_the_checkpoint_is_damaged_in_the_store(scene: Scene, part: str, how: str) -> None:
    scene.begin()
    scene.strike(damaged(part, how), at_once)
    failure = scene.judge(BACK).failure
    assert failure.kind in ("IntegrityError", "NotFound"), failure
    assert failure.remedy, failure
