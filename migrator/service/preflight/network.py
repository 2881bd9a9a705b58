"""The network of a container: whether it can follow it to another host."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.models.preflight import Finding
from migrator.service.network.attachment import Attachment
from migrator.service.network.handover import namespace_of
from migrator.service.network.links import LOOPBACK, read_links
from migrator.service.network.plugins import find_attachment
from migrator.service.preflight.connections import uses_host_network
from migrator.service.preflight.subject import Subject

OWN = "start it without a network, or in one CNI network"


def check_network(subject: Subject) -> Iterator[Finding]:
    """Every interface must be one that a plug-in knows, and can be cut off while the container moves."""
    found = interfaces(subject)
    if not found:
        return
    attachment = attachment_of(subject)
    others = [name for name in found if attachment is None or name != attachment.interface]
    if others:
        fault = f"has network interfaces that no network plug-in knows ({', '.join(others)})"
        yield subject.refusal("network", "unknown_network", fault, OWN)
    elif attachment and not attachment.host_link:
        fault = f"has an interface {attachment.interface} that is no veth pair"
        yield subject.refusal("network", "unsupported_interface", fault, OWN)


def attachment_of(subject: Subject) -> Attachment | None:
    """How a container is connected; None for one without a network of its own, or with an empty one."""
    return find_attachment(namespace_of(subject.task.pid)) if interfaces(subject) else None


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
