"""What doctor says of a host: fine, doubtful or wrong, each with what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.errors import Unavailable
from migrator.models.housekeeping import Check, Level
from migrator.service.host import Host
from migrator.service.housekeeping import health
from migrator.service.housekeeping.health import check_health
from migrator.settings import Settings

CRIU = """#!/bin/sh
case $1 in
--version) echo "Version: {version}" ;;
check) echo "{complaint}" >&2; test -z "{complaint}" ;;
esac
"""


class Bench:
    """A host whose programs are scripts."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch):
        self.programs = directory / "bin"
        self.programs.mkdir()
        monkeypatch.setenv("PATH", str(self.programs))
        self.containerd = "2.1.9"
        self.store: Exception | None = None
        self.settings = Settings(run_dir=directory / "run", state_dir=directory / "state")
        self.criu("4.2.1")
        self.program("runc", "#!/bin/sh\necho runc version 1.4.4\n")
        for name in ("ip", "nsenter", "iptables-restore"):
            self.program(name)
        monkeypatch.setattr(health, "find_options", lambda: "")

    def program(self, name: str, text: str = "#!/bin/sh\n") -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def criu(self, version: str, complaint: str = "") -> None:
        self.program("criu", CRIU.format(version=version, complaint=complaint))

    def checks(self) -> dict[str, Check]:
        def probe() -> None:
            if self.store:
                raise self.store

        host: Any = SimpleNamespace(
            settings=self.settings,
            containerd=SimpleNamespace(version=lambda: SimpleNamespace(version=self.containerd)),
            objects=SimpleNamespace(probe=probe, head=lambda key: None, location="memory://"),
        )
        return {check.name: check for check in check_health(cast(Host, host))}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_host_that_is_well(bench: Bench) -> None:
    checks = bench.checks()
    assert [check for check in checks.values() if check.level is not Level.FINE] == []
    assert checks["criu"].value == "4.2.1"
    assert checks["store"].value == "memory://"


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ("1.0.3", "wrong"),
        ("1.2.9", "doubtful"),
        ("1.3.6+ds1", "doubtful"),
        ("1.3.7", "fine"),
        ("1.5.2", "doubtful"),
        ("1.6.0", "fine"),
    ],
)
def test_versions_of_runc(bench: Bench, version: str, level: str) -> None:
    bench.program("runc", f"#!/bin/sh\necho runc version {version}\n")
    check = bench.checks()["runc"]
    assert (check.level, check.value) == (level, version)
    assert bool(check.remedy) == (level != "fine")


def test_an_old_containerd(bench: Bench) -> None:
    bench.containerd = "1.6.20"
    assert bench.checks()["containerd"].level is Level.WRONG


def test_an_old_criu_and_a_kernel_that_lacks_something(bench: Bench) -> None:
    bench.criu("3.16", "Warn: no timens")
    checks = bench.checks()
    assert checks["criu"].level is Level.WRONG
    assert checks["criu"].remedy
    assert (checks["criu check"].level, checks["criu check"].value) == (Level.WRONG, "Warn: no timens")


def test_programs_that_are_missing(bench: Bench) -> None:
    for name in ("criu", "runc", "nsenter"):
        (bench.programs / name).unlink()
    checks = bench.checks()
    for name in ("criu", "runc", "criu check", "programs"):
        assert checks[name].level is Level.WRONG
        assert checks[name].remedy
    assert checks["programs"].value == "missing: nsenter"


def test_a_configuration_of_criu_is_doubtful(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "find_options", lambda: "/etc/criu/runc.conf: tcp-established")
    assert bench.checks()["criu configuration"].level is Level.DOUBTFUL


def test_scarce_memory_and_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "free_memory_bytes", lambda: 1000)
    monkeypatch.setattr(health, "_free_bytes", lambda place: 1000)
    scarce = [check.name for check in bench.checks().values() if check.level is Level.WRONG and check.remedy]
    assert scarce == ["memory", f"room in {bench.settings.run_dir}", f"room in {bench.settings.state_dir}"]


def test_a_store_that_does_not_answer_says_why(bench: Bench) -> None:
    bench.store = Unavailable("memory:// does not answer", code="store_unavailable", remedy="start it")
    check = bench.checks()["store"]
    assert (check.level, check.value, check.remedy) == (Level.WRONG, "memory:// does not answer", "start it")
