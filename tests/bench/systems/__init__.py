"""What is measured: one file each. All move the same program; all make it check its memory afterwards."""

from tests.bench.systems.bare import Bare
from tests.bench.systems.by_ctr import ByCtr
from tests.bench.systems.by_podman import ByPodman
from tests.bench.systems.service import Service
from tests.bench.systems.system import Sample, System

__all__ = ["Bare", "ByCtr", "ByPodman", "Sample", "Service", "System"]
