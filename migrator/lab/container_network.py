"""The network of the lab's containers: one segment over all hosts, and the CNI configuration that joins it.

Each host has a bridge with a cable of its own to the lab's switch, so a container keeps its address wherever it runs.
Each host gives out addresses of a range of its own: no address is given out twice.
"""

from __future__ import annotations

import json

from migrator.lab.layout import CONTROL, GREEK

NAME = "lab"
BRIDGE = "cni0"
CABLE = "eth1"
PREFIX_BITS = 16
CONFIG_FILE = "/etc/cni/net.d/10-lab.conflist"


def address_of(host: str) -> str:
    """Return a host's own IPv4 address among the containers."""
    return "10.78.0.2" if host == CONTROL else f"10.78.0.{11 + GREEK.index(host)}"


def join_commands(host: str) -> tuple[str, ...]:
    """Commands for `ip -batch` in a host's network; its cable is plugged in already."""
    if host == CONTROL:
        return (f"address add {address_of(host)}/{PREFIX_BITS} dev {CABLE}", f"link set {CABLE} up")
    return (
        f"link add name {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link set {CABLE} master {BRIDGE} up",
        f"address add {address_of(host)}/{PREFIX_BITS} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )


def cni_config(host: str) -> str:
    """Write the CNI configuration of a host."""
    own = 1 + GREEK.index(host)
    addresses = {"subnet": "10.78.0.0/16", "rangeStart": f"10.78.{own}.10", "rangeEnd": f"10.78.{own}.250"}
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "capabilities": {"ips": True, "mac": True},
        "ipam": {"type": "host-local", "ranges": [[addresses]]},
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "1.0.0", "name": NAME, "plugins": [bridge, portmap]}, indent=2)
