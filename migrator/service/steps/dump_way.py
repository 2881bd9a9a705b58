"""Whether a container can be dumped without its pages: by runc itself, whose way that is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from migrator.containerd import Container
from migrator.criu.pageless import Runtime, is_runc, lock_option
from migrator.gen.containerd.runc.v1 import options_pb2
from migrator.models.phase import JobKind
from migrator.models.values import StorePath
from migrator.service.host import Act, Host

PAGELESS_KINDS = (JobKind.MIGRATION, JobKind.BACKUP)
"""A checkpoint by hand is kept whole, and what runs before a rewind is brought back from its images."""
RUNC = "runc"
RUNTIME_NAME = "io.containerd.runc.v2"
RUNTIME_ROOT = Path("/run/containerd/runc")


@dataclass(frozen=True, slots=True)
class Way:
    """How a task is dumped.

    Args:
        runtime: The runc that can do it without pages; None if it cannot be done.
        why: Why not.
    """

    runtime: Runtime | None
    why: str = ""


def choose_way(host: Host, act: Act, container: Container) -> Way:
    """Say whether a container can be dumped without its pages."""
    if act.request.kind not in PAGELESS_KINDS:
        return Way(None, f"a {act.request.kind.value} needs whole images")
    if act.request.path is not StorePath.CHUNKS:
        return Way(None, "its memory goes as one archive")
    if container.runtime_name != RUNTIME_NAME:
        return Way(None, f"its runtime is {container.runtime_name}")
    options = options_pb2.Options()
    if container.runtime_options is not None and container.runtime_options.Is(options.DESCRIPTOR):
        container.runtime_options.Unpack(options)
    program = shutil.which(options.binary_name or RUNC)
    if program is None or not is_runc(program):
        return Way(None, f"its runtime {options.binary_name or RUNC} is not runc")
    root = Path(options.root or RUNTIME_ROOT) / act.request.namespace
    if not (root / container.id / "state.json").is_file():
        return Way(None, f"runc knows nothing of it in {root}")
    lock_option(host.settings.criu_path)  # known from now on: it takes a moment
    return Way(Runtime(program, root, container.id))
