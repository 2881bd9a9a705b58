"""Which host takes a container: the room that hosts have, less what is on its way to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from migrator.errors import MigratorError, PreconditionFailed, ResourceExhausted
from migrator.models.drains import RESERVES, Passage
from migrator.models.values import Host, Job
from migrator.service.room import DISK_FREE, MEMORY_FREE

MEMORY_ALL = "memory_bytes"
SPARE = 0.05
"""So much of its memory stays free on every host: what is there already grows, too."""
UNKNOWN = 1 << 60
"""The room of a host whose worker does not tell: preflight looks itself."""
COARSE = 20
"""Hosts count as equally free within a twentieth of their memory: figures that wobble shall not decide."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a host can still take."""

    host: str
    memory_bytes: int
    disk_bytes: int
    all_bytes: int
    """Its whole memory."""
    coming: int = 0
    """Containers on their way to it."""

    def holds(self, passage: Passage) -> bool:
        """Whether a container fits."""
        return passage.memory_bytes <= self.memory_bytes and passage.disk_bytes <= self.disk_bytes

    def less(self, memory_bytes: int, disk_bytes: int) -> Room:
        """The room that is left when a container has come."""
        return replace(
            self,
            memory_bytes=self.memory_bytes - memory_bytes,
            disk_bytes=self.disk_bytes - disk_bytes,
            coming=self.coming + 1,
        )


def room_of(host: Host) -> Room:
    """Read a host's room from its last heartbeat."""
    all_bytes = int(host.facts.get(MEMORY_ALL, 0))
    memory_bytes = int(host.facts.get(MEMORY_FREE, UNKNOWN)) - int(all_bytes * SPARE)
    return Room(host.name, memory_bytes, int(host.facts.get(DISK_FREE, UNKNOWN)), all_bytes)


def left_over(rooms: Iterable[Room], passages: Iterable[Passage], others: Iterable[Job]) -> list[Room]:
    """The rooms less what this drain, and other jobs, are about to bring."""
    reserved = [passage for passage in passages if passage.status in RESERVES]
    return [_less(room, reserved, others) for room in rooms]


def _less(room: Room, reserved: Sequence[Passage], others: Iterable[Job]) -> Room:
    for passage in reserved:
        if passage.target == room.host:
            room = room.less(passage.memory_bytes, passage.disk_bytes)
    for job in others:
        if job.request.target_host == room.host:
            room = room.less(int(job.facts.get("memory_bytes", 0)), 0)
    return room


def choose(passage: Passage, rooms: Sequence[Room]) -> Room | None:
    """The host with the most room left afterwards, of those that have not refused; None if it fits nowhere.

    Of hosts that are about equally free it is the one to which the fewest are on their way, then the first by name: the
    same question always has the same answer.
    """
    fitting = [room for room in rooms if room.host not in passage.refusals and room.holds(passage)]
    return min(fitting, key=lambda room: _order(passage, room), default=None)


def _order(passage: Passage, room: Room) -> tuple[int, int, str]:
    left_bytes = room.memory_bytes - passage.memory_bytes
    share = COARSE * left_bytes // room.all_bytes if room.all_bytes else 0
    return -share, room.coming, room.host


def explain(passage: Passage, rooms: Sequence[Room]) -> MigratorError:
    """Say why no host takes a container."""
    told = {host: str(failure["message"]) for host, failure in passage.refusals.items()}
    open_to_it = [room for room in rooms if room.host not in told]
    told |= {room.host: _shortage(passage, room) for room in open_to_it}
    if not told:
        return PreconditionFailed(
            "there is no other host that is alive and takes containers",
            code="no_target",
            remedy="see `migrator hosts list`",
        )
    first = next(iter(passage.refusals.values()), None)
    words = "; ".join(f"{host}: {fault}" for host, fault in sorted(told.items()))
    if first is not None and len(told) == 1:
        return MigratorError.from_dict(first)
    kind = ResourceExhausted if len(open_to_it) == len(told) else PreconditionFailed
    return kind(f"no host can take it ({words})", code="no_target", remedy="make room or name other hosts with --to")


def _shortage(passage: Passage, room: Room) -> str:
    wanted, free = passage.memory_bytes, max(room.memory_bytes, 0)
    what = "memory"
    if wanted <= room.memory_bytes:
        wanted, free, what = passage.disk_bytes, max(room.disk_bytes, 0), "disk"
    return f"it needs {wanted / 1e6:.0f} MB of {what}, and {free / 1e6:.0f} MB are left"
