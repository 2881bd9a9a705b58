"""What of a host a restored program depends on: processor, kernel, cgroups and the versions that brought it there."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from migrator.containerd import ContainerdClient
from migrator.models.values import Facts

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Traits:
    """One host; what could not be found out, or was not kept with a checkpoint, is empty."""

    architecture: str = ""
    kernel: str = ""
    cpu_flags: str = ""
    """With spaces between them (proc(5), cpuinfo)."""
    cgroups: str = ""
    """`v1`, or `v2` for the unified hierarchy alone."""
    criu: str = ""
    runc: str = ""
    containerd: str = ""

    def to_facts(self) -> Facts:
        """Return the JSON form."""
        return asdict(self)

    @staticmethod
    def from_facts(facts: Facts) -> Traits:
        """Read what `to_facts` wrote; what a newer version added is left out."""
        return Traits(**{name: str(facts.get(name, "")) for name in Traits.__slots__})


def read_traits(runtime: ContainerdClient, criu: str) -> Traits:
    """Look at this host."""
    kernel = os.uname()
    return Traits(
        architecture=kernel.machine,
        kernel=kernel.release,
        cpu_flags=read_cpu_flags(),
        cgroups=find_cgroups(Path("/proc/self/mounts").read_text()),
        criu=criu,
        runc=read_runc_version(),
        containerd=runtime.version().version,
    )


def read_cpu_flags() -> str:
    """Return what this machine's processors can do: the restored program may rely on all of it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return " ".join(sorted(next(flags, [])))


def read_runc_version() -> str:
    """Ask the runc that the worker's PATH finds, as the shim does; empty when there is none."""
    try:
        done = subprocess.run(["runc", "--version"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"runc version (\S+)", done.stdout)
    return found[1] if found else ""


def find_cgroups(mounts: str) -> str:
    """Say from proc(5), mounts, which hierarchy runc uses: the unified one only where it lies at /sys/fs/cgroup."""
    kinds = {line.split()[1]: line.split()[2] for line in mounts.splitlines()}
    kind = kinds.get("/sys/fs/cgroup", "")
    return "v2" if kind == "cgroup2" else "v1" if kind else ""
