"""What a container's OCI runtime spec needs before a restore."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spec = dict[str, Any]

LOOPBACK_UP = 'nsenter --net="/proc/$(sed -n \'s/.*"pid": *\\([0-9]*\\).*/\\1/p\')/ns/net" ip link set lo up'
"""Run with the container's state as JSON on its standard input (OCI runtime spec, hooks)."""
LOOPBACK_HOOK = {
    "path": "/bin/sh",
    "args": ["sh", "-c", LOOPBACK_UP],
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    "timeout": 10,
}


def renamed(spec: Spec, old_name: str, new_name: str) -> Spec:
    """Give the container a cgroup of its own: two in one cgroup are frozen and killed together."""
    path = str((spec.get("linux") or {}).get("cgroupsPath", ""))
    if old_name == new_name or not path.endswith(old_name):
        return spec
    return {**spec, "linux": {**spec["linux"], "cgroupsPath": path.removesuffix(old_name) + new_name}}


def with_loopback(spec: Spec) -> Spec:
    """Bring the loopback interface up before the program runs.

    runc has CRIU leave out what is inside a network namespace that runc made, and makes an empty one at the restore. At
    an ordinary start it brings `lo` up itself. Its hooks run in between: the namespaces stand, the program does not.
    """
    if not any(_is_own_network(namespace) for namespace in (spec.get("linux") or {}).get("namespaces") or []):
        return spec
    return with_hook(spec, LOOPBACK_HOOK)


def with_hook(spec: Spec, hook: Mapping[str, Any]) -> Spec:
    """Add a hook that runs when the namespaces stand and the program does not, after the container's own."""
    hooks = spec.get("hooks") or {}
    return {**spec, "hooks": {**hooks, "createRuntime": [*(hooks.get("createRuntime") or []), hook]}}


def _is_own_network(namespace: Mapping[str, Any]) -> bool:
    return namespace.get("type") == "network" and not namespace.get("path")
