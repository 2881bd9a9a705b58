"""How a container's interface goes from one host to another, whatever kind of networking it is of.

On the source it is cut off by its other end on the host, when the task is frozen: from then on nothing is acknowledged,
refused or answered for the container, and nothing that a peer sends is lost, because a peer sends again what nobody
acknowledges. It is joined again when the task is resumed.

On the target the interface is made before the freeze, in a waiting room: a namespace of its own that says nothing, with
the other end down. A hook of the restored container takes it from there. The other end comes up when the task runs.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from migrator.service.network.announcement import announce
from migrator.service.network.attachment import Attachment
from migrator.service.network.links import drop_namespace, make_namespace, read_links, run, set_link
from migrator.service.network.plugins import plugin_for

SILENCE = """
table arp migrator {
    chain input { type filter hook input priority 0; policy drop; }
    chain output { type filter hook output priority 0; policy drop; }
}
table inet migrator {
    chain input { type filter hook input priority 0; policy drop; }
    chain output { type filter hook output priority 0; policy drop; }
}
"""
HOOK_S = 10
READ_PID = """pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')"""
"""A hook gets the container's state as JSON on its standard input (OCI runtime spec, hooks)."""


def cut_off(attachment: Attachment) -> None:
    """Let nothing out of the container and nothing into it.

    Raises:
        InternalError: `network_failed`.
    """
    set_link(attachment.host_link, "down")


def join(attachment: Attachment, pid: int) -> None:
    """Let a task that runs be reached, and tell everybody where it is.

    Raises:
        InternalError: `network_failed`.
    """
    set_link(attachment.host_link, "up")
    namespace = namespace_of(pid)
    announce(namespace, attachment.interface, attachment.mac, attachment.plain_addresses)


def namespace_of(pid: int) -> Path:
    """The network namespace of a process."""
    return Path(f"/proc/{pid}/ns/net")


def prepare(room: Path, wanted: Attachment) -> Attachment:
    """Make the interface in a waiting room, unless it is there.

    Raises:
        PreconditionFailed: The network cannot have it.
        InternalError: `network_failed`.
    """
    make_namespace(room)
    if wanted.host_link and any(link["ifname"] == wanted.interface for link in read_links(room)):
        return wanted
    run(["nft", "-f", "-"], room, "flush ruleset\n" + SILENCE)
    made = plugin_for(wanted).prepare(wanted, room)
    cut_off(made)
    return made


def give_back(room: Path, attachment: Attachment) -> None:
    """Take back what `prepare` made; without a waiting room the job has made nothing here."""
    if room.exists():
        plugin_for(attachment).detach(attachment, room)
        drop_namespace(room)


def interface_hook(room: Path, attachment: Attachment, commands: Path) -> dict[str, Any]:
    """Make the hook that moves the interface from the waiting room into the container, and sets it up there."""
    commands.write_text("".join(f"{line}\n" for line in set_up_commands(attachment)))
    there = f"nsenter --net={shlex.quote(str(room))}"
    script = (
        f'{READ_PID} && {there} ip link set dev {attachment.interface} netns "$pid" && '
        f'nsenter --net="/proc/$pid/ns/net" ip -batch {shlex.quote(str(commands))}'
    )
    environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": environment, "timeout": HOOK_S}


def set_up_commands(attachment: Attachment) -> list[str]:
    """What `ip -batch` is told: an interface loses its addresses and routes when it goes to another namespace."""
    name = attachment.interface
    addresses = [f"address add {a} dev {name}{' nodad' if ':' in a else ''}" for a in attachment.addresses]
    routes = [
        f"route add {route.destination}{f' via {route.gateway}' if route.gateway else ''} dev {name}"
        for route in attachment.routes
    ]
    link = f"link set dev {name} address {attachment.mac} mtu {attachment.mtu}"
    return [link, *addresses, f"link set dev {name} up", *routes]
