"""Fixtures every test may use. Labs are real: they are never faked and a missing part fails the test that needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrator.lab.host import Host
from migrator.lab.lab import Lab, Shape
from migrator.lab.leases import lab_name
from migrator.lab.rootfs import ensure_root


@contextmanager
def running_lab(base: str, shape: Shape) -> Iterator[Lab]:
    """A lab of this process alone: other test runs and xdist workers get other names."""
    with lab_name(base) as name:
        lab = Lab(name)
        lab.down()  # what a killed test run left
        try:
            lab.up(shape)
            yield lab
        finally:
            lab.down()


@pytest.fixture(scope="session")
def lab_root() -> Path:
    """The lab's root file system, built first when it is missing."""
    return ensure_root()


@pytest.fixture(scope="session")
def bare_hosts(lab_root: Path) -> Iterator[dict[str, Host]]:
    """Two hosts, alpha and beta, with containerd and nothing else."""
    with running_lab("bare", Shape(hosts=2, control=False)) as lab:
        yield lab.hosts
