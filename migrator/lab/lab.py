"""A whole lab: several hosts and a switch on one machine. Brings it up, mends it, and takes it down without a trace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TypeVar

from migrator.errors import NotFound, PreconditionFailed
from migrator.lab import cgroups, control, network
from migrator.lab.files import write_private
from migrator.lab.heartbeats import wait_for_heartbeats
from migrator.lab.host import Host, hosts_file
from migrator.lab.layout import CONTROL, Layout, host_names
from migrator.lab.lock import exclusive
from migrator.lab.machine import check_machine
from migrator.lab.rootfs import Progress, Recipe, ensure_root, silent
from migrator.lab.secrets import LabSecrets, ensure_secrets
from migrator.lab.service import Service
from migrator.lab.services import ServiceSpec, containerd

LOCK_TIMEOUT_S = 180.0
HEARTBEAT_TIMEOUT_S = 120.0
T = TypeVar("T")


@dataclass(frozen=True)
class Shape:
    """What was asked for at `up`."""

    hosts: int = 2
    database: str = "sqlite"
    control: bool = True
    """False: a bare lab, hosts with containerd alone."""
    encrypted: bool = False
    """Every process has the same key ring: what is in the object store is encrypted and signed."""

    def joined(self, wanted: Shape) -> Shape:
        """Return what a lab of this shape becomes when `wanted` is asked for: hosts are added, never taken away.

        Raises:
            PreconditionFailed: The lab runs with another database, or encryption was asked for too late.
        """
        if self.control and wanted.control and self.database != wanted.database:
            raise PreconditionFailed(
                f"the lab runs with {self.database}, not {wanted.database}",
                code="lab_other_database",
                remedy="run `migrator lab down` first, or give another --name",
            )
        if self.control and wanted.encrypted and not self.encrypted:
            raise PreconditionFailed(
                "the lab runs without encryption",
                code="lab_not_encrypted",
                remedy="run `migrator lab down` first, or give another --name",
            )
        database = self.database if self.control else wanted.database
        encrypted = self.encrypted or wanted.encrypted
        return Shape(max(self.hosts, wanted.hosts), database, self.control or wanted.control, encrypted)


class Lab:
    """A lab by name, up or not. Nothing is kept in memory: two objects of one name are the same lab.

    Args:
        name: Labs of different names never meet.
        recipe: The root file system that its hosts are made of when they are booted; the usual one when not given.
    """

    def __init__(self, name: str, recipe: Recipe | None = None):
        self.name = name
        self.recipe = recipe
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
        return {name: self._container_host(name, shape) for name in host_names(shape.hosts)} if shape else {}

    @property
    def control(self) -> Host:
        """The control host.

        Raises:
            NotFound: The lab is not up, or bare.
        """
        return self.host(CONTROL)

    @property
    def all_hosts(self) -> dict[str, Host]:
        """Every host of the lab, `control` first when there is one."""
        shape = self.shape
        first = {CONTROL: self._control_host(shape)} if shape and shape.control else {}
        return first | self.hosts

    @property
    def api(self) -> str:
        """The address of the lab's API, as clients on the machine give it: `unix:///…`."""
        return f"unix://{self.layout.api_socket}"

    def host(self, name: str) -> Host:
        """Return a host by name.

        Raises:
            NotFound: The lab is not up or has no such host; the message lists those it has.
        """
        known = self.all_hosts
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it is not up"
            raise NotFound(
                f"lab {self.name} has no host {name!r}: {there}",
                code="lab_host_not_found",
                remedy="see `migrator lab status`" if known else "run `migrator lab up`",
            )
        return known[name]

    # ---- up

    def up(self, shape: Shape, progress: Progress = silent) -> None:
        """Bring the lab up as `shape` says. What runs already is kept, what died is started again.

        Raises:
            PreconditionFailed: The machine cannot carry a lab, or the lab runs with another database.
            Unavailable: A service did not become ready; the message carries its last words.
        """
        check_machine()
        root = ensure_root(progress, self.recipe)
        with exclusive(self.layout.lock_file, LOCK_TIMEOUT_S):
            before = self.shape
            shape = before.joined(shape) if before else shape
            self._record(shape)
            network.ensure_switch(self.layout)
            hosts = list(self.all_hosts.values())
            progress(f"booting {', '.join(host.name for host in hosts)}")
            _at_once(lambda host: host.up(root, self._binds(host), tuple(self.all_hosts)), hosts)
            self._introduce(hosts)
            self._start([s for h in hosts for s in h.services.values() if not s.spec.product], progress)
            if shape.control and _product_runs():
                self._start([s for h in hosts for s in h.services.values() if s.spec.product], progress)
                progress("waiting for every host's heartbeat")
                wait_for_heartbeats(self.api, set(self.hosts), HEARTBEAT_TIMEOUT_S)

    def _record(self, shape: Shape) -> None:
        for directory in (self.layout.run_dir, self.layout.api_dir):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.layout.shape_file, json.dumps(asdict(shape)))

    def _introduce(self, hosts: list[Host]) -> None:
        """Tell hosts that were up before of those that came."""
        text = hosts_file(tuple(self.all_hosts))
        for host in hosts:
            (host.root / "etc/hosts").write_text(text)

    def _start(self, wanted: list[Service], progress: Progress) -> None:
        if not wanted:
            return
        progress("starting " + ", ".join(sorted({service.name for service in wanted})))
        _at_once(Service.launch, wanted)
        _at_once(Service.wait_ready, wanted)

    def _binds(self, host: Host) -> list[tuple[str, str, bool]]:
        return [(str(self.layout.api_dir), control.API_DIR, False)] if host.name == CONTROL else []

    def _container_host(self, name: str, shape: Shape) -> Host:
        specs: tuple[ServiceSpec, ...] = (containerd(name),)
        if shape.control:
            specs += (control.host_worker(self._secrets(shape), name),)
        return Host(self.layout, name, specs)

    def _control_host(self, shape: Shape) -> Host:
        return Host(self.layout, CONTROL, control.control_services(self._secrets(shape), shape.database))

    def _secrets(self, shape: Shape) -> LabSecrets:
        return ensure_secrets(self.layout.secrets_file, encrypted=shape.encrypted)

    # ---- down

    def down(self) -> bool:
        """Take the lab down, however much of it there is; return whether there was any.

        Works from the kernel and the disk alone, so after a crash of anything too.
        """
        with exclusive(self.layout.lock_file, LOCK_TIMEOUT_S):
            groups = cgroups.find(self.layout.cgroup_name)
            places = [place for place in (self.layout.run_dir, self.layout.disk_dir) if place.exists()]
            cgroups.destroy(groups)
            network.remove_all(self.layout)
            for place in places:
                shutil.rmtree(place)
            self.layout.lock_file.unlink()
        return bool(groups or places)


def _product_runs() -> bool:
    command = [sys.executable, "-m", "migrator", "worker", "--help"]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def _at_once(act: Callable[[T], None], things: list[T]) -> None:
    with ThreadPoolExecutor(max(len(things), 1)) as pool:
        list(pool.map(act, things))
