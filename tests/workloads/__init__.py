"""Real programs that are moved between hosts. A new one is one small file here that ends in `WORKLOAD = …`."""

from __future__ import annotations

import importlib
import pkgutil

from tests.workloads.workload import Running, Workload

WORKLOADS: dict[str, Workload] = {
    module.name: found
    for module in pkgutil.iter_modules(__path__)
    if (found := getattr(importlib.import_module(f"{__name__}.{module.name}"), "WORKLOAD", None))
}

__all__ = ["WORKLOADS", "Running", "Workload"]
