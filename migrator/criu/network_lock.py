"""What CRIU puts into a network namespace while it dumps, and leaves there when it is killed.

CRIU 4 locks the network of a task that has a network namespace of its own: nothing gets in or out. By iptables (its
default) that is a chain `CRIU` in the table `filter`, jumped to from INPUT and OUTPUT; by nftables a table
`inet CRIU-RUN`, RUN being CRIU's run id (before 4.0 the task's pid). Of a task without such a namespace it drops single
connections: rules that spare packets with its own mark.

Under runc 1.3 with CRIU 4.2 no lock was seen on a namespace that runc itself had made.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import InternalError

ANSWER_S = 10.0
CHAIN = "CRIU"
MARK = "0xc114"
_RULE = re.compile(rf"^-A ((?:INPUT|OUTPUT) (?:.*-j {CHAIN}|.*! --mark {MARK}\b.*-j DROP))$", re.MULTILINE)
_CHAIN = re.compile(rf"^:{CHAIN} ", re.MULTILINE)
_TABLE = re.compile(rf"^table inet ({CHAIN}(?:-\S+)?)$", re.MULTILINE)
COMM_SIGNS = 15
"""The kernel keeps no more of a program's name (proc(5), /proc/PID/comm)."""
FAMILIES = ("iptables", "ip6tables")


@dataclass(frozen=True, slots=True)
class NetworkLock:
    """CRIU's lock on one network namespace.

    `rules` and `chains` go by the program that made them, `iptables` or `ip6tables`.
    """

    namespace: Path
    rules: tuple[tuple[str, str], ...] = ()
    chains: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """What it consists of, for people."""
        chains = [f"{program} chain {CHAIN}" for program in self.chains]
        single = [f"{program} rules" for program, rule in self.rules if not rule.endswith(f"-j {CHAIN}")]
        return ", ".join(dict.fromkeys([*chains, *single, *(f"nft table inet {table}" for table in self.tables)]))


def find_lock(namespace: Path) -> NetworkLock | None:
    """Look into a network namespace (such as `/proc/PID/ns/net`); None when it is not locked, or gone."""
    saved = {program: _ask(namespace, f"{program}-save", "-t", "filter") for program in FAMILIES}
    lock = NetworkLock(
        namespace,
        rules=tuple((program, rule) for program, text in saved.items() for rule in _RULE.findall(text)),
        chains=tuple(program for program, text in saved.items() if _CHAIN.search(text)),
        tables=tuple(_TABLE.findall(_ask(namespace, "nft", "list", "tables"))),
    )
    return lock if lock.rules or lock.chains or lock.tables else None


def remove_lock(lock: NetworkLock) -> None:
    """Open the network again.

    Raises:
        InternalError: `network_locked`, a program refused.
    """
    for program in FAMILIES:
        rules = [f"-D {rule}" for name, rule in lock.rules if name == program]
        chain = [f":{CHAIN} - [0:0]"] if program in lock.chains else []
        if rules:
            _restore(lock.namespace, program, [*chain, *rules])
        if chain:  # by itself: it goes only when the jumps to it are gone
            _restore(lock.namespace, program, [*chain, f"-X {CHAIN}"])
    for table in lock.tables:
        _run(lock.namespace, "nft", "delete", "table", "inet", table)


def criu_works(program: str = "criu") -> bool:
    """Whether any CRIU runs on this machine: a lock may be its."""
    names = {"criu", Path(program).name[:COMM_SIGNS]}
    return any(_name_of(entry) in names for entry in Path("/proc").glob("[0-9]*"))


def _name_of(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


def _restore(namespace: Path, program: str, lines: list[str]) -> None:
    text = "\n".join(["*filter", *lines, "COMMIT", ""])
    _run(namespace, f"{program}-restore", "-w", "--noflush", text=text)


def _ask(namespace: Path, *command: str) -> str:
    """Return what a program prints; nothing when it is not installed or cannot tell."""
    try:
        done = _enter(namespace, command)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _run(namespace: Path, *command: str, text: str = "") -> None:
    try:
        done = _enter(namespace, command, text)
    except (OSError, subprocess.SubprocessError) as error:
        raise InternalError(f"`{' '.join(command)}` failed: {error}", code="network_locked") from error
    if done.returncode:
        words = done.stderr.strip() or f"status {done.returncode}"
        raise InternalError(f"`{' '.join(command)}` failed: {words}", code="network_locked")


def _enter(namespace: Path, command: tuple[str, ...], text: str = "") -> subprocess.CompletedProcess[str]:
    inside = ["nsenter", f"--net={namespace}", *command]
    return subprocess.run(inside, input=text, capture_output=True, text=True, timeout=ANSWER_S, check=False)
