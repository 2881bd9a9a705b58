"""How a service of a lab host is described, and the one every host has: containerd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from migrator.lab.container_network import CONFIG_FILE, cni_config

INSIDE_LIB = "/opt/migrator/lib"
INSIDE_DEPS = "/opt/migrator/deps"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL_ENVIRONMENT: Mapping[str, str] = {
    "PATH": f"{PATH}:{INSIDE_DEPS}/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"{INSIDE_LIB}:{INSIDE_DEPS}",
}
CONTAINERD_CONFIG = """\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# No Kubernetes here, and only the snapshotter we use: containerd is ready in a fraction of the time.
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs", "io.containerd.differ.v1.erofs",
]
[grpc]
  address = "/run/containerd/containerd.sock"
"""


@dataclass(frozen=True)
class Probe:
    """One question that a ready service answers: connect, send a line, find a word. Asked from inside the host."""

    path: str | None = None
    """A unix socket, or"""
    address: tuple[str, int] | None = None
    """an IPv4 address and port."""
    send: str = ""
    expect: str = ""


@dataclass(frozen=True)
class ServiceSpec:
    """How to start a service and how to see that it is ready."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: dict(SHELL_ENVIRONMENT))
    probes: tuple[Probe, ...] = ()
    """All must be answered; with none, the service is ready when it runs."""
    deadline_s: float = 20.0
    files: Mapping[str, str] = field(default_factory=dict)
    """Written in the host before the start, mode 0600: absolute path → text."""
    directories: tuple[str, ...] = ()
    """Made in the host before the start."""
    user: str | None = None
    """Runs as this user instead of root; owns `files` and `directories`."""
    product: bool = False
    """True for the project's own processes, which start when everything they need is ready."""


def containerd(host: str) -> ServiceSpec:
    """Describe containerd, with its socket at the usual place, and the network that its containers may join."""
    return ServiceSpec(
        name="containerd",
        argv=("containerd", "--config", "/run/lab/containerd.toml", "--log-level", "info"),
        probes=(Probe(path="/run/containerd/containerd.sock"),),
        files={"/run/lab/containerd.toml": CONTAINERD_CONFIG, CONFIG_FILE: cni_config(host)},
    )
