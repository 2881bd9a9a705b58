"""A whole lab: several hosts and a switch on one machine. Brings it up, mends it, and takes it down without a trace."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from migrator.errors import NotFound
from migrator.lab import cgroups, network, services
from migrator.lab.host import Host
from migrator.lab.layout import Layout, host_names
from migrator.lab.lock import exclusive
from migrator.lab.rootfs import Progress, ensure_root, silent

LOCK_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Shape:
    """What was asked for at `up`."""

    hosts: int = 2
    database: str = "sqlite"
    control: bool = True
    """False: a bare lab, hosts with containerd alone."""


class Lab:
    """A lab by name, up or not."""

    def __init__(self, name: str):
        self.name = name
        self.layout = Layout(name)

    # ---- what is there

    @property
    def shape(self) -> Shape | None:
        """What the lab was brought up as, None when it is not up."""
        try:
            return Shape(**json.loads(self.layout.shape_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def hosts(self) -> dict[str, Host]:
        """The hosts that carry containers, by name; empty when the lab is not up."""
        shape = self.shape
        return {name: self._host(name, shape) for name in host_names(shape.hosts)} if shape else {}

    def host(self, name: str) -> Host:
        """Return a host by name.

        Raises:
            NotFound: The lab is not up or has no such host; the message lists those it has.
        """
        known = self.hosts
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it is not up"
            raise NotFound(
                f"lab {self.name} has no host {name!r}: {there}",
                code="lab_host_not_found",
                remedy="see `migrator lab status`",
            )
        return known[name]

    # ---- up and down

    def up(self, shape: Shape, progress: Progress = silent) -> None:
        """Bring the lab up as `shape` says. What runs already is kept, what died is started again."""
        root = ensure_root(progress)
        with exclusive(self.layout.lock_file, LOCK_TIMEOUT_S):
            self.layout.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.layout.shape_file.write_text(json.dumps(asdict(shape)))
            network.ensure_switch(self.layout)
            hosts = list(self.hosts.values())
            with ThreadPoolExecutor(len(hosts)) as pool:
                list(pool.map(lambda host: self._start(host, root), hosts))

    def down(self) -> None:
        """Take the lab down, however much of it there is. Works from the kernel and the disk, so after a crash too."""
        with exclusive(self.layout.lock_file, LOCK_TIMEOUT_S):
            cgroups.destroy(cgroups.find(self.layout.cgroup_name))
            network.remove_all(self.layout)
            for directory in (self.layout.run_dir, self.layout.disk_dir):
                if directory.exists():
                    shutil.rmtree(directory)
            self.layout.lock_file.unlink()

    def _start(self, host: Host, root: Path) -> None:
        host.up(root, [], tuple(self.hosts))
        for service in host.services.values():
            service.start()

    def _host(self, name: str, shape: Shape) -> Host:
        return Host(self.layout, name, (services.containerd(),))
