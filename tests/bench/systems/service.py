"""This service, as a user has it: the command line, the queue, the object store."""

from __future__ import annotations

from collections.abc import Iterator

from tests.acceptance.cluster import Cluster
from tests.bench.client import Client
from tests.bench.load import Load
from tests.bench.processes import Meter
from tests.bench.systems.system import NAME, System
from tests.workloads import Running

MOVE_S = 300.0


class Service(System):
    """`migrator migrate --wait`.

    Args:
        cluster: A lab with a control plane.
        mode: What it is called in the tables.
        options: What `migrate` is told besides.
    """

    name = "migrator"

    def __init__(self, cluster: Cluster, mode: str = "eager", options: tuple[str, ...] = ()):
        self.mode = mode
        self._cluster = cluster
        self._options = options
        self._costs: dict[str, float | int | None] = {}

    def start(self, load: Load) -> Running:
        self.remove()
        archive = load.image(self._cluster.root)
        for machine in self._cluster.machines.values():
            machine.host.import_image(archive)
        alpha = self._cluster["alpha"]
        alpha.ctr("run", "--detach", "--null-io", "--cni", load.image_name, NAME)
        container = Running(alpha, NAME)
        load.wait_started(container)
        return container

    def move(self, container: Running) -> Running:
        target = "beta" if container.host.name == "alpha" else "alpha"
        with Client(self._cluster, container) as client, Meter(list(self._processes())) as meter:
            job = self._cluster.done("migrate", str(container), target, "--wait", *self._options, timeout_s=MOVE_S)
        measures = self._cluster.job(job["id"])["measures"]
        moved = [measures["bytes_uploaded"], measures["bytes_downloaded"]]
        self._costs = {
            "bytes_moved": sum(int(part or 0) for part in moved),
            "cpu_s": round(meter.cpu_s, 2),
            "peak_rss_mib": round(meter.peak_rss_mib, 1),
            "client_gap_ms": round(client.longest_gap_s * 1000, 1),
        }
        return Running(self._cluster[target], NAME)

    def remove(self) -> None:
        self._cluster.remove(NAME)

    def costs(self) -> dict[str, float | int | None]:
        return self._costs

    def _processes(self) -> Iterator[int]:
        """The workers, the controller and the server."""
        for host in self._cluster.lab.all_hosts.values():
            for service in host.services.values():
                if service.spec.product and service.pid:
                    yield service.pid
