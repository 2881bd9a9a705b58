"""Whatever breaks in the middle of a move: one copy runs, its memory is whole, the job ends, nothing is left over."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.cases import CONTROL_PLANE, DISKS, RUNTIME, WIRES, WORKERS
from tests.acceptance.faults.scene import Fault, Scene

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def marked(cases: tuple[Fault, ...]) -> list[pytest.ParameterSet]:
    return [pytest.param(case, marks=[pytest.mark.wide] if case.wide else [], id=case.name) for case in cases]


@pytest.mark.parametrize("fault", marked(WORKERS))
def test_a_worker_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", marked(CONTROL_PLANE))
def test_the_control_plane_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", marked(WIRES))
def test_a_wire_is_cut(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", marked(RUNTIME))
def test_the_runtime_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", marked(DISKS))
def test_no_room_is_left(scene: Scene, fault: Fault) -> None:
    scene.play(fault)
