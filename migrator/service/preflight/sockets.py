"""Sockets of kinds that CRIU does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.subject import Subject

KNOWN_TO_CRIU = frozenset(
    {"TCP", "UDP", "UDP-Lite", "UDPLITE", "RAW", "UNIX", "UNIX-STREAM", "NETLINK", "PACKET", "PING"}
)
REMEDIES = {
    "MPTCP": "let it use plain TCP; for Go programs set GODEBUG=multipathtcp=0",
}


def check_sockets(subject: Subject) -> Iterator[Finding]:
    """CRIU knows TCP, UDP, ping, raw, unix, netlink and packet sockets; not MPTCP, SCTP, vsock and others."""
    for process in subject.processes:
        protocols = {file.protocol.removesuffix("v6") for file in process.files if file.protocol}
        for protocol in sorted(protocols - KNOWN_TO_CRIU):
            fault = f"has a {protocol} socket open ({process})"
            remedy = REMEDIES.get(protocol, "let the program close it")
            yield subject.refusal("sockets", "unknown_socket", fault, remedy)


def check_netlink(subject: Subject) -> Iterator[Finding]:
    """What waits in a netlink socket cannot be dumped; mostly it is gone a moment later."""
    for process in subject.processes:
        mine = {file.target for file in process.files if file.protocol == "NETLINK"}
        if mine and mine & set(_unread_netlink(process.pid)):
            fault = f"{process} has not yet read what waits in a netlink socket: the dump fails if it stays so"
            yield Finding("netlink", Grade.WARN, fault, "netlink_data", "try again if it fails")


def parse_netlink(table: str) -> Iterator[str]:
    """Give every socket with unread data, as /proc/PID/fd shows it, from /proc/PID/net/netlink."""
    for line in table.splitlines()[1:]:
        _, _, _, _, unread_bytes, *_, inode = line.split()
        if unread_bytes != "0":
            yield f"socket:[{inode}]"


def _unread_netlink(pid: int) -> Iterator[str]:
    with suppress(OSError):
        yield from parse_netlink(Path(f"/proc/{pid}/net/netlink").read_text())
