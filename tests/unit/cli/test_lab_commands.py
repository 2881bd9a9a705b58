"""What `migrator lab` prints for another program. The lab itself stands aside: its own tests are real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from migrator.errors import NotFound
from migrator.lab import demo, lab, machine, rootfs, status
from tests.servers.command_line import run_migrator


class IdleLab:
    """A lab that is always as it should be."""

    def __init__(self, name: str):
        self.name = name
        self.all_hosts = ("control", "alpha")

    def up(self, shape: Any, progress: Callable[[str], None]) -> None:
        progress("booting")

    def down(self) -> bool:
        return self.name == "there"

    def host(self, name: str) -> Any:
        if name != "alpha":
            raise NotFound(f"lab {self.name} has no host '{name}'", code="lab_host_not_found", remedy="look")
        return SimpleNamespace(service=lambda _: SimpleNamespace(log_tail=lambda lines: "one\ntwo"[: lines * 4]))


@pytest.fixture(autouse=True)
def no_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIGRATOR_LAB", raising=False)
    monkeypatch.setattr(lab, "Lab", IdleLab)
    for name in ("check_root", "check_machine"):
        monkeypatch.setattr(machine, name, lambda: None)
    monkeypatch.setattr(status, "describe", lambda lab: {"name": lab.name, "healthy": lab.name == "there"})
    monkeypatch.setattr(rootfs, "ensure_root", lambda _: Path("/var/lib/root"))


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("up",), {"name": "lab", "healthy": False}),
        (("down", "--name", "there"), {"name": "there", "was_there": True}),
        (("down",), {"name": "lab", "was_there": False}),
        (("build",), {"root": "/var/lib/root"}),
        (("status", "--name", "there"), {"name": "there", "healthy": True}),
        (("logs", "alpha", "worker"), {"host": "alpha", "service": "worker", "lines": ["one", "two"]}),
    ],
    ids=str,
)
def test_json_is_one_object(words: tuple[str, ...], printed: dict[str, Any]) -> None:
    answer = run_migrator("lab", *words, "--json")
    assert (answer.code, answer.data) == (0, printed)


def test_without_json_progress_and_results_are_apart() -> None:
    assert run_migrator("lab", "up").out == ""
    assert run_migrator("lab", "up").err == "· booting\n· lab lab is up: control, alpha\n"
    assert run_migrator("lab", "logs", "alpha", "worker").out == "one\ntwo\n"
    assert run_migrator("lab", "build").out == "/var/lib/root\n"


def test_a_lab_that_is_not_well_ends_status_with_1() -> None:
    assert run_migrator("lab", "status", "--json").code == 1


def test_a_host_that_is_not_there() -> None:
    answer = run_migrator("lab", "logs", "nowhere", "worker")
    assert (answer.code, answer.out) == (3, "")
    assert "nowhere" in answer.err
    assert run_migrator("lab", "logs", "nowhere", "worker", "--json").data["error"]["kind"] == "NotFound"


def test_the_demonstration_as_json_is_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def perform(_: str, *, keep: bool) -> int:
        print("  0.0 s  starting", '{"continuity": true}', sep="\n")
        return 0 if keep else 1

    monkeypatch.setattr(demo, "run_demo", perform)
    answer = run_migrator("lab", "demo", "--json")
    assert (answer.code, answer.data) == (1, {"continuity": True})
    assert run_migrator("lab", "demo", "--keep").out.startswith("  0.0 s")
