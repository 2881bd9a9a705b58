"""A lock of CRIU is left over only on a task that runs, while no CRIU lives and no job has the task in its hands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from migrator.criu.network_lock import NetworkLock
from migrator.errors import ResourceBusy
from migrator.models.housekeeping import FindingKind
from migrator.service.guards import GuardState
from migrator.service.housekeeping import firewall
from migrator.service.housekeeping.firewall import find_network_locks
from migrator.service.housekeeping.leftovers import Need
from tests.unit.service.test_housekeeping import JOB, Bench

TASK_NETWORK = Path(f"/proc/{os.getpid()}/ns/net")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.runtime.add("web", state="running")
    return bench


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[NetworkLock]:
    """Every task has a network of its own, with a lock on it; the host's own has none. No CRIU lives."""
    removed: list[NetworkLock] = []
    monkeypatch.setattr(firewall, "criu_works", lambda _: False)
    monkeypatch.setattr(firewall, "_inode", lambda path: 1 if path == firewall.OWN else 2)
    monkeypatch.setattr(
        firewall, "find_lock", lambda path: None if path == firewall.OWN else NetworkLock(path, tables=("CRIU-1",))
    )
    monkeypatch.setattr(firewall, "remove_lock", removed.append)
    return removed


def test_a_lock_on_a_running_task_is_removed(bench: Bench, removed: list[NetworkLock]) -> None:
    (left,) = find_network_locks(bench.host)
    assert (left.kind, left.need, left.name) == (FindingKind.FIREWALL, Need.NOTHING, "web: nft table inet CRIU-1")
    left.remove()
    assert [lock.namespace for lock in removed] == [TASK_NETWORK]


def test_while_a_criu_lives_nothing_is_left_over(
    bench: Bench, removed: list[NetworkLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    (left,) = find_network_locks(bench.host)
    monkeypatch.setattr(firewall, "criu_works", lambda _: True)
    assert list(find_network_locks(bench.host)) == []
    with pytest.raises(ResourceBusy):
        left.remove()
    assert removed == []


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_task_that_does_not_run_keeps_its_lock(bench: Bench, removed: list[NetworkLock], state: str) -> None:
    (left,) = find_network_locks(bench.host)
    bench.runtime.states["web"] = state
    assert list(find_network_locks(bench.host)) == []
    with pytest.raises(ResourceBusy):
        left.remove()
    assert removed == []


def test_a_task_that_a_job_is_about_to_freeze_keeps_its_lock(bench: Bench, removed: list[NetworkLock]) -> None:
    (left,) = find_network_locks(bench.host)
    bench.record(JOB, "web", GuardState.ARMED)
    assert list(find_network_locks(bench.host)) == []
    with pytest.raises(ResourceBusy):
        left.remove()
    assert removed == []


def test_the_hosts_own_network_is_only_told(
    bench: Bench, removed: list[NetworkLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firewall, "_inode", lambda _: 1)
    monkeypatch.setattr(firewall, "find_lock", lambda path: NetworkLock(path, tables=("CRIU-1",)))
    (left,) = find_network_locks(bench.host)
    assert left.need is Need.NEVER


def test_tasks_that_share_a_network_are_looked_at_once(bench: Bench, removed: list[NetworkLock]) -> None:
    bench.runtime.add("sidecar", state="running")
    assert len(list(find_network_locks(bench.host))) == 1
