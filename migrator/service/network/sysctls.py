"""Settings of the kernel that belong to a container's network (OCI runtime spec, `linux.sysctl`).

The runtime makes them when it starts a container and not when it restores one, and CRIU leaves out what is inside a
namespace that the runtime made. Those of other namespaces travel in the images.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from migrator.service.network.handover import HOOK_S, READ_PID

OF_INTERFACES = ("/conf/", "/neigh/")
"""These come with an interface, and are there when it is."""


def network_sysctls(spec: dict[str, Any]) -> dict[str, str]:
    """Read what a spec wants for a network namespace."""
    wanted = (spec.get("linux") or {}).get("sysctl") or {}
    if not isinstance(wanted, dict):
        return {}
    return {str(name): str(value) for name, value in wanted.items() if str(name).startswith("net.")}


def missing_sysctls(names: Iterable[str]) -> list[str]:
    """Choose those that this host's kernel does not know."""
    files = {name: _file_of(name) for name in names}
    return [
        name
        for name, file in files.items()
        if not any(part in str(file) for part in OF_INTERFACES) and not file.exists()
    ]


def sysctl_hook(sysctls: dict[str, str]) -> dict[str, Any]:
    """Make the hook of a restored container that sets them in its network, before any socket is there."""
    lines = [f"printf %s {shlex.quote(value)} > {shlex.quote(str(_file_of(name)))}" for name, value in sysctls.items()]
    script = f'{READ_PID} && nsenter --net="/proc/$pid/ns/net" sh -c {shlex.quote(" && ".join(lines))}'
    environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": environment, "timeout": HOOK_S}


def _file_of(name: str) -> Path:
    """As runc does it: with every dot a slash there is no way up."""
    return Path("/proc/sys") / name.replace(".", "/")
