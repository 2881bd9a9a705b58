"""What a step finds on the host it runs on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from migrator.containerd import ContainerdClient
from migrator.errors import Cancelled
from migrator.models.values import Facts, JobRequest, StepCommand
from migrator.service.fence import Fence
from migrator.service.guards import Guards
from migrator.service.network.packets import KeptPackets
from migrator.settings import Settings
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.store import ObjectStore
from migrator.storage.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Host:
    """This machine, as steps see it: its runtime, its way to the object store, its guards."""

    name: str
    settings: Settings
    containerd: ContainerdClient
    objects: ObjectStore
    checkpoints: CheckpointStore
    verdicts: Verdicts
    guards: Guards
    fence: Fence
    packets: KeptPackets = field(default_factory=KeptPackets)

    def runtime(self, namespace: str) -> ContainerdClient:
        """Return containerd's client for one namespace."""
        return self.containerd.with_namespace(namespace)


@dataclass(slots=True)
class Act:
    """One command while it is being performed."""

    command: StepCommand
    on_progress: Callable[[int, int], None]
    aborted: threading.Event = field(default_factory=threading.Event)

    @property
    def request(self) -> JobRequest:
        """What the job is about."""
        return self.command.request

    @property
    def facts(self) -> Facts:
        """What the steps before found out."""
        return self.command.facts

    @property
    def lease_id(self) -> str:
        """The lease that keeps what this job makes on a host until it is released."""
        return f"migrator-{self.command.job_id}"

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        """Say how far it is; the place where a cancelled act notices."""
        self.check_aborted()
        self.on_progress(done_bytes, total_bytes)

    def check_aborted(self) -> None:
        """Stop here if the job has turned back.

        Raises:
            Cancelled: The job was turned back while this act was under way.
        """
        if self.aborted.is_set():
            raise Cancelled(f"step {self.command.step} of job {self.command.job_id} was told to stop")


class HostStep:
    """One act of a plan on a host. `run` and `undo` may be repeated at any time."""

    name: str

    def run(self, host: Host, act: Act) -> Facts:
        """Perform the act and say what the steps after it need to know."""
        raise NotImplementedError

    def undo(self, host: Host, act: Act) -> Facts:
        """Take back whatever `run` did, even half of it; nothing to take back is success.

        Returns:
            What the undos after it, and the job's end, need to know.
        """
        del host, act
        return {}

    def observe(self, host: Host, act: Act) -> str:
        """Say what is true on the host: `done`, `absent` or `unknown`."""
        del host, act
        return "unknown"
