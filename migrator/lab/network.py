"""The lab's network: a bridge in a namespace of its own and two cables to each host, one of them for its containers.

The machine's own network is untouched: nothing of the lab ever appears in it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from migrator.errors import InternalError, PreconditionFailed
from migrator.lab.container_network import CABLE, join_commands
from migrator.lab.layout import PREFIX_BITS, SWITCH_ADDRESS, Layout, address_of, mac_of

BRIDGE = "lab0"
COMMAND_TIMEOUT_S = 20.0


def ensure_switch(layout: Layout) -> None:
    """Make the switch unless it is there."""
    if _is_namespace(layout.switch):
        return
    _make_namespace(layout.switch)
    _ip(
        layout.switch,
        "link set lo up",
        # No spanning tree, no multicast querier: the lab is one quiet segment.
        f"link add name {BRIDGE} address 02:4d:47:00:00:01 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        f"address add {SWITCH_ADDRESS}/{PREFIX_BITS} dev {BRIDGE}",
        f"link set {BRIDGE} up",
    )


def plug_in(layout: Layout, host: str) -> None:
    """Make a host's network namespace and its cable to the switch, both afresh."""
    unplug(layout, host)
    network = layout.network_of(host)
    _make_namespace(network)
    _ip(
        layout.switch,
        f"link add c-{host} type veth peer name eth0 address {mac_of(host)} netns {network}",
        f"link set c-{host} master {BRIDGE} up",
        f"link add n-{host} type veth peer name {CABLE} netns {network}",
        f"link set n-{host} master {BRIDGE} up",
    )
    _ip(
        network,
        "link set lo up",
        f"address add {address_of(host)}/{PREFIX_BITS} dev eth0",
        "link set eth0 up",
        *join_commands(host),
    )


def unplug(layout: Layout, host: str) -> None:
    """Remove a host's network namespace, and with it the cable. Harmless when there is none."""
    _drop_namespace(layout.network_of(host))
    for cable in (f"c-{host}", f"n-{host}"):
        if _is_namespace(layout.switch) and f" {cable}@" in _cables(layout):
            # The kernel takes the cable away a moment after the namespace: do not wait for it.
            _ip(layout.switch, f"link delete {cable}", may_fail=True)


def remove_all(layout: Layout) -> None:
    """Remove every namespace of the lab that is on disk."""
    directory = layout.switch.parent
    for file in sorted(directory.glob("*")) if directory.is_dir() else ():
        _drop_namespace(file)


def _cables(layout: Layout) -> str:
    return _run(["nsenter", f"--net={layout.switch}", "ip", "-o", "link", "show"])


def _make_namespace(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    try:
        _run(["unshare", f"--net={file}", "true"])
    except InternalError as error:
        raise PreconditionFailed(
            f"cannot make a network namespace: {error.message}",
            code="no_network_namespaces",
            remedy="use a kernel with CONFIG_NET_NS, and a container with CAP_SYS_ADMIN",
        ) from error


def _drop_namespace(file: Path) -> None:
    while _is_namespace(file):
        _run(["umount", "--lazy", str(file)])
    file.unlink(missing_ok=True)


def _is_namespace(file: Path) -> bool:
    return any(line.split()[4] == str(file) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _ip(network: Path, *commands: str, may_fail: bool = False) -> None:
    force = ["-force"] if may_fail else []
    _run(["nsenter", f"--net={network}", "ip", *force, "-batch", "-"], "\n".join(commands) + "\n", may_fail=may_fail)


def _run(command: list[str], text: str = "", *, may_fail: bool = False) -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode and not may_fail:
        raise InternalError(f"{' '.join(command[:4])} …: {done.stderr.strip()}", code="lab_network")
    return done.stdout
