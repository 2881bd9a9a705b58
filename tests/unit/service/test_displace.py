"""The machine dies on every line of a displacement and of its undo: the original comes back whole, once, or its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.containerd import Container, ProcessState
from migrator.errors import AlreadyExists, NotFound, PreconditionFailed, ResourceBusy, WorkloadFailed
from migrator.models.phase import JobKind
from migrator.models.values import JobRequest, StepAction, StepCommand
from migrator.service.catalogue import NOT_BROUGHT_BACK
from migrator.service.host import Act, Host
from migrator.service.steps import displace
from migrator.service.steps.displace import Displace, RemoveDisplaced
from migrator.service.steps.image import JOB_LABEL

JOB = "rwd-2222222222"
LABELS = {"team": "red", "io.migrator.restart.status": "running"}


class Died(BaseException):
    """The worker is gone, in the middle of a line."""


class Ground:
    """containerd's records and one task, as far as a displacement touches them; it can die at any effect."""

    namespace = "default"

    def __init__(self) -> None:
        spec = Container.pack_spec({})
        original = Container("web", labels=LABELS, snapshot_key="web-rw", spec=spec, created_at=cast(Any, "then"))
        self.records = {"web": original}
        self.state: ProcessState | None = ProcessState.PAUSED
        self.pid = 100
        self.doomed = False
        """Its processes have their signal; frozen, they look as whole as before."""
        self.snapshots = {"web-rw"}
        self.revived = 0
        self.restorable = True
        self.effects = 0
        self.dies_at = 0

    def effect(self) -> None:
        self.effects += 1
        if self.effects == self.dies_at:
            raise Died

    # ---- as containerd's client

    @property
    def containers(self) -> Any:
        return SimpleNamespace(
            get=self._get, list=lambda: [*self.records.values()], create=self._create, update=self._update,
            delete=self._delete,
        )  # fmt: skip

    def task(self, name: str) -> Any:
        if self.state is None or name != "web":
            raise NotFound(name)
        return SimpleNamespace(container_id=name, pid=self.pid, status=lambda: SimpleNamespace(state=self.state))

    def _get(self, name: str) -> Container:
        if name not in self.records:
            raise NotFound(name)
        return self.records[name]

    def _create(self, container: Container) -> None:
        if container.id in self.records:
            raise AlreadyExists(container.id)
        self.effect()
        self.records[container.id] = replace(container, created_at=cast(Any, f"moment {self.effects}"))

    def _update(self, container: Container, *fields: str) -> None:
        assert fields == ("labels",)
        self.effect()
        self.records[container.id] = replace(self._get(container.id), labels=container.labels)

    def _delete(self, name: str) -> None:
        self._get(name)
        self.effect()
        del self.records[name]

    # ---- what the step calls for

    def end_task(self, _: Any, name: str) -> None:
        if self.state is not None and name == "web":
            self.effect()
            self.doomed = True
            self.effect()
            self.state, self.doomed = None, False

    def bring_to_life(self, host: Any, act: Any, record: Container, *_: Any) -> None:
        del host, act
        assert self.state is None, "two tasks of one name"
        self._create(record)
        self.effect()
        if not self.restorable:
            raise WorkloadFailed("CRIU could not restore it")
        self.state, self.pid = ProcessState.CREATED, self.pid + 1
        self.effect()
        self.state, self.revived = ProcessState.RUNNING, self.revived + 1
        self.effect()


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Ground:
    ground = Ground()
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    for name in ("detach_source", "drop_interface", "join_restored", "leave_room", "end_remains", "drop_lease"):
        monkeypatch.setattr(displace, name, nothing)
    monkeypatch.setattr(displace, "end_task", ground.end_task)
    monkeypatch.setattr(displace, "bring_to_life", ground.bring_to_life)
    monkeypatch.setattr(displace, "started_ticks", lambda pid: pid)
    return ground


@pytest.fixture
def host(ground: Ground, tmp_path: Path) -> Host:
    (tmp_path / "run" / "criu" / JOB / "images").mkdir(parents=True)
    settings = SimpleNamespace(run_dir=tmp_path / "run", state_dir=tmp_path / "state")
    return cast(Host, SimpleNamespace(runtime=lambda _: ground, settings=settings))


def act(action: StepAction = StepAction.RUN, attempt: int = 1) -> Act:
    request = JobRequest(
        JobKind.REWIND, source_host="alpha", target_host="alpha", container="web", checkpoint_id="ck-1"
    )
    facts = {"source_created_at": "then", "source_started": 100, "criu_options": {}, "stdio": {}}
    command = StepCommand(JOB, "displace", 13, action, attempt, 4, "w", request, "ck-2", facts)
    return Act(command, lambda *_: None)


def run_until(ground: Ground, effect: int, call: Callable[[], Any]) -> bool:
    """Let it die at an effect; tell whether it came so far."""
    ground.effects, ground.dies_at = 0, effect
    try:
        call()
    except Died:
        return True
    finally:
        ground.dies_at = 0
    return False


def moments() -> list[tuple[int, int]]:
    return [(run, undo) for run in range(1, 9) for undo in range(1, 14)]


