"""What a check on the source looks at, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migrator.containerd import Container, ContainerdClient, Task
from migrator.models.preflight import Finding, Grade
from migrator.models.values import JobRequest
from migrator.models.volumes import Volume
from migrator.service.host import Host
from migrator.service.preflight.processes import Process
from migrator.service.preflight.traits import Traits


@dataclass(frozen=True, slots=True)
class Subject:
    """A running container on this host, and what somebody wants to do with it."""

    host: Host
    request: JobRequest
    runtime: ContainerdClient
    container: Container
    task: Task
    spec: dict[str, Any] = field(default_factory=dict)
    """The OCI runtime spec as the container was made with it."""
    memory_bytes: int = 0
    """Resident memory of all its processes."""
    changed_bytes: int = 0
    """Its changed files."""
    volumes: tuple[Volume, ...] = ()
    """Its declared bind mounts."""
    volume_bytes: int = 0
    """What of its volumes and logs travels with it."""
    processes: tuple[Process, ...] = ()
    traits: Traits | None = None

    @property
    def root(self) -> Path:
        """The container's files, as its first process sees them."""
        return Path(f"/proc/{self.task.pid}/root")

    def refusal(self, check: str, code: str, fault: str, remedy: str) -> Finding:
        """A failure that keeps this container from being checkpointed."""
        message = f"container '{self.container.id}' {fault} and cannot be checkpointed"
        return Finding(check, Grade.FAIL, message, code, remedy)


Check = Callable[[Subject], Iterator[Finding]]
"""Gives what is worth telling; nothing at all is a pass."""
