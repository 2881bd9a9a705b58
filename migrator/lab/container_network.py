"""The network of the lab's containers: one segment over all hosts, and the CNI configuration that joins it.

Each host has a bridge with a cable of its own to the lab's switch, so a container keeps its address wherever it runs.
Each host gives out addresses of ranges of its own, IPv4 and, where the machine has it, IPv6: none is given out twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from migrator.lab.layout import CONTROL, GREEK

NAME = "lab"
BRIDGE = "cni0"
CABLE = "eth1"
PREFIX_BITS = 16
SUBNET_6 = "fd4d:4700:78"
PREFIX_BITS_6 = 48
CONFIG_FILE = "/etc/cni/net.d/10-lab.conflist"


def address_of(host: str) -> str:
    """Return a host's own IPv4 address among the containers."""
    return "10.78.0.2" if host == CONTROL else f"10.78.0.{11 + GREEK.index(host)}"


def address_6_of(host: str) -> str:
    """Return a host's own IPv6 address among the containers."""
    return f"{SUBNET_6}::2" if host == CONTROL else f"{SUBNET_6}::{11 + GREEK.index(host)}"


def has_ipv6() -> bool:
    """Whether this machine's kernel speaks IPv6."""
    return Path("/proc/net/if_inet6").exists()


def join_commands(host: str) -> tuple[str, ...]:
    """Commands for `ip -batch` in a host's network; its cable is plugged in already."""
    if host == CONTROL:
        return (*_own_addresses(host, CABLE), f"link set {CABLE} up")
    return (
        f"link add name {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link set {CABLE} master {BRIDGE} up",
        *_own_addresses(host, BRIDGE),
        f"link set {BRIDGE} up",
    )


def cni_config(host: str) -> str:
    """Write the CNI configuration of a host."""
    own = 1 + GREEK.index(host)
    ranges: list[list[dict[str, Any]]] = [
        [{"subnet": "10.78.0.0/16", "rangeStart": f"10.78.{own}.10", "rangeEnd": f"10.78.{own}.250"}]
    ]
    if has_ipv6():
        first, last = f"{SUBNET_6}:{own}::10", f"{SUBNET_6}:{own}::250"
        ranges.append([{"subnet": f"{SUBNET_6}::/{PREFIX_BITS_6}", "rangeStart": first, "rangeEnd": last}])
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "capabilities": {"ips": True, "mac": True},
        "ipam": {"type": "host-local", "ranges": ranges},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": NAME, "plugins": [bridge, portmap]}, indent=2)


def _own_addresses(host: str, interface: str) -> tuple[str, ...]:
    four = f"address add {address_of(host)}/{PREFIX_BITS} dev {interface}"
    six = f"address add {address_6_of(host)}/{PREFIX_BITS_6} dev {interface} nodad"
    return (four, six) if has_ipv6() else (four,)
