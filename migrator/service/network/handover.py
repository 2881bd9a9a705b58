"""How a container's interface goes from one host to another, whatever kind of networking it is of.

On the source it is cut off by its other end on the host, when the task is frozen: from then on nothing is acknowledged,
refused or answered for the container, and nothing that a peer sends is lost, because a peer sends again what nobody
acknowledges. It is joined again when the task is resumed.

On the target the interface is made before the freeze, in a waiting room: a namespace of its own that says nothing, with
the other end down. A hook of the restored container takes it from there. The other end comes up when the task runs.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrator.errors import PreconditionFailed
from migrator.service.network.announcement import announce, is_answered
from migrator.service.network.attachment import Attachment, pack_attachment, read_attachment
from migrator.service.network.links import (
    await_carrier,
    bridge_of,
    drop_namespace,
    forget_neighbours,
    has_link,
    host_end,
    make_namespace,
    read_links,
    run,
    set_link,
)
from migrator.service.network.plugins import plugin_for
from migrator.storage.durable import write_durably

NO_SILENCE = """
table arp migrator
delete table arp migrator
table inet migrator
delete table inet migrator
"""
"""Naming a table makes it if it is not there, so that it can be deleted."""
SILENCE = (
    NO_SILENCE
    + """
table arp migrator {
    chain input { type filter hook input priority 0; policy drop; }
    chain output { type filter hook output priority 0; policy drop; }
}
table inet migrator {
    chain input { type filter hook input priority 0; policy drop; }
    chain output { type filter hook output priority 0; policy drop; }
}
"""
)
HOOK_S = 10
READ_PID = """pid=$(sed -n 's/.*"pid": *\\([0-9]*\\).*/\\1/p')"""
"""A hook gets the container's state as JSON on its standard input (OCI runtime spec, hooks)."""


def cut_off(attachment: Attachment) -> None:
    """Let nothing out of the container and nothing into it.

    Raises:
        Unavailable: `network_failed`.
    """
    set_link(attachment.host_link, "down")


def join(attachment: Attachment, pid: int) -> None:
    """Let a task that runs be reached, and tell everybody where it is.

    Raises:
        Unavailable: `network_failed`.
    """
    namespace = namespace_of(pid)
    other_end = _other_end(attachment, namespace)
    set_link(other_end, "up")
    await_carrier(other_end)
    forget_neighbours(namespace, attachment.interface)
    announce(namespace, attachment.interface, attachment.mac, attachment.plain_addresses)


def _other_end(attachment: Attachment, namespace: Path) -> str:
    """The interface on this host: as it was noted, or as it is called since a former attempt used up that one."""
    if has_link(attachment.host_link) or not namespace.exists():
        return attachment.host_link
    inside = [link for link in read_links(namespace) if link["ifname"] == attachment.interface]
    return next((end for link in inside if (end := host_end(link))), attachment.host_link)


def namespace_of(pid: int) -> Path:
    """The network namespace of a process."""
    return Path(f"/proc/{pid}/ns/net")


@dataclass(frozen=True, slots=True)
class Room:
    """Where an interface waits for its container on the target, for one job."""

    marker: Path
    """Says what waits. As long as it is there, the job has something of the network here, also after a reboot."""
    namespace: Path
    """A namespace of the job's own, or the place where the container expects one that others made."""
    is_the_containers: bool
    """Whether the container joins the room itself, instead of taking the interface out of it."""

    @classmethod
    def of(cls, marker: Path, namespaces: Path, attachment: Attachment) -> Room:
        """Return the room of an attachment; its marker bears the job's name."""
        joined = attachment.namespace_path
        return cls(marker, Path(joined or namespaces / marker.stem), bool(joined))


