"""Fixtures every test may use. Labs are real: they are never faked, and a missing part fails the test that needs it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from migrator.errors import MigratorError
from migrator.lab.host import Host
from migrator.lab.lab import Lab, Shape
from migrator.lab.rootfs import ensure_root
from migrator.settings import LAB_RUN_DIR
from tests.workloads import build_images

MAX_LABS = 16


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build roots and images, if they are missing, before the clock of the first test that needs them starts."""
    needed = any("lab_root" in getattr(item, "fixturenames", ()) for item in session.items)
    if needed and os.geteuid() == 0:
        with suppress(MigratorError):  # the fixture fails with it
            ensure_root(lambda line: print(line, file=sys.__stderr__))
            if any("workload" in getattr(item, "fixturenames", ()) for item in session.items):
                build_images(lambda line: print(line, file=sys.__stderr__))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A run that may not skip fails when it did: a missing part must not look like a success."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped and os.environ.get("MIGRATOR_TESTS_MAY_NOT_SKIP") and session.exitstatus == 0:
        print(f"\n{len(skipped)} skipped, and none may be: see above", file=sys.__stderr__)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were tried again: a test that passes at the second try has something to tell, too."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.write_line(f"tried again: {report.nodeid} ({report.when})")
        for line in [line for line in report.longreprtext.splitlines() if line.startswith("E ")][:12]:
            terminalreporter.write_line(f"    {line[:400]}")


@contextmanager
def lab_name(base: str) -> Iterator[str]:
    """The first free name of `base`, `base-2`, `base-3`, … for this process alone.

    Several test runs and xdist workers on one machine so never meet in one lab. The kernel frees the name of a process
    that dies.
    """
    LAB_RUN_DIR.mkdir(mode=0o755, parents=True, exist_ok=True)
    for number in range(1, MAX_LABS + 1):
        name = base if number == 1 else f"{base}-{number}"
        descriptor = os.open(LAB_RUN_DIR / f".{name}.lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield name
        finally:
            os.close(descriptor)
        return
    raise RuntimeError(f"{MAX_LABS} labs named {base} are in use")


@contextmanager
def running_lab(base: str, shape: Shape) -> Iterator[Lab]:
    """A lab of this process alone, taken down in every case."""
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
def lab_factory(lab_root: Path) -> Callable[[str, Shape], AbstractContextManager[Lab]]:
    """`with lab_factory(BASE, SHAPE) as lab`: a further lab, for tests that break theirs."""
    return running_lab


@pytest.fixture(scope="session")
def bare_hosts(lab_root: Path) -> Iterator[dict[str, Host]]:
    """Two hosts, alpha and beta, with containerd and nothing else."""
    with running_lab("bare", Shape(hosts=2, control=False)) as lab:
        yield lab.hosts


@pytest.fixture(scope="session")
def lab(lab_root: Path) -> Iterator[Lab]:
    """A full lab: alpha and beta with their workers, and a control host."""
    with running_lab("test", Shape(hosts=2)) as lab:
        yield lab
