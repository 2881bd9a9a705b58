"""Open TCP connections, and sockets in a network that the container shares with its host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from migrator.models.phase import JobKind
from migrator.models.preflight import Finding, Grade
from migrator.models.values import TcpPolicy
from migrator.service.network.links import own_addresses
from migrator.service.network.sockets import Endpoint, Socket, await_accepted, held_by, read_sockets
from migrator.service.network.translation import translated
from migrator.service.preflight.arrival import Arrival, restored_name
from migrator.service.preflight.subject import Subject

MOVES = (JobKind.MIGRATION, JobKind.PREFLIGHT)
"""A checkpoint leaves the program where it is, with its connections."""
SHOWN = 5
"""So many connections are named; the rest is counted."""
ACCEPTING_S = 0.5
CLOSE_THEM = "close them first, or let them be closed: --tcp close"


def check_connections(subject: Subject) -> Iterator[Finding]:
    """What the job says about open connections, and whether that can be."""
    found = [each for each in task_sockets(subject) if each.connected]
    if not found or subject.request.tcp is TcpPolicy.CLOSE:
        return
    told = _told(found)
    if subject.request.tcp is TcpPolicy.REFUSE:
        fault = f"has open TCP connections ({told}), which the job refuses,"
        yield subject.refusal("connections", "open_connections", fault, "close them first, or ask with --tcp keep")
    elif uses_host_network(subject.spec):
        fault = f"uses its host's network and has open TCP connections ({told}), whose address stays behind,"
        yield subject.refusal("connections", "host_network_connections", fault, CLOSE_THEM)
    elif subject.request.kind in MOVES and (through_host := translated(found)):
        fault = f"has open TCP connections by an address of its host, which stays behind ({_told(through_host)}),"
        yield subject.refusal("connections", "translated_connections", fault, CLOSE_THEM)


def check_waiting(subject: Subject) -> Iterator[Finding]:
    """Connections that nobody accepts; CRIU cannot dump them."""
    pids = [process.pid for process in subject.task.pids()] if uses_host_network(subject.spec) else None
    waiting = await_accepted(Path(f"/proc/{subject.task.pid}"), ACCEPTING_S, pids)
    if waiting:
        fault = f"does not accept the connections that wait at {waiting[0].local}"
        yield subject.refusal("waiting", "connections_waiting", fault, "try again when it does")


def task_sockets(subject: Subject) -> list[Socket]:
    """The sockets of a network of the container's own, or those it holds in its host's."""
    found = read_sockets(Path(f"/proc/{subject.task.pid}"))
    if not uses_host_network(subject.spec):
        return found
    return held_by(found, [process.pid for process in subject.task.pids()])


def dumps_connections(subject: Subject) -> bool:
    """Whether CRIU is told to dump connections; one that comes up after this look is refused otherwise."""
    policy = subject.request.tcp
    return policy is TcpPolicy.CLOSE or (policy is TcpPolicy.KEEP and not uses_host_network(subject.spec))


def host_endpoints(subject: Subject) -> list[Endpoint]:
    """Where a container with host networking waits for others: these must be free on its target."""
    if not uses_host_network(subject.spec):
        return []
    return list(dict.fromkeys(found.local for found in task_sockets(subject) if found.waiting))


def uses_host_network(spec: dict[str, object]) -> bool:
    """Whether a container has no network namespace of its own (OCI runtime spec, namespaces)."""
    linux = spec.get("linux")
    namespaces = linux.get("namespaces", []) if isinstance(linux, dict) else []
    return "network" not in {namespace.get("type") for namespace in namespaces}


def check_kept_connections(arrival: Arrival) -> Iterator[Finding]:
    """What the job says about the open connections that a checkpoint holds."""
    held = (arrival.facts.get("criu_options") or {}).get("tcp", TcpPolicy.REFUSE) != TcpPolicy.REFUSE
    if held and arrival.request.tcp is TcpPolicy.REFUSE:
        remedy = "restore it with --tcp close, or keep"
        message = "the checkpoint holds open TCP connections, which the job refuses"
        yield Finding("kept-connections", Grade.FAIL, message, "open_connections", remedy)


def check_endpoints(arrival: Arrival) -> Iterator[Finding]:
    """Whether what a container with host networking waits on can be bound on this host, its target."""
    wanted = [Endpoint(**told) for told in arrival.facts.get("endpoints", [])]
    if wanted:
        yield from judge_endpoints(restored_name(arrival), wanted, own_addresses())


def judge_endpoints(container: str, wanted: Iterable[Endpoint], addresses: frozenset[str]) -> Iterator[Finding]:
    """Compare them with what is bound here."""
    taken = [found.local for found in read_sockets(Path("/proc/self")) if found.waiting]
    for endpoint in wanted:
        message = ""
        if any(endpoint.meets(other) for other in taken):
            message, code = f"{endpoint} is taken on this host", "port_taken"
        elif endpoint.address not in addresses:
            message, code = f"this host has no address {endpoint.address}", "address_missing"
        if message:
            remedy = f"container '{container}' uses its host's network: free it here, or choose another target"
            yield Finding("endpoints", Grade.FAIL, message, code, remedy)


def _told(connections: list[Socket]) -> str:
    names = [
        f"{found.local.address}:{found.local.port}–{found.remote.address}:{found.remote.port}"
        for found in connections[:SHOWN]
    ]
    more = len(connections) - SHOWN
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
