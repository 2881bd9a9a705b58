"""What runs on lab hosts: one description for each service. Facts about the programs' own options stand beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

INSIDE_LIB = "/opt/migrator/lib"
INSIDE_DEPS = "/opt/migrator/deps"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL_ENVIRONMENT = {
    "PATH": f"{PATH}:{INSIDE_DEPS}/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"{INSIDE_LIB}:{INSIDE_DEPS}",
    "PYTHONDONTWRITEBYTECODE": "1",
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
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.differ.v1.erofs",
]
[grpc]
  address = "/run/containerd/containerd.sock"
"""


@dataclass(frozen=True)
class ServiceSpec:
    """How to start a service and how to see that it is ready."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=lambda: dict(SHELL_ENVIRONMENT))
    user: str | None = None
    probe: dict[str, Any] | None = None
    """What init's `probe` is asked: `path` or `address`, then `send` and `expect`. None: ready when it runs."""
    deadline_s: float = 20.0
    files: dict[str, str] = field(default_factory=dict)
    """Files to write in the host before the start, mode 0600: absolute path → text."""


def containerd() -> ServiceSpec:
    """Describe containerd with its socket at the usual place."""
    return ServiceSpec(
        name="containerd",
        argv=("containerd", "--config", "/run/lab/containerd.toml", "--log-level", "info"),
        probe={"path": "/run/containerd/containerd.sock"},
        files={"/run/lab/containerd.toml": CONTAINERD_CONFIG},
    )
