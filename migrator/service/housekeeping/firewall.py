"""Tasks that are cut off from the network because a CRIU that dumped them was killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from migrator.criu.network_lock import NetworkLock, criu_works, find_lock, remove_lock
from migrator.errors import ResourceBusy
from migrator.gen.containerd.types.task import task_pb2
from migrator.models.housekeeping import FindingKind
from migrator.service.host import Host
from migrator.service.housekeeping.frozen import guarded_containers
from migrator.service.housekeeping.leftovers import Leftover, Need

OWN = Path("/proc/self/ns/net")


@dataclass(frozen=True, slots=True)
class _Running:
    """A task that runs."""

    namespace: str
    name: str
    pid: int

    @property
    def container(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def network(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")


def find_network_locks(host: Host) -> Iterator[Leftover]:
    """Look for CRIU's locks on running tasks, and in this host's own network, where they are only told.

    CRIU takes its lock away before it ends. So a lock is left over if no CRIU lives, and if the task runs: one that a
    dump keeps frozen or has ended is left alone.
    """
    if criu_works(host.settings.criu_path):
        return
    own = _inode(OWN)
    lock = find_lock(OWN)
    if lock:
        what = "CRIU's lock on the network of this host; whoever ran CRIU may restore from it"
        yield Leftover(FindingKind.FIREWALL, lock.names, Need.NEVER, what, partial(remove_lock, lock))
    for task in _one_a_network(_running_tasks(host), own):
        lock = find_lock(task.network)
        if lock:
            yield Leftover(
                FindingKind.FIREWALL,
                f"{task.name}: {lock.names}",
                Need.NOTHING,
                "CRIU was killed while it dumped the container, which is cut off from the network since",
                partial(_open, host, task, lock),
                namespace=task.namespace,
                container=task.container,
            )


def _open(host: Host, task: _Running, lock: NetworkLock) -> None:
    """Open a task's network unless a dump has begun meanwhile: a job's record is there before its dump."""
    busy = task.container in guarded_containers(host) or criu_works(host.settings.criu_path)
    if busy or task not in _running_tasks(host):
        raise ResourceBusy(f"container '{task.name}' is being dumped", code="container_busy")
    remove_lock(lock)


def _running_tasks(host: Host) -> list[_Running]:
    guarded = guarded_containers(host)
    running = [
        _Running(namespace.name, task.id, task.pid)
        for namespace in host.containerd.namespaces.list()
        for task in host.runtime(namespace.name).tasks()
        if task.status == task_pb2.RUNNING
    ]
    return [task for task in running if task.container not in guarded]


def _one_a_network(tasks: list[_Running], own: int | None) -> list[_Running]:
    """One task for each network namespace that is not this host's own."""
    found = {inode: task for task in tasks if (inode := _inode(task.network)) not in (None, own)}
    return list(found.values())


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
