"""CRIU's lock on a network is found among other rules, and nothing else is removed."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from migrator.criu import network_lock
from migrator.criu.configuration import find_options
from migrator.criu.network_lock import criu_works, find_lock, remove_lock
from migrator.errors import InternalError

PLACE = Path("/proc/7/ns/net")
SAVED = """*filter
:INPUT ACCEPT [0:0]
:CRIU - [0:0]
:CRIUX - [0:0]
-A INPUT -j CRIU
-A INPUT -j CRIU
-A INPUT -s 10.9.9.9/32 -j DROP
-A INPUT -j CRIUX
-A OUTPUT -j CRIU
-A OUTPUT -s 1.2.3.4/32 -d 5.6.7.8/32 -p tcp -m mark ! --mark 0xc114 -m tcp --sport 80 --dport 9 -j DROP
-A CRIU -m mark --mark 0xc114 -j ACCEPT
-A CRIU -j DROP
COMMIT
"""
TABLES = """table ip filter
table inet CRIU-0f9d2b1c-6a55-4a3e-9f0e-0d6b6d0f6a11
table inet CRIUX
table inet mine
table ip CRIU-7
"""


class Programs:
    """Stands for the programs in the network namespace, and notes how they were called."""

    def __init__(self, answers: dict[str, str]):
        self.answers = answers
        self.calls: list[tuple[list[str], str]] = []
        self.status = 0

    def run(self, command: list[str], *, input: str = "", **_: Any) -> subprocess.CompletedProcess[str]:
        assert command[:2] == ["nsenter", f"--net={PLACE}"]
        if command[2] not in self.answers:
            raise FileNotFoundError(command[2])
        self.calls.append((command[2:], input))
        return subprocess.CompletedProcess(command, self.status, self.answers[command[2]], "refused")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    programs = Programs({"iptables-save": SAVED, "ip6tables-save": "", "iptables-restore": "", "nft": TABLES})
    monkeypatch.setattr(network_lock.subprocess, "run", programs.run)
    return programs


def test_the_lock_is_found(programs: Programs) -> None:
    lock = find_lock(PLACE)
    assert lock is not None
    assert lock.chains == ("iptables",)
    assert [rule for _, rule in lock.rules] == [
        "INPUT -j CRIU", "INPUT -j CRIU", "OUTPUT -j CRIU",
        "OUTPUT -s 1.2.3.4/32 -d 5.6.7.8/32 -p tcp -m mark ! --mark 0xc114 -m tcp --sport 80 --dport 9 -j DROP",
    ]  # fmt: skip
    assert lock.tables == ("CRIU-0f9d2b1c-6a55-4a3e-9f0e-0d6b6d0f6a11",)
    assert lock.names.startswith("iptables chain CRIU, iptables rules, nft table inet CRIU-0f9d")


def test_only_the_lock_is_removed(programs: Programs) -> None:
    lock = find_lock(PLACE)
    assert lock is not None
    programs.calls.clear()
    remove_lock(lock)
    rules, chain, table = programs.calls
    assert rules[0] == chain[0] == ["iptables-restore", "-w", "--noflush"]
    assert rules[1].splitlines()[1:4] == [":CRIU - [0:0]", "-D INPUT -j CRIU", "-D INPUT -j CRIU"]
    assert "10.9.9.9" not in rules[1]
    assert "CRIUX" not in rules[1]
    assert chain[1].splitlines() == ["*filter", ":CRIU - [0:0]", "-X CRIU", "COMMIT"]
    assert table[0] == ["nft", "delete", "table", "inet", "CRIU-0f9d2b1c-6a55-4a3e-9f0e-0d6b6d0f6a11"]


def test_no_lock_and_no_programs(programs: Programs) -> None:
    programs.answers = {"iptables-save": "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", "nft": "table inet mine\n"}
    assert find_lock(PLACE) is None
    programs.answers = {}
    assert find_lock(PLACE) is None


def test_a_refusal_is_told(programs: Programs) -> None:
    lock = find_lock(PLACE)
    assert lock is not None
    programs.status = 1
    with pytest.raises(InternalError, match="refused"):
        remove_lock(lock)


def test_a_living_criu_is_seen(tmp_path: Path) -> None:
    program = tmp_path / "criu-with-a-rather-long-name"
    program.symlink_to(shutil.which("sleep") or "")
    with subprocess.Popen([program, "30"]) as process:
        try:
            # The kernel gives a process its new name a moment after the exec that Popen waits for.
            deadline = time.monotonic() + 5
            while not criu_works(str(program)):
                assert time.monotonic() < deadline, "it is not seen"
                time.sleep(0.01)
        finally:
            process.kill()


def test_what_changes_every_dump_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    empty, full = tmp_path / "default.conf", tmp_path / "runc.conf"
    empty.write_text("# nothing\n\n")
    full.write_text("tcp-established  # keep them\n# no\nlog-level 4\n")
    assert find_options([str(empty), str(tmp_path / "none")]) == ""
    assert find_options([str(empty), str(full)]) == f"{full}: tcp-established, log-level 4"
