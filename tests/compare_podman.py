"""`python -m tests.compare_podman [WORKLOAD …]`: move the same programs with podman, and write it into docs/workloads.md.

Two hosts of a lab, with podman from Debian 13 and the CRIU that the lab itself uses: Debian 13's own cannot dump any
network socket on kernels from 6.16 on. podman is given what it needs for each program that migrator moves; every row
says with what.
"""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import sys
import time
import traceback
from pathlib import Path

from migrator.errors import MigratorError, Unavailable
from migrator.lab.host import Host
from migrator.lab.lab import Lab, Shape
from migrator.lab.rootfs import Recipe, ensure_root
from tests.conftest import lab_name
from tests.workloads import WORKLOADS, Running, Workload
from tests.workloads.page import read_table, write_table

RECIPE = Recipe(
    suite="trixie",
    packages=("ca-certificates", "criu/forky", "crun", "iproute2", "iptables", "podman", "procps", "python3", "runc"),
    python=(),
    besides=("forky",),
)
DISK = "/var/lib/containerd"
"""On the machine's own disk: podman lays an overlay over it."""
PODMAN = ("podman", f"--root={DISK}/podman", "--runroot=/run/podman", "--cgroup-manager=cgroupfs", "--runtime=runc")
OPTIONS = ("--file-locks", "--tcp-established")
MOVE_S = 40.0
NAME = "moving"


class PodmanLab(Lab):
    """Two hosts with podman, and nothing that runs."""

    def _container_host(self, name: str, shape: Shape) -> Host:
        return Host(self.layout, name)


class Machine:
    """A host on which podman is called."""

    def __init__(self, host: Host):
        self.host = host
        self.name = host.name

    @property
    def disk(self) -> Path:
        return self.host.root / DISK.lstrip("/")

    def run(self, *command: str, timeout_s: float = MOVE_S, check: bool = True) -> str:
        done = self.host.exec(list(command), timeout_s=timeout_s, environment={"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"})
        if check and done.returncode:
            raise AssertionError((done.stderr or done.stdout).strip())
        return done.stdout

    def podman(self, *words: str, check: bool = True, timeout_s: float = MOVE_S) -> str:
        return self.run(*PODMAN, *words, check=check, timeout_s=timeout_s)

    def load(self, archive: Path) -> str:
        """Load an image and return its id."""
        shutil.copy(archive, self.disk / "image.tar")
        loaded = self.podman("load", "--quiet", "--input", f"{DISK}/image.tar")
        return loaded.strip().rpartition("Loaded image: ")[2]


class PodmanRunning(Running):
    """A container of podman's, looked at from outside."""

    host: Machine

    @property
    def pid(self) -> int:
        return int(self.host.podman("inspect", "--format", "{{.State.Pid}}", self.name))

    def exec(self, *command: str, timeout_s: float = 60.0) -> str:
        return self.host.podman("exec", self.name, *command)

    def processes(self) -> int:
        return len(self.host.podman("top", self.name, "pid").splitlines()) - 1


def move(workload: Workload, source: Machine, target: Machine, root: Path) -> tuple[str, str]:
    """Start a workload, move it, and say what came of it and how long the pause was."""
    archive = workload.image(root)
    image = source.load(archive)
    target.load(archive)
    seccomp = (
        () if "--seccomp" in workload.run_options else ("--security-opt=seccomp=unconfined",)
    )  # as the lab's containers have it
    volume = (f"--volume={NAME}:{workload.volume}",) if workload.volume else ()
    source.podman("run", "--detach", "--network=none", *seccomp, *volume, f"--name={NAME}", image)
    container = PodmanRunning(source, NAME)
    workload.started(container)
    before = workload.look(container)
    began = time.monotonic()
    try:
        export = (f"--export={DISK}/moving.tar", "--compress=none")
        source.podman("container", "checkpoint", *export, *OPTIONS, NAME)
        shutil.copy(source.disk / "moving.tar", target.disk / "moving.tar")
        target.podman("container", "restore", f"--import={DISK}/moving.tar", *OPTIONS)
        pause_s = time.monotonic() - began
    except Unavailable:
        return f"fails: no end after {MOVE_S:.0f} s", ""
    except AssertionError as error:
        return f"fails: {reason(str(error), source, target)}", ""
    moved = PodmanRunning(target, NAME)
    try:
        arrived = workload.look(moved)
        workload.check(before, moved)
        workload.check(arrived, moved)
    except (AssertionError, OSError) as error:
        return f"is not the same: {difference(error, moved)}", ""
    return "moves", f"{pause_s:.2f} s"


def reason(words: str, *machines: Machine) -> str:
    """The first line of CRIU's log that tells more than that it failed, or podman's last words."""
    find = f"find {DISK}/podman -name '*.log' -newer {DISK}/image.tar -exec grep -h 'Error (' {{}} +"
    lines = [line for machine in machines for line in machine.run("sh", "-c", find, check=False).splitlines()]
    told = [line.partition("): ")[2].strip() for line in lines if "RLIMIT_NOFILE" not in line]
    return one_line((told or words.splitlines() or ["?"])[0 if told else -1])


def one_line(words: str) -> str:
    """Make words fit into a cell, with the last part alone of podman's long paths."""
    short = re.sub(rf"{DISK}/\S*/(userdata|diff)/", "…/", words.replace("|", "/").replace("`", "'"))
    return " ".join(short.split())[:160]


def difference(error: Exception, container: Running) -> str:
    """What the program itself found wrong, or what the test did."""
    try:
        faults = container.state()["faults"]
    except (AssertionError, OSError, KeyError, ValueError):
        faults = []
    where = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return one_line(faults[0] if faults else str(error) or where)


def clear(*machines: Machine) -> None:
    """Remove the container wherever it is."""
    for machine in machines:
        machine.podman("rm", "--force", "--time=0", "--ignore", "--volumes", NAME, check=False)
        machine.podman("volume", "rm", "--force", NAME, check=False)
        for left in ("moving.tar", "image.tar"):
            (machine.disk / left).unlink(missing_ok=True)


def versions(machine: Machine) -> str:
    """Say what is used."""
    told = {
        name: re.findall(r"\d+\.\d+[.\d]*", machine.run(name, "--version"))[0] for name in ("podman", "runc", "criu")
    }
    return f"podman {told['podman']}, runc {told['runc']}, CRIU {told['criu']}, kernel {platform.release()}"


def main() -> int:
    """Move them all; exit status 1 when podman could not be used at all."""
    names, root = sys.argv[1:] or list(WORKLOADS), ensure_root(print)
    ensure_root(print, RECIPE)
    with lab_name("podman") as name, contextlib.ExitStack() as ending:
        lab = PodmanLab(name, RECIPE)
        lab.down()
        ending.callback(lab.down)
        lab.up(Shape(hosts=2, control=False))
        source, target = (Machine(host) for host in lab.hosts.values())
        table = read_table()
        for workload in (WORKLOADS[name] for name in names):
            try:
                result, pause = move(workload, source, target, root)
            except (AssertionError, MigratorError) as error:
                result, pause = f"does not start: {one_line(str(error))}", ""
            finally:
                clear(source, target)
            print(json.dumps({"workload": workload.name, "result": result, "pause": pause}), flush=True)
            table = read_table().with_row(workload.name, workload.title, podman=result, pause=pause)
            used = {**table.used, "podman": versions(source)}
            write_table(type(table)(table.rows, used, table.reasons))
    return 0


if __name__ == "__main__":
    sys.exit(main())
