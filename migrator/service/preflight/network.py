"""The network of a container: whether it can follow it to another host."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.values import JobRequest, NetworkPolicy
from migrator.service.host import Act
from migrator.service.network.attachment import Attachment, read_attachment
from migrator.service.network.handover import namespace_of
from migrator.service.network.links import LOOPBACK, bridge_of, read_links
from migrator.service.network.plugins import find_attachment, plugin_for
from migrator.service.network.sysctls import missing_sysctls
from migrator.service.preflight.arrival import Arrival, replaced
from migrator.service.preflight.connections import uses_host_network
from migrator.service.preflight.subject import Subject

SYSCTLS = "sysctls"
"""Fact of the source: the names of the kernel's settings that its spec makes for its network."""
NAMED = re.compile(r"(/var)?/run/netns/[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""Where a target can make a namespace for it."""
OWN = "start it without a network, or in one CNI network"


def check_network(subject: Subject) -> Iterator[Finding]:
    """Every interface must be one that a plug-in knows, and can be cut off while the container moves."""
    found, path = interfaces(subject), joined_path(subject.spec)
    if path and not (found and NAMED.fullmatch(path)):
        fault = f"joins a network namespace made by somebody else ({path})"
        yield subject.refusal("network", "joined_namespace", fault, OWN)
        return
    if path and _shares(subject):
        fault = f"shares its network namespace ({path}) with other containers"
        yield subject.refusal("network", "shared_namespace", fault, OWN)
    if found:
        yield from _judge_interfaces(subject, found)


def _judge_interfaces(subject: Subject, found: list[str]) -> Iterator[Finding]:
    attachment = attachment_of(subject)
    others = [name for name in found if attachment is None or name != attachment.interface]
    if others:
        fault = f"has network interfaces that no network plug-in knows ({', '.join(others)})"
        yield subject.refusal("network", "unknown_network", fault, OWN)
    elif attachment and not attachment.host_link:
        fault = f"has an interface {attachment.interface} that is no veth pair"
        yield subject.refusal("network", "unsupported_interface", fault, OWN)
    elif attachment and bridge_of(attachment.host_link) is None:
        # Its routes on the host would go when its other end goes down, and not come back.
        fault = f"has an interface {attachment.interface} that is routed, not bridged"
        yield subject.refusal("network", "unsupported_interface", fault, "use a network of the plug-in `bridge`")


def _shares(subject: Subject) -> bool:
    """Whether another task of its containerd namespace lives in the same network."""
    mine = namespace_of(subject.task.pid).stat().st_ino
    others = [task.pid for task in subject.runtime.tasks() if task.pid and task.id != subject.container.id]
    return any(_inode(pid) == mine for pid in others)


def _inode(pid: int) -> int | None:
    try:
        return namespace_of(pid).stat().st_ino
    except OSError:
        return None


def check_attachment(arrival: Arrival) -> Iterator[Finding]:
    """Whether this host can take the container in, with its addresses and published ports."""
    wanted = wanted_attachment(arrival)
    if arrival.request.kind is JobKind.REWIND:
        yield from _compare_attachments(wanted, read_attachment(replaced(arrival).get("network")))
    elif wanted is not None:
        yield from plugin_for(wanted).examine(wanted)


def _compare_attachments(wanted: Attachment | None, running: Attachment | None) -> Iterator[Finding]:
    """What is rewound gets the place in the network that what runs gives up: the program must know it as its own."""
    same = (None if known is None else _identity(known) for known in (wanted, running))
    first, second = same
    if first != second:
        message = f"the checkpoint was connected as {_told(wanted)}, and what runs is as {_told(running)}"
        remedy = "restore it under another name, which gets another address (--name), or remove the container first"
        yield Finding("network", Grade.FAIL, message, "address_changed", remedy)


def _identity(known: Attachment) -> tuple[object, ...]:
    """What the program, its peers and the network know it by."""
    network = (known.plugin, known.network, known.container_id, known.namespace_path)
    return (*network, known.interface, known.mac, known.addresses)


def _told(known: Attachment | None) -> str:
    if known is None:
        return "no network of its own"
    return f"{', '.join(known.plain_addresses)} ({known.mac}) in '{known.network}'"


def check_sysctls(arrival: Arrival) -> Iterator[Finding]:
    """Whether this host's kernel knows the settings of the container's network."""
    yield from judge_sysctls(arrival.facts.get(SYSCTLS, []))


def judge_sysctls(names: Iterable[str]) -> Iterator[Finding]:
    """Compare them with what is here."""
    if missing := missing_sysctls(names):
        message = f"this host's kernel does not know what the container's spec sets: {', '.join(missing)}"
        yield Finding(
            "sysctls", Grade.FAIL, message, "sysctl_missing", "load the module that brings it, or leave it out"
        )


def wanted_attachment(act: Act | Arrival) -> Attachment | None:
    """How the container shall be connected on its target; a copy under another name gets an address of its own."""
    found = read_attachment(act.facts.get("network"))
    if found is None or is_alone(act.request):
        return None
    found = replace(found, host_link="")
    if not act.request.new_name:
        return found
    return replace(
        found,
        container_id=f"{act.request.namespace}-{act.request.new_name}",
        addresses=(),
        routes=(),
        namespace_path="",
    )


def is_alone(request: JobRequest) -> bool:
    """Whether what is restored must reach nobody, and nobody it."""
    return request.kind is JobKind.DRILL or request.network is NetworkPolicy.NONE


def attachment_of(subject: Subject) -> Attachment | None:
    """How a container is connected; None for one without a network of its own, or with an empty one."""
    found = find_attachment(namespace_of(subject.task.pid)) if interfaces(subject) else None
    return replace(found, namespace_path=joined_path(subject.spec)) if found else None


def joined_path(spec: dict[str, Any]) -> str:
    """The path of a network namespace that the container joins; empty if it has one of its own."""
    namespaces = spec.get("linux", {}).get("namespaces", [])
    return next((str(each.get("path") or "") for each in namespaces if each["type"] == "network"), "")


def interfaces(subject: Subject) -> list[str]:
    """The interfaces of a network namespace of its own, but for the loopback."""
    if uses_host_network(subject.spec):
        return []
    found = read_links(namespace_of(subject.task.pid))
    return [str(link["ifname"]) for link in found if link["ifname"] != LOOPBACK and _is_real(link)]


def _is_real(link: dict[str, object]) -> bool:
    """Not one of those that the kernel makes in every namespace when their module is loaded, such as `tunl0`."""
    flags = link.get("flags")
    return isinstance(flags, list) and "UP" in flags
