"""Network namespaces and what is in them, by iproute2's `ip`."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from migrator.errors import Unavailable

ANSWER_S = 10.0
CARRIER_S = 0.2
ANY = ("0.0.0.0", "::")
LOOPBACK = "lo"
Link = dict[str, Any]


def own_addresses() -> frozenset[str]:
    """The addresses that a socket can be bound to on this host."""
    found = {str(address["local"]) for link in read_links() for address in link["addr_info"] if "local" in address}
    return frozenset({*found, *ANY})


def read_links(namespace: Path | None = None) -> list[Link]:
    """Describe the interfaces of a network namespace, or of this host, as `ip -json -details address` does.

    Raises:
        Unavailable: `network_failed`.
    """
    found: list[Link] = json.loads(run(["ip", "-json", "-details", "address", "show"], namespace) or "[]")
    return [{"addr_info": [], **link} for link in found if link]


def read_routes(namespace: Path, interface: str) -> Iterator[tuple[str, str]]:
    """Give destination and gateway of the routes over an interface that do not follow from its addresses."""
    for family in ("-4", "-6"):
        text = run(["ip", family, "-json", "route", "show", "dev", interface], namespace)
        for route in json.loads(text or "[]"):
            if route.get("protocol") not in ("kernel", "ra") and route.get("type", "unicast") == "unicast":
                yield str(route["dst"]), str(route.get("gateway", ""))


def host_end(link: Link) -> str | None:
    """Find the interface of this host that is the other end of a veth pair; None for other kinds."""
    if link.get("linkinfo", {}).get("info_kind") != "veth" or "link_index" not in link:
        return None
    ends = (link["link_index"], link["ifindex"])
    return next((str(end["ifname"]) for end in read_links() if (end["ifindex"], end.get("link_index")) == ends), None)


def bridge_of(name: str) -> Link | None:
    """Find the bridge of this host that an interface belongs to; None if it belongs to none."""
    found = {link["ifname"]: link for link in read_links()}
    return found.get(found.get(name, {}).get("master", ""))


def set_link(name: str, state: str) -> None:
    """Set an interface of this host `up` or `down`; one that is gone is fine.

    Raises:
        Unavailable: `network_failed`.
    """
    if has_link(name):
        run(["ip", "link", "set", "dev", name, state])


def await_carrier(name: str, limit_s: float = CARRIER_S) -> None:
    """Wait until an interface that was set up carries something, as the kernel finds out a little later.

    What the container sends before is dropped, and a restored connection sends again only after a second.
    """
    state, deadline = Path("/sys/class/net", name, "operstate"), time.monotonic() + limit_s
    with suppress(OSError):  # it is gone
        while state.read_text().strip() != "up" and time.monotonic() < deadline:
            time.sleep(0.001)


def forget_neighbours(namespace: Path, interface: str) -> None:
    """Let an interface ask anew who its neighbours are.

    A connection that is restored speaks at once, while nobody can be reached yet. The kernel then asks for its
    neighbour only a second later, and the connection waits for that. Where it cannot be told, it waits.
    """
    with suppress(Unavailable):
        run(["ip", "neighbour", "flush", "dev", interface, "nud", "all"], namespace)


def has_link(name: str) -> bool:
    """Whether this host has an interface of that name."""
    return bool(name) and Path("/sys/class/net", name).exists()


def make_namespace(file: Path) -> None:
    """Make an empty network namespace that a file holds; one that is there is kept."""
    if not is_namespace(file):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch()
        run(["unshare", f"--net={file}", "true"])


def drop_namespace(file: Path) -> None:
    """Let go of a network namespace; what is in it goes unless somebody else holds it."""
    while is_namespace(file):
        run(["umount", "--lazy", str(file)])
    file.unlink(missing_ok=True)


def is_namespace(file: Path) -> bool:
    """Whether a file holds a namespace, and is not just a file."""
    place = os.path.realpath(file)  # /var/run is a link to /run, and the kernel tells where a mount really is
    return any(line.split()[4] == place for line in Path("/proc/self/mountinfo").read_text().splitlines())


def run(command: list[str], namespace: Path | None = None, text: str = "") -> str:
    """Run a program, in a network namespace if one is given, and return what it prints.

    Raises:
        Unavailable: `network_failed`, with its last words.
    """
    inside = [*(["nsenter", f"--net={namespace}"] if namespace else []), *command]
    try:
        done = subprocess.run(inside, input=text, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"`{' '.join(command)}` failed: {error}", code="network_failed") from error
    if done.returncode:
        words = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
        raise Unavailable(f"`{' '.join(command)}` failed: {words}", code="network_failed")
    return done.stdout
