"""A host with six programs is drained to two others and filled again; one that cannot move stays, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from migrator.lab.lab import Lab, Shape
from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running
from tests.workloads.odd import COMMAND

pytestmark = [pytest.mark.real, pytest.mark.wide, pytest.mark.timeout(600)]

COUNTER = WORKLOADS["counter"]
SIX = [f"count-{number}" for number in range(6)]
Factory = Callable[[str, Shape], AbstractContextManager[Lab]]


@pytest.fixture(scope="module")
def trio(lab_factory: Factory, lab_root: Path) -> Iterator[Cluster]:
    """Three hosts, six programs that count on alpha, and one there that CRIU cannot dump."""
    with lab_factory("drain", Shape(hosts=3)) as lab:
        cluster = Cluster(lab, lab_root)
        for name in ("counter", "odd"):
            cluster.import_image(WORKLOADS[name], *cluster.machines)
        alpha = cluster["alpha"]
        for name in SIX:
            alpha.ctr("run", "--detach", "--null-io", "--label", "kind=count", "migrator.local/counter:1", name)
        odd = ("migrator.local/odd:1", "odd", *COMMAND, "io_uring")
        alpha.ctr("run", "--detach", "--null-io", "--privileged", *odd)
        yield cluster


def running(cluster: Cluster, host: str) -> set[str]:
    """The containers that run on a host, as containerd tells."""
    return {name for name, state in cluster[host].tasks().items() if state == "RUNNING"}


def test_a_host_is_drained_and_filled_again(trio: Cluster) -> None:
    before = {name: COUNTER.look(Running(trio["alpha"], name)) for name in SIX}

    plan = trio.cli("drain", "alpha", "--dry-run", timeout_s=240)
    assert plan.code == 1, "one would stay"
    planned = {row["container"]: row["target"] for row in plan.data["drain"]["containers"] if row["status"] == "placed"}
    assert planned.keys() == {*SIX}
    assert sorted(planned.values()) == ["beta"] * 3 + ["gamma"] * 3
    assert running(trio, "alpha") == {*SIX, "odd"}, "a plan moves nothing"
    assert trio.done("hosts", "list")[0]["cordon"] is None

    drained = trio.cli("drain", "alpha", "--yes", "--wait", timeout_s=240)
    assert (drained.code, drained.data["failure"]["code"]) == (5, "drain_incomplete"), drained.said
    assert running(trio, "alpha") == {"odd"}
    (stays,) = [row for row in drained.data["drain"]["containers"] if row["status"] != "moved"]
    assert (stays["container"], stays["status"], stays["reason"]["code"]) == ("odd", "refused", "io_uring")
    assert "io_uring" in drained.data["failure"]["message"]
    targets = {row["container"]: row["target"] for row in drained.data["drain"]["containers"] if row["target"]}
    for host in ("beta", "gamma"):
        mine = {name for name, target in targets.items() if target == host}
        assert running(trio, host) == mine
        assert len(mine) == 3
    for name, target in targets.items():
        before[name] = COUNTER.check(before[name], Running(trio[target], name))
    error = trio.failure("migrate", f"{targets[SIX[0]]}/{SIX[0]}", "alpha")
    assert error["code"] == "host_cordoned"

    returned = trio.done("drain", "alpha", "--return", "--yes", "--wait", timeout_s=240)
    assert {row["status"] for row in returned["drain"]["containers"]} == {"moved"}
    assert running(trio, "alpha") == {*SIX, "odd"}
    assert not running(trio, "beta") | running(trio, "gamma")
    for name in SIX:
        COUNTER.check(before[name], Running(trio["alpha"], name))
    assert trio.done("hosts", "list")[0]["cordon"] is None


def test_what_makes_no_sense_changes_nothing(trio: Cluster) -> None:
    for words, code in (
        (("alpha", "-l", "kind=none"), "nothing_selected"),
        (("nowhere",), "host_not_found"),
        (("alpha", "--to", "nowhere"), "host_not_found"),
        (("alpha", "-l", "kind=(("), "bad_selector"),
        (("beta", "--return"), "nothing_to_return"),
    ):
        answer = trio.cli("drain", *words, "--yes", "--wait", timeout_s=120)
        assert answer.code != 0
        assert answer.error["code"] == code, answer.said
    assert [host["cordon"] for host in trio.done("hosts", "list")] == [None] * 3
