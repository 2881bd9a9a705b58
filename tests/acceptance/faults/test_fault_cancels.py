"""A cancel in every phase: accepted, the program stays where it was; refused, it moves."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.scene import Scene

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BEFORE = ("inspect-source", "prepare", "freeze", "dump", "upload", "fetch", "promise")
AFTER = ("restore", "remove", "release-target")


@pytest.mark.parametrize("step", BEFORE)
def test_a_cancel_before_the_commit(scene: Scene, step: str) -> None:
    scene.begin()
    scene.wait_step(step)
    accepted = scene.cancel()
    assert accepted or step == "promise"  # which is over in some milliseconds
    scene.judge(("cancelled",) if accepted else ("succeeded",))


@pytest.mark.parametrize("step", AFTER)
def test_a_cancel_after_the_commit_is_refused(scene: Scene, step: str) -> None:
    scene.begin()
    scene.wait_step(step)
    assert not scene.cancel()
    scene.judge(("succeeded",))