def prepare(room: Room, wanted: Attachment) -> Attachment:
    """Make the interface in a waiting room, unless it is there.

    Raises:
        PreconditionFailed: The network cannot have it, or `namespace_taken`.
        Unavailable: `network_failed`.
    """
    _open(room, wanted)
    if wanted.host_link and any(link["ifname"] == wanted.interface for link in read_links(room.namespace)):
        return wanted
    run(["nft", "-f", "-"], room.namespace, SILENCE)
    made = plugin_for(wanted).prepare(wanted, room.namespace)
    if made.host_link and bridge_of(made.host_link) is None:
        raise PreconditionFailed(
            f"network '{made.network}' here routes to its containers instead of bridging them",
            code="unsupported_interface",
            remedy="choose a target where it is a network of the plug-in `bridge`",
        )
    cut_off(made)
    return replace(made, namespace_path=wanted.namespace_path)


def check_unanswered(made: Attachment) -> None:
    """Make sure that nobody on the segment has the address of a container that a checkpoint brings back.

    Raises:
        PreconditionFailed: `address_in_use`.
    """
    bridge = bridge_of(made.host_link)
    answered = [a for a in made.plain_addresses if bridge and is_answered(bridge["ifname"], bridge["address"], a)]
    if answered:
        raise PreconditionFailed(
            f"somebody answers for {answered[0]} in network '{made.network}'",
            code="address_in_use",
            remedy="stop the container that has it, or restore under another name, which gets another address",
        )


def furnish(room: Room, attachment: Attachment) -> None:
    """Set up the interface in a room that the container joins as it is; its other end is down."""
    run(["ip", "-batch", "-"], room.namespace, "\n".join(set_up_commands(attachment)) + "\n")
    run(["nft", "-f", "-"], room.namespace, NO_SILENCE)


def give_back(room: Room, attachment: Attachment) -> None:
    """Take back what `prepare` made; without a marker the job has made nothing here."""
    if room.marker.exists():
        plugin_for(attachment).detach(attachment, room.namespace)
        drop_namespace(room.namespace)
        room.marker.unlink(missing_ok=True)


def abandon(marker: Path, namespaces: Path) -> None:
    """Take back what a job left that is over; an interface that a container has got by now is the container's."""
    attachment = read_attachment(json.loads(marker.read_text()))
    if attachment is None:
        return
    room = Room.of(marker, namespaces, attachment)
    if plugin_for(attachment).waits(attachment, room.namespace):
        give_back(room, attachment)
    else:
        leave(room)


def leave(room: Room) -> None:
    """Forget a room that the container has taken its interface from, or has moved into."""
    if not room.is_the_containers:
        drop_namespace(room.namespace)
    room.marker.unlink(missing_ok=True)


def _open(room: Room, wanted: Attachment) -> None:
    if not room.marker.exists():
        if room.namespace.exists():
            raise PreconditionFailed(
                f"there is a namespace {room.namespace} here already",
                code="namespace_taken",
                remedy="remove it, or choose another target",
            )
        room.marker.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(room.marker, json.dumps(pack_attachment(wanted)), room.marker.with_suffix(".new"))
    make_namespace(room.namespace)


def interface_hook(room: Room, attachment: Attachment, commands: Path) -> dict[str, Any]:
    """Make the hook that moves the interface from the waiting room into the container, and sets it up there."""
    commands.write_text("".join(f"{line}\n" for line in set_up_commands(attachment)))
    there = f"nsenter --net={shlex.quote(str(room.namespace))}"
    script = (
        f'{READ_PID} && {there} ip link set dev {attachment.interface} netns "$pid" && '
        f'nsenter --net="/proc/$pid/ns/net" ip -batch {shlex.quote(str(commands))}'
    )
    environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": environment, "timeout": HOOK_S}


def set_up_commands(attachment: Attachment) -> list[str]:
    """What `ip -batch` is told: an interface loses its addresses and routes when it goes to another namespace."""
    name = attachment.interface
    addresses = [f"address replace {a} dev {name}{' nodad' if ':' in a else ''}" for a in attachment.addresses]
    routes = [
        f"route replace {route.destination}{f' via {route.gateway}' if route.gateway else ''} dev {name}"
        for route in attachment.routes
    ]
    link = f"link set dev {name} address {attachment.mac} mtu {attachment.mtu}"
    return ["link set dev lo up", link, *addresses, f"link set dev {name} up", *routes]
