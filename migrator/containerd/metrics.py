"""A task's counters, whichever cgroup version the host has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from migrator.containerd.values import moment
from migrator.errors import InternalError
from migrator.gen.containerd.cgroups.v1 import metrics_pb2 as v1
from migrator.gen.containerd.cgroups.v2 import metrics_pb2 as v2
from migrator.gen.containerd.types import metrics_pb2

_KINDS: dict[str, type[v1.Metrics] | type[v2.Metrics]] = {
    kind.DESCRIPTOR.full_name: kind for kind in (v1.Metrics, v2.Metrics)
}


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """One reading. `raw` has every counter under the kernel's names; the rest means the same on both versions."""

    id: str
    taken_at: datetime | None
    raw: v1.Metrics | v2.Metrics

    @classmethod
    def from_wire(cls, wire: metrics_pb2.Metric) -> TaskMetrics:
        """Read containerd's form.

        Raises:
            InternalError: `unknown_metrics`: a runtime of another kind.
        """
        name = wire.data.type_url.rsplit("/", 1)[-1]
        if name not in _KINDS:
            raise InternalError(f"metrics of task {wire.id} are of the unknown kind {name}", code="unknown_metrics")
        return cls(wire.id, moment(wire.timestamp), _KINDS[name].FromString(wire.data.value))

    @property
    def cgroup_version(self) -> int:
        """1 or 2."""
        return 1 if isinstance(self.raw, v1.Metrics) else 2

    @property
    def memory_bytes(self) -> int:
        """What the cgroup is charged with now, page cache included."""
        return self.raw.memory.usage.usage if isinstance(self.raw, v1.Metrics) else self.raw.memory.usage

    @property
    def anonymous_bytes(self) -> int:
        """Memory that no file backs: about what a dump has to carry."""
        return self.raw.memory.rss if isinstance(self.raw, v1.Metrics) else self.raw.memory.anon

    @property
    def cpu_s(self) -> float:
        """CPU time so far."""
        if isinstance(self.raw, v1.Metrics):
            return self.raw.cpu.usage.total / 1e9
        return self.raw.cpu.usage_usec / 1e6

    @property
    def pids(self) -> int:
        """How many processes and threads."""
        return self.raw.pids.current
