"""What a container's OCI runtime spec needs before a restore."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from migrator.errors import PreconditionFailed
from migrator.models.volumes import Volume
from migrator.service.network.attachment import Attachment
from migrator.service.network.sysctls import network_sysctls, sysctl_hook
from migrator.service.volumes.declared import clean, is_bind

Spec = dict[str, Any]

LOOPBACK_UP = 'nsenter --net="/proc/$(sed -n \'s/.*"pid": *\\([0-9]*\\).*/\\1/p\')/ns/net" ip link set lo up'
"""Run with the container's state as JSON on its standard input (OCI runtime spec, hooks)."""
LOOPBACK_HOOK = {
    "path": "/bin/sh",
    "args": ["sh", "-c", LOOPBACK_UP],
    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
    "timeout": 10,
}
OTHER_END = "nowhere"
"""The other end of an interface that leads nowhere."""


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


def with_sysctls(spec: Spec) -> Spec:
    """Set what the spec wants of the kernel for its network; last of all, as some of it is an interface's."""
    sysctls = network_sysctls(spec)
    namespaces = (spec.get("linux") or {}).get("namespaces") or []
    if not sysctls or not any(namespace.get("type") == "network" for namespace in namespaces):
        return spec
    return with_hook(spec, sysctl_hook(sysctls))


def with_sources(spec: Spec, volumes: Iterable[Volume]) -> Spec:
    """Show the volumes from where they lie here."""
    places = {volume.destination: volume.source for volume in volumes}
    mounts = [
        {**mount, "source": places.get(clean(str(mount["destination"])), mount.get("source"))}
        if is_bind(mount)
        else mount
        for mount in spec.get("mounts") or []
    ]
    return {**spec, "mounts": mounts} if mounts else spec


def alone(spec: Spec, attachment: Attachment | None) -> Spec:
    """Give the container a network of its own that nothing leads out of, with the addresses that it knows.

    Raises:
        PreconditionFailed: `host_network`, it would have that of its host.
    """
    linux = spec.get("linux") or {}
    namespaces = [
        {"type": "network"} if namespace.get("type") == "network" else namespace
        for namespace in linux.get("namespaces") or []
    ]
    if {"type": "network"} not in namespaces:
        raise PreconditionFailed(
            "the container uses its host's network and cannot be restored without one",
            code="host_network",
            remedy="give the container a network of its own, and take a new checkpoint",
        )
    spec = {**spec, "linux": {**linux, "namespaces": namespaces}}
    return spec if attachment is None else with_hook(spec, _lone_hook(attachment))


def _lone_hook(attachment: Attachment) -> dict[str, Any]:
    """Add an interface that leads nowhere, so that what listens at its addresses can be restored.

    Its other end lies beside it: a pair of the kind that container networks are made of is there on every host, which
    a dummy interface is not.
    """
    name = attachment.interface
    enter = 'nsenter --net="/proc/$(sed -n \'s/.*"pid": *\\([0-9]*\\).*/\\1/p\')/ns/net" sh -c '
    commands = [
        f"ip link add {name} type veth peer name {OTHER_END}",
        f"ip link set {OTHER_END} up",
        f"ip link set {name} address {attachment.mac} mtu {attachment.mtu} up",
        *(f"ip address replace {a} dev {name}{' nodad' if ':' in a else ''}" for a in attachment.addresses),
    ]
    script = enter + shlex.quote(" && ".join(commands))
    return {**LOOPBACK_HOOK, "args": ["sh", "-c", script]}


def with_hook(spec: Spec, hook: Mapping[str, Any]) -> Spec:
    """Add a hook that runs when the namespaces stand and the program does not, after the container's own."""
    hooks = spec.get("hooks") or {}
    return {**spec, "hooks": {**hooks, "createRuntime": [*(hooks.get("createRuntime") or []), hook]}}


def _is_own_network(namespace: Mapping[str, Any]) -> bool:
    return namespace.get("type") == "network" and not namespace.get("path")