def test_it_is_set_aside_and_let_go(ground: Ground, host: Host) -> None:
    for _ in range(2):
        Displace().run(host, act())
        assert [*ground.records] == [f"{JOB}-displaced"]
        assert ground.state is None
    aside = ground.records[f"{JOB}-displaced"]
    assert (aside.snapshot_key, aside.labels) == ("web-rw", {**LABELS, JOB_LABEL: f"{JOB}-displaced"})


@pytest.mark.parametrize(("run", "undo"), moments())
def test_whatever_the_moment_it_comes_back_once(ground: Ground, host: Host, run: int, undo: int) -> None:
    died = run_until(ground, run, lambda: Displace().run(host, act()))
    untouched = ground.state is ProcessState.PAUSED and not ground.doomed and ground.records["web"].labels == LABELS
    run_until(ground, undo, lambda: Displace().undo(host, act(StepAction.UNDO)))
    told = Displace().undo(host, act(StepAction.UNDO, attempt=2))
    assert [*ground.records] == ["web"]
    assert ground.records["web"].labels == LABELS
    assert ground.records["web"].snapshot_key == "web-rw"
    assert told == {"source_started": ground.pid}
    if untouched:
        assert died
        assert (ground.state, ground.pid, ground.revived) == (ProcessState.PAUSED, 100, 0)
    else:
        assert (ground.state, ground.revived) == (ProcessState.RUNNING, 1)


@pytest.mark.parametrize("undo", range(1, 10))
def test_after_a_reboot_its_record_is_put_back(ground: Ground, host: Host, undo: int) -> None:
    Displace().run(host, act())
    (host.settings.run_dir / "criu" / JOB / "whole").unlink()
    run_until(ground, undo, lambda: Displace().undo(host, act(StepAction.UNDO)))
    told = Displace().undo(host, act(StepAction.UNDO, attempt=2))
    assert [*ground.records] == ["web"]
    assert ground.records["web"].labels == LABELS
    assert (ground.state, ground.revived) == (None, 0)
    assert "source_started" not in told


def test_what_criu_refuses_is_tried_some_times_and_told(ground: Ground, host: Host) -> None:
    Displace().run(host, act())
    ground.restorable = False
    for attempt in (1, 2):
        with pytest.raises(ResourceBusy):
            Displace().undo(host, act(StepAction.UNDO, attempt))
        assert f"{JOB}-displaced" in ground.records, "what was set aside stays until the original is back"
    told = Displace().undo(host, act(StepAction.UNDO, attempt=3))
    assert told == {NOT_BROUGHT_BACK: "CRIU could not restore it"}
    assert [*ground.records] == ["web"]


def test_what_is_not_frozen_or_not_the_same_is_left_alone(ground: Ground, host: Host) -> None:
    ground.state = ProcessState.RUNNING
    with pytest.raises(PreconditionFailed) as caught:
        Displace().run(host, act())
    assert caught.value.code == "guard_resumed"
    ground.records["web"] = replace(ground.records["web"], created_at=cast(Any, "later"))
    with pytest.raises(PreconditionFailed) as caught:
        Displace().run(host, act())
    assert caught.value.code == "container_changed"
    assert [*ground.records] == ["web"]
    assert ground.state is ProcessState.RUNNING


def test_without_images_nothing_is_ended(ground: Ground, host: Host) -> None:
    (host.settings.run_dir / "criu" / JOB / "images").rmdir()
    with pytest.raises(PreconditionFailed) as caught:
        Displace().run(host, act())
    assert caught.value.code == "images_gone"
    assert (ground.state, [*ground.records]) == (ProcessState.PAUSED, ["web"])


def test_a_successor_is_not_taken_for_the_original(ground: Ground, host: Host) -> None:
    """A late copy of the undo comes when the rewound container has been seen and the original let go of."""
    ground.records = {"web": Container("web", labels={}, snapshot_key=f"web-{JOB}")}
    ground.state, ground.pid = ProcessState.RUNNING, 222
    assert Displace().undo(host, act(StepAction.UNDO)) == {"source_started": 222}
    assert (ground.state, ground.records["web"].snapshot_key) == (ProcessState.RUNNING, f"web-{JOB}")


def test_letting_go_leaves_a_snapshot_that_is_in_use(
    ground: Ground, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    snapshots = SimpleNamespace(remove=removed.append)
    runtime = SimpleNamespace(containers=ground.containers, snapshots=lambda _: snapshots)
    released: list[str] = []
    guards = SimpleNamespace(release=released.append)
    there = cast(Host, SimpleNamespace(runtime=lambda _: runtime, settings=host.settings, guards=guards))
    monkeypatch.setattr(displace, "remove_work_directory", lambda *_: None)
    aside = replace(ground.records["web"], id=f"{JOB}-displaced")
    ground.records[aside.id] = aside
    RemoveDisplaced().run(there, act())
    assert (removed, [*ground.records], released) == ([], ["web"], [JOB])
    ground.records = {aside.id: aside}
    RemoveDisplaced().run(there, act())
    assert (removed, [*ground.records]) == (["web-rw"], [])
