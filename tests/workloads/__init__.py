"""Real programs that are moved between hosts. A new one is one small file here that ends in `WORKLOAD = …`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

from migrator.lab.rootfs import Progress, ensure_root
from tests.workloads.root import program_root
from tests.workloads.workload import Running, Workload


def _find() -> Iterator[Workload]:
    for file in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{file.name}")
        found = getattr(module, "WORKLOAD", None)
        if isinstance(found, Workload):
            found.title = (module.__doc__ or "").partition("\n")[0].rstrip(".")
            yield found


WORKLOADS: dict[str, Workload] = {workload.name: workload for workload in _find()}


def build_images(progress: Progress) -> None:
    """Build what is missing of the root that workloads come from, and of their images: a minute or two once."""
    program_root(progress)
    for workload in WORKLOADS.values():
        workload.image(ensure_root(progress))


__all__ = ["WORKLOADS", "Running", "Workload", "build_images"]
