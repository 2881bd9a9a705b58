"""Whatever breaks in the middle of a move: one copy runs, its memory is whole, the job ends, nothing is left over."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.cases import CONTROL_PLANE, DISKS, RUNTIME, WIRES, WORKERS
from tests.acceptance.faults.scene import Fault, Scene

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]


def often(cases: tuple[Fault, ...]) -> list[Fault]:
    return [case for case in cases if not case.rare]


@pytest.mark.parametrize("fault", often(WORKERS), ids=str)
def test_a_worker_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", often(CONTROL_PLANE), ids=str)
def test_the_control_plane_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", often(WIRES), ids=str)
def test_a_wire_is_cut(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", often(RUNTIME), ids=str)
def test_the_runtime_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


@pytest.mark.parametrize("fault", often(DISKS), ids=str)
def test_no_room_is_left(scene: Scene, fault: Fault) -> None:
    scene.play(fault)
