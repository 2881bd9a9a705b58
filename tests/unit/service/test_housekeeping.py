"""What lies about is judged by what the controller said of that very thing, and removed only then."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import Container, Lease, ProcessState, Resource, SnapshotInfo, SnapshotKind
from migrator.containerd.content import IngestStatus
from migrator.containerd.introspection import Plugin
from migrator.errors import NotFound, Unavailable
from migrator.gen.containerd.types.task import task_pb2
from migrator.models.housekeeping import Clearance, Examination, Fate, Finding, FindingKind, Question
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy
from migrator.service.fence import Fence
from migrator.service.guards import GuardFile, GuardRecord, Guards, GuardState
from migrator.service.host import Host
from migrator.service.housekeeping import firewall, frozen
from migrator.service.housekeeping.housekeeper import Housekeeper
from migrator.service.housekeeping.leftovers import Leftover, Need
from migrator.service.volumes.places import Places
from migrator.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
JOB = "mig-2222222222"
OTHER = "chk-3333333333"
LABEL = {"io.migrator.job": JOB}
DEAD_PID = 2**22 - 1
STATES = {"running": ProcessState.RUNNING, "paused": ProcessState.PAUSED, "stopped": ProcessState.STOPPED}
WIRE = {"running": task_pb2.RUNNING, "paused": task_pb2.PAUSED, "stopped": task_pb2.STOPPED}
NOTHING = Clearance()
FAILED = Clearance(over={JOB: "failed"})
SUCCEEDED = Clearance(over={JOB: "succeeded"})


@dataclass
class Runtime:
    """What containerd has, in one namespace."""

    namespace: str = "default"
    leased: dict[str, tuple[str, ...]] = field(default_factory=dict)
    records: dict[str, Container] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    snapshot_labels: dict[str, dict[str, str]] = field(default_factory=dict)
    refs: dict[str, datetime] = field(default_factory=dict)
    made_at: datetime = NOW - timedelta(hours=1)

    def __post_init__(self) -> None:
        self.leases = SimpleNamespace(
            list=lambda: [Lease(name, {}, self.made_at) for name in self.leased],
            list_resources=lambda name: tuple(Resource(item, "any") for item in self.leased[name]),
            delete=lambda name, sync: self.leased.pop(name),
        )
        self.containers = SimpleNamespace(list=self._containers, get=self._container, delete=self.records.pop)
        self.content = SimpleNamespace(
            ingests=lambda: [IngestStatus(ref, 1, 0, "", at, at) for ref, at in self.refs.items()],
            abort=lambda ref: self.refs.pop(ref),
        )
        self.introspection = SimpleNamespace(
            plugins=lambda _: [Plugin("s", "overlayfs"), Plugin("s", "zfs", problem="no")]
        )
        self.namespaces = SimpleNamespace(list=lambda: [SimpleNamespace(name=self.namespace)])

    def with_namespace(self, _: str) -> Runtime:
        return self

    def snapshots(self, snapshotter: str) -> Any:
        assert snapshotter == "overlayfs"
        return SimpleNamespace(
            list=lambda *filters: [
                self._snapshot(key) for key, labels in self.snapshot_labels.items() if labels or not filters
            ],
            stat=self._snapshot,
            remove=lambda key: self.snapshot_labels.pop(key),
        )

    def tasks(self) -> list[Any]:
        return [SimpleNamespace(id=name, status=WIRE[state], pid=os.getpid()) for name, state in self.states.items()]

    def task(self, name: str) -> Any:
        if name not in self.states:
            raise NotFound("no task", code="task_not_found")
        return SimpleNamespace(
            pid=0,
            status=lambda **_: SimpleNamespace(state=STATES[self.states[name]]),
            delete=lambda: self.states.pop(name),
            resume=lambda **_: self.states.update({name: "running"}),
        )

    def add(self, name: str, labels: dict[str, str] | None = None, state: str | None = None) -> None:
        container = Container(id=name, image="i", snapshotter="overlayfs", snapshot_key=name, labels=labels or {})
        self.records[name] = replace(container, created_at=self.made_at)
        self.snapshot_labels.setdefault(name, labels or {})
        if state:
            self.states[name] = state

    def _containers(self, *filters: str) -> list[Container]:
        return [container for container in self.records.values() if container.labels or not filters]

    def _container(self, name: str) -> Container:
        if name not in self.records:
            raise NotFound("no container", code="container_not_found")
        return self.records[name]

    def _snapshot(self, key: str) -> SnapshotInfo:
        return SnapshotInfo(key, "", SnapshotKind.ACTIVE, self.snapshot_labels[key], self.made_at)


class Bench:
    """A housekeeper over a host whose containerd is `runtime`, and what it asked and told."""

    def __init__(self, directory: Path):
        self.runtime = Runtime()
        self.settings = Settings(run_dir=directory / "run", state_dir=directory / "state")
        self.guards = Guards(directory / "run" / "guards", Path("/run/x"), budget_s=30, patience_s=3)
        self.fence = Fence(directory / "state" / "epochs")
        host = SimpleNamespace(
            name="alpha",
            settings=self.settings,
            containerd=self.runtime,
            guards=self.guards,
            fence=self.fence,
            runtime=lambda _: self.runtime,
        )
        self.host = cast(Host, host)
        self.questions: list[Question] = []
        self.told: list[Examination] = []
        self.keeper = Housekeeper(self.host, self, tuple, now=lambda: NOW)

    def ask_clearance(self, host: str, token: str, question: Question, *, sweep: bool) -> None:
        self.questions.append(question)

    def show_examination(self, host: str, token: str, examination: Examination) -> None:
        self.told.append(examination)

    def question(self) -> Question:
        self.keeper.ask()
        return self.questions[-1]

    def find(self, clearance: Clearance = NOTHING, *, sweep: bool = False) -> list[Finding]:
        self.keeper.conclude("exam-1", clearance, sweep=sweep)
        return list(self.told[-1].findings)

    def fates(self, clearance: Clearance = NOTHING, *, sweep: bool = False) -> list[tuple[str, str, str]]:
        return [(item.kind.value, item.name, item.fate.value) for item in self.find(clearance, sweep=sweep)]

    def record(
        self, job: str, container: str, state: GuardState, guard_pid: int = DEAD_PID, network: Any = None
    ) -> None:
        record = GuardRecord(job, "default", container, "/run/x", DEAD_PID, 1, 30, 3, state, guard_pid, network)
        file = GuardFile(self.settings.run_dir / "guards" / f"{job}.json")
        with file.locked():
            file.write(record)

    def guard_files(self) -> list[str]:
        return sorted(path.name for path in (self.settings.run_dir / "guards").glob("*"))


@pytest.fixture(autouse=True)
def no_firewall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "criu_works", lambda _: True)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


# ---- what a job left


def plant_lease(bench: Bench) -> None:
    bench.runtime.leased[f"migrator-{JOB}"] = ()


def plant_snapshot(bench: Bench) -> None:
    bench.runtime.snapshot_labels["web"] = dict(LABEL)


def plant_container(bench: Bench) -> None:
    bench.runtime.add("web", dict(LABEL), "stopped")


def plant_ingest(bench: Bench) -> None:
    bench.runtime.refs[f"migrator-{JOB}-sha256:00"] = NOW


def plant_directory(bench: Bench) -> None:
    (bench.settings.run_dir / "criu" / JOB / "images").mkdir(parents=True)


def plant_disk(bench: Bench) -> None:
    (bench.settings.state_dir / "criu" / JOB / "images").mkdir(parents=True)


def plant_guard(bench: Bench) -> None:
    bench.record(JOB, "web", GuardState.RELEASED)


def plant_volume(bench: Bench) -> None:
    places = Places(bench.settings.state_dir / "volumes", JOB)
    place = bench.settings.run_dir / "srv/data"
    places.make(Volume("/data", str(place), VolumePolicy.EMPTY, VolumeKind.DIRECTORY), "default/web", lambda _: None)


def plant_room(bench: Bench) -> None:
    marker = bench.settings.state_dir / "network" / f"{JOB}.json"
    marker.parent.mkdir(parents=True)
    marker.write_text(json.dumps(NETWORK))


NETWORK = {
    "plugin": "cni",
    "network": "unheard-of",
    "container_id": "default-web",
    "interface": "eth0",
    "mac": "02:00:00:00:00:05",
    "addresses": ["10.0.0.5/24"],
}
PLANTS = [
    plant_lease,
    plant_snapshot,
    plant_container,
    plant_ingest,
    plant_directory,
    plant_disk,
    plant_guard,
    plant_volume,
    plant_room,
]


def test_volumes_go_by_a_sweep_and_stay_after_a_success(bench: Bench) -> None:
    plant_volume(bench)
    data = bench.settings.run_dir / "srv/data"
    bench.find(SUCCEEDED, sweep=True)
    assert data.is_dir()
    bench.find(FAILED, sweep=True)
    assert not data.parent.exists()


@pytest.mark.parametrize("plant", PLANTS)
def test_it_goes_when_its_job_is_over(bench: Bench, plant: Any) -> None:
    plant(bench)
    assert bench.question().jobs == (JOB,)
    (found,) = bench.find(FAILED)
    assert (found.fate, found.job_id) == (Fate.DUE, JOB)
    assert bench.find(FAILED) == [found], "looking removes nothing"
    assert [item.fate for item in bench.find(FAILED, sweep=True)] == [Fate.REMOVED]
    assert bench.find(FAILED) == []


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize(
    "clearance",
    [Clearance(), Clearance(under_way=(JOB,)), Clearance(over={OTHER: "failed"}), Clearance(gone=(JOB,), owned=(JOB,))],
    ids=["nothing said", "under way", "another is over", "other words"],
)
def test_it_stays_without_the_word_about_this_very_job(bench: Bench, plant: Any, clearance: Clearance) -> None:
    plant(bench)
    for _ in range(2):
        assert [item.fate for item in bench.find(clearance, sweep=True)] == [Fate.KEPT]


@pytest.mark.parametrize("plant", [plant_snapshot, plant_container])
def test_after_a_success_it_belongs_to_the_user(bench: Bench, plant: Any) -> None:
    plant(bench)
    assert [item.fate for item in bench.find(SUCCEEDED, sweep=True)] == [Fate.FOREIGN]
    assert "web" in bench.runtime.snapshot_labels


@pytest.mark.parametrize("plant", [plant_snapshot, plant_container])
def test_a_workload_of_this_host_is_not_removed(bench: Bench, plant: Any) -> None:
    plant(bench)
    assert bench.question().containers == ("default/web",)
    assert [item.fate for item in bench.find(replace(FAILED, owned=("default/web",)), sweep=True)] == [Fate.KEPT]


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_container_whose_task_lives_is_not_touched_but_told(bench: Bench, state: str) -> None:
    bench.runtime.add("web", dict(LABEL), state)
    assert ("container", "web", "failed") in bench.fates(FAILED, sweep=True), "two copies may run"
    assert ("container", "web", "kept") in bench.fates(Clearance(under_way=(JOB,)), sweep=True)
    assert ("container", "web", "foreign") in bench.fates(SUCCEEDED, sweep=True)
    assert bench.runtime.states == {"web": state}
    assert "web" in bench.runtime.records


def test_a_container_that_came_to_life_since_it_was_judged_stays(bench: Bench) -> None:
    plant_container(bench)
    (left,) = [item for item in bench.keeper._look(bench.host) if item.kind is FindingKind.CONTAINER]
    bench.runtime.states["web"] = "running"
    left.remove()
    assert bench.runtime.records


def test_a_container_that_was_made_anew_since_it_was_judged_stays(bench: Bench) -> None:
    plant_container(bench)
    (left,) = [item for item in bench.keeper._look(bench.host) if item.kind is FindingKind.CONTAINER]
    bench.runtime.records["web"] = replace(bench.runtime.records["web"], created_at=NOW)
    left.remove()
    assert bench.runtime.records


def test_a_snapshot_that_a_container_took_since_it_was_judged_stays(bench: Bench) -> None:
    plant_snapshot(bench)
    (left,) = list(bench.keeper._look(bench.host))
    bench.runtime.add("web")
    left.remove()
    assert bench.runtime.snapshot_labels


def test_what_is_not_ours_is_not_seen(bench: Bench) -> None:
    bench.runtime.leased |= {"user": (), "migrator-0123456789abcdef": (), f"x-{JOB}": ()}
    bench.runtime.add("mine", state="running")
    bench.runtime.refs["layer-sha256:00"] = NOW - timedelta(days=3)
    (bench.settings.run_dir / "criu" / "somebody").mkdir(parents=True)
    assert bench.question() == Question()
    assert bench.find(FAILED, sweep=True) == []


# ---- what has no job


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("age_s", [599, 601])
def test_views_and_ingests_go_by_age_and_only_unleased(bench: Bench, age_s: int, held: bool) -> None:
    bench.runtime.made_at = NOW - timedelta(seconds=age_s)
    bench.runtime.snapshot_labels["migrator-view-1"] = {}
    bench.runtime.refs["migrator-rw-web-1"] = bench.runtime.made_at
    if held:
        bench.runtime.leased["user"] = ("migrator-view-1", "migrator-rw-web-1")
    wanted = Fate.REMOVED if age_s > 600 and not held else Fate.KEPT
    assert [item.fate for item in bench.find(sweep=True)] == [wanted, wanted]


def test_an_epoch_goes_with_its_workload(bench: Bench) -> None:
    for workload, epoch in (("web-1", 3), ("web-2", 4)):
        bench.fence.admit(workload, epoch)
        at = (NOW - timedelta(seconds=61)).timestamp()
        os.utime(bench.settings.state_dir / "epochs" / workload, (at, at))
    assert bench.question().workloads == ("web-1", "web-2")
    assert bench.fates(Clearance(gone=("web-1",)), sweep=True) == [("epoch", "web-1", "removed")]
    assert (bench.fence.highest("web-1"), bench.fence.highest("web-2")) == (0, 4)


def test_an_epoch_stays_while_it_may_still_refuse_a_late_command(bench: Bench) -> None:
    """A restore that was taken back has no workload; what it had on its way is refused by the epoch alone."""
    bench.fence.admit("web-1", 3)
    at = (NOW - timedelta(seconds=59)).timestamp()
    os.utime(bench.settings.state_dir / "epochs" / "web-1", (at, at))
    assert bench.find(Clearance(gone=("web-1",)), sweep=True) == [], "kept epochs go without saying"
    assert bench.fence.highest("web-1") == 3


# ---- frozen tasks


OURS = Clearance(over={JOB: "failed"}, owned=("default/web",))


@pytest.mark.parametrize("state", [GuardState.ARMED, GuardState.PROMISED])
def test_a_task_that_we_froze_runs_again(bench: Bench, state: GuardState) -> None:
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", state)
    assert bench.question() == Question(jobs=(JOB,), containers=("default/web",))
    assert bench.fates(OURS, sweep=True) == [("frozen", "web", "removed")]
    assert bench.runtime.states["web"] == "running"
    assert bench.guard_files() == []


def test_a_task_that_we_cut_off_is_joined_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[Any] = []
    monkeypatch.setattr(frozen, "rejoin", lambda network, pid: joined.append((network, bench.runtime.states["web"])))
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", GuardState.ARMED, network=NETWORK)
    assert bench.fates(OURS, sweep=True) == [("frozen", "web", "removed")]
    assert joined == [(NETWORK, "running")]


@pytest.mark.parametrize(
    ("clearance", "fate"),
    [
        (Clearance(), "kept"),
        (Clearance(under_way=(JOB,), owned=("default/web",)), "kept"),
        (replace(OURS, held=("default/web",)), "kept"),
        (FAILED, "failed"),
        (replace(SUCCEEDED, owned=()), "failed"),
    ],
    ids=["nothing said", "under way", "held by another job", "owned elsewhere", "given away"],
)
def test_a_frozen_task_stays_frozen(bench: Bench, clearance: Clearance, fate: str) -> None:
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", GuardState.PROMISED)
    assert bench.fates(clearance, sweep=True) == [("frozen", "web", fate)]
    assert bench.runtime.states["web"] == "paused"
    assert bench.guard_files() == [f"{JOB}.json", f"{JOB}.lock"]


def test_a_task_that_another_job_froze_meanwhile_stays_frozen(bench: Bench) -> None:
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", GuardState.ARMED)
    bench.record(OTHER, "web", GuardState.ARMED, guard_pid=os.getpid())
    (found,) = bench.find(OURS, sweep=True)
    assert found.fate is Fate.FAILED
    assert bench.runtime.states["web"] == "paused"


@pytest.mark.parametrize("state", [GuardState.RELEASED, GuardState.RESUMED])
def test_a_record_that_no_longer_freezes_resumes_nothing(bench: Bench, state: GuardState) -> None:
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", state)
    bench.find(OURS, sweep=True)
    assert bench.runtime.states["web"] == "paused"
    assert bench.guard_files() == []


def test_a_task_that_somebody_paused_is_only_told(bench: Bench) -> None:
    bench.runtime.add("web", state="paused")
    assert bench.fates(OURS, sweep=True) == [("frozen", "web", "foreign")]
    assert bench.runtime.states["web"] == "paused"


def test_a_guard_that_watches_is_no_leftover(bench: Bench) -> None:
    bench.runtime.add("web", state="paused")
    bench.record(JOB, "web", GuardState.ARMED, guard_pid=os.getpid())
    assert bench.find(OURS, sweep=True) == []
    assert bench.runtime.states["web"] == "paused"
    bench.guards.forget(JOB)
    assert f"{JOB}.json" in bench.guard_files()


@pytest.mark.parametrize("name", [f"{JOB}.lock", f"{JOB}.new"])
def test_a_lock_without_a_record_goes(bench: Bench, name: str) -> None:
    directory = bench.settings.run_dir / "guards"
    directory.mkdir(parents=True)
    (directory / name).touch()
    assert [item.fate for item in bench.find(FAILED, sweep=True)] == [Fate.REMOVED]
    assert bench.guard_files() == []


def test_a_record_that_nobody_can_read_goes_with_its_job(bench: Bench) -> None:
    directory = bench.settings.run_dir / "guards"
    directory.mkdir(parents=True)
    (directory / f"{JOB}.json").write_text("{")
    assert [item.fate for item in bench.find(Clearance(under_way=(JOB,)), sweep=True)] == [Fate.KEPT]
    assert [item.fate for item in bench.find(FAILED, sweep=True)] == [Fate.REMOVED]
    assert bench.guard_files() == []


# ---- the sweep


def test_nobody_is_told_of_a_sweep_that_nobody_asked_for(bench: Bench) -> None:
    plant_lease(bench)
    bench.keeper.conclude("", FAILED, sweep=True)
    assert bench.told == []
    assert bench.runtime.leased == {}


def test_one_failure_does_not_keep_the_others(bench: Bench) -> None:
    def refuse() -> None:
        raise Unavailable("containerd does not answer")

    removed: list[str] = []

    def look(_: Host) -> Iterator[Leftover]:
        for name, act in (("a", refuse), ("b", lambda: removed.append("b"))):
            yield Leftover(FindingKind.LEASE, name, Need.JOB_OVER, "a lease", act, job_id=JOB)

    bench.keeper = Housekeeper(bench.host, bench, tuple, look=look, now=lambda: NOW)
    first, second = bench.find(FAILED, sweep=True)
    assert (first.fate, second.fate, removed) == (Fate.FAILED, Fate.REMOVED, ["b"])
    assert "does not answer" in first.reason


def test_what_is_gone_already_counts_as_removed(bench: Bench) -> None:
    def gone() -> None:
        raise NotFound("no such lease")

    left = Leftover(FindingKind.LEASE, "a", Need.JOB_OVER, "a lease", gone, job_id=JOB)
    bench.keeper = Housekeeper(bench.host, bench, tuple, look=lambda _: iter([left]), now=lambda: NOW)
    assert [item.fate for item in bench.find(FAILED, sweep=True)] == [Fate.REMOVED]


def test_a_containerd_that_is_down_does_not_silence_the_host(bench: Bench) -> None:
    plant_lease(bench)

    def look(_: Host) -> Iterator[Leftover]:
        yield Leftover(FindingKind.LEASE, "a", Need.JOB_OVER, "a lease", lambda: None, job_id=JOB)
        raise Unavailable("containerd does not answer")

    bench.keeper = Housekeeper(bench.host, bench, tuple, look=look, now=lambda: NOW)
    assert bench.question().jobs == (JOB,)
    assert bench.fates(FAILED) == [("lease", "a", "due")]
