"""One lab host as seen from the machine: bring it up, run commands in it, start and stop its services, take it down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from migrator.errors import InternalError, NotFound, Unavailable
from migrator.lab import cgroups, network
from migrator.lab.control_line import ask_init
from migrator.lab.layout import SUBNET, Layout, address_of
from migrator.lab.requirements import PACKAGE_DIR
from migrator.lab.service import Service
from migrator.lab.services import INSIDE_LIB, SHELL_ENVIRONMENT, ServiceSpec

BOOT_PROGRAM = Path(__file__).with_name("boot.py")
BOOT_TIMEOUT_S = 20.0
ENTER_SCRIPT = 'for g in $1; do echo 0 > "$g/cgroup.procs" || exit 125; done; shift; exec "$@"'


class Host:
    """A lab host, up or not.

    Args:
        layout: The lab it belongs to.
        name: `alpha`, `beta`, … or `control`.
        specs: The services it is made to run, in order of start.
    """

    def __init__(self, layout: Layout, name: str, specs: tuple[ServiceSpec, ...] = ()):
        self.layout = layout
        self.name = name
        self.address = address_of(name)
        self._services = {spec.name: Service(self, spec) for spec in specs}

    # ---- who and where

    @property
    def pid(self) -> int:
        """The process id of the host's init, on the machine.

        Raises:
            Unavailable: The host is not up.
        """
        pid = self.find_init()
        if pid is None:
            raise Unavailable(
                f"lab host {self.name} of lab {self.layout.name} is not up",
                code="lab_host_down",
                remedy="run `migrator lab up`",
            )
        return pid

    def find_init(self) -> int | None:
        """Return init's process id, or None when the host is not up. A recycled id is not mistaken for it."""
        try:
            pid, start_time = self.layout.pid_file(self.name).read_text().split()
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return int(pid) if fields[19] == start_time and fields[0] not in "ZX" else None

    @property
    def root(self) -> Path:
        """The host's root directory as a path on the machine, valid while init lives."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def containerd_socket(self) -> Path:
        """The socket of containerd as a path on the machine."""
        return self.root / "run/containerd/containerd.sock"

    # ---- services

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request to the host's init."""
        return ask_init(self.root, self.name, request)

    @property
    def services(self) -> dict[str, Service]:
        """The services this host is made to run, by name."""
        return dict(self._services)

    def service(self, name: str) -> Service:
        """Return one of the host's services.

        Raises:
            NotFound: The host has no such service; the message lists those it has.
        """
        if name not in self._services:
            raise NotFound(
                f"lab host {self.name} has no service {name!r}, only {', '.join(self._services) or 'none'}",
                code="lab_service_not_found",
            )
        return self._services[name]

    @property
    def containerd_pid(self) -> int | None:
        """The process id of containerd on the machine, None when it is not running."""
        return self.service("containerd").pid

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id on the machine, None when it is not running."""
        return self.service("worker").pid

    def start_worker(self) -> None:
        """Start the worker unless it runs."""
        self.service("worker").start()

    def stop_worker(self) -> None:
        """Ask the worker to end and wait until it did."""
        self.service("worker").stop()

    # ---- commands

    def enter_command(self, argv: list[str], environment: dict[str, str] | None = None) -> list[str]:
        """Return the command that runs `argv` inside the host's namespaces and cgroups."""
        variables = {**SHELL_ENVIRONMENT, **(environment or {})}
        groups = [str(d / cgroups.LEAF if (d / cgroups.LEAF).is_dir() else d) for d in self._cgroups()]
        inside = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd"]
        settings = [f"{key}={value}" for key, value in variables.items()]
        return ["/bin/sh", "-c", ENTER_SCRIPT, "sh", " ".join(groups), *inside, "env", "-i", *settings, *argv]

    def exec(
        self,
        argv: list[str],
        timeout_s: float = 30,
        input: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host and return how it ended; its exit status is not judged.

        Raises:
            Unavailable: The host is not up, or the command did not end within `timeout_s`.
        """
        command = self.enter_command(argv, environment)
        try:
            return subprocess.run(
                command,
                input=input if input is not None else "",
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(
                f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s", code="lab_exec_timeout", host=self.name
            ) from error

    def import_image(self, oci_tar: Path, namespace: str = "default", timeout_s: float = 120) -> None:
        """Import an OCI archive that lies on the machine into the host's containerd.

        Raises:
            InternalError: `ctr` refused it; the message carries its words.
        """
        command = self.enter_command(["ctr", "-n", namespace, "image", "import", "-"])
        with oci_tar.open("rb") as archive:
            done = subprocess.run(command, stdin=archive, capture_output=True, timeout=timeout_s, check=False)
        if done.returncode:
            words = done.stderr.decode(errors="replace").strip()
            raise InternalError(f"importing {oci_tar.name}: {words}", code="lab_import_failed", host=self.name)

    # ---- up and down

    def up(self, lower: Path, binds: list[tuple[str, str, bool]], names: tuple[str, ...]) -> None:
        """Boot the host unless it is up. What an init that died left behind is cleared away first; its disk is kept.

        Args:
            lower: The root file system to build on.
            binds: (path on the machine, path in the host, read-only) of further directories to show.
            names: All host names of the lab, for /etc/hosts.
        """
        if self.find_init() is not None:
            return
        self.clear()
        self._keep_or_wipe_disk(lower)
        network.plug_in(self.layout, self.name)
        plan = self._boot_plan(lower, binds, names)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(BOOT_PROGRAM), json.dumps(plan)],
            capture_output=True,
            text=True,
            timeout=BOOT_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise InternalError(
                f"lab host {self.name} did not boot: {done.stderr.strip()}",
                code="lab_boot_failed",
                remedy="run `migrator lab down` and try again",
            )
        self._wait_for_init()

    def clear(self) -> None:
        """Kill all that runs in the host and remove its cgroups and cable; the disk stays. Harmless when it is down."""
        cgroups.destroy(cgroups.find(self.layout.cgroup_name, self.name))
        network.unplug(self.layout, self.name)
        self.layout.pid_file(self.name).unlink(missing_ok=True)

    def _keep_or_wipe_disk(self, lower: Path) -> None:
        """Keep what the host wrote as long as it lies over the same root; over another one it would make no sense."""
        disk = self.layout.disk_of(self.name)
        marker = disk / "lower"
        if not marker.is_file() or marker.read_text() != str(lower):
            shutil.rmtree(disk, ignore_errors=True)
            disk.mkdir(parents=True)
            marker.write_text(str(lower))

    def _wait_for_init(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while True:
            try:
                self.ask({"op": "list"})
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def _cgroups(self) -> list[Path]:
        return cgroups.of_process(self.pid, f"{self.layout.cgroup_name}/{self.name}")

    def _boot_plan(self, lower: Path, binds: list[tuple[str, str, bool]], names: tuple[str, ...]) -> dict[str, Any]:
        disk = self.layout.disk_of(self.name)
        own = [("containerd", "/var/lib/containerd"), ("state", "/var/lib/migrator"), ("log", "/var/log/lab")]
        for part, _ in own:
            (disk / part).mkdir(parents=True, exist_ok=True)
        shown = [(str(disk / part), inside, False) for part, inside in own]
        shown += [(str(PACKAGE_DIR), f"{INSIDE_LIB}/migrator", True), *binds]
        return {
            "name": self.name,
            "cgroups": [str(d) for d in cgroups.create(self.layout.cgroup_name, self.name)],
            "hierarchies": [
                {"place": h.mount.name, "unified": h.unified, "options": h.options} for h in cgroups.hierarchies()
            ],
            "leaf": cgroups.LEAF,
            "network": str(self.layout.network_of(self.name)),
            "pid_file": str(self.layout.pid_file(self.name)),
            "disk": str(disk),
            "lower": str(lower),
            "binds": shown,
            "hosts_text": hosts_file(names),
            "init": f"{INSIDE_LIB}/migrator/lab/init.py",
            "environment": dict(SHELL_ENVIRONMENT),
        }


def hosts_file(names: tuple[str, ...]) -> str:
    """Return the text of /etc/hosts for a lab with these hosts."""
    lines = ["127.0.0.1 localhost", f"{SUBNET}.1 switch", *(f"{address_of(name)} {name}" for name in names)]
    return "\n".join(lines) + "\n"


def terminal_environment() -> dict[str, str]:
    """Return the variables that let a terminal program inside a host draw as it would outside."""
    return {key: os.environ[key] for key in ("TERM", "COLORTERM", "LANG") if key in os.environ}
