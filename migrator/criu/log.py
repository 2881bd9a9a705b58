"""Explain what CRIU wrote into its log: cause, remedy, and that the source is unharmed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from migrator.errors import MigratorError, OutcomeUnknown, TransientError, WorkloadFailed

TAIL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One known line of CRIU's log."""

    pattern: str
    code: str
    cause: str
    remedy: str


RULES = (
    Rule(
        r"Connected TCP socket|tcp-established",
        "tcp_established",
        "it has an open TCP connection",
        "close the connection first",
    ),
    Rule(
        r"In-flight connection",
        "connections_waiting",
        "a connection waits to be accepted, and CRIU dumps only what a program has accepted",
        "try again",
    ),
    Rule(r"io_uring", "io_uring", "it uses io_uring, which CRIU cannot dump", "turn io_uring off in the program"),
    Rule(
        r"external (stream|unix|dgram) socket|External socket is used",
        "external_unix_socket",
        "it is connected to a unix socket outside the container",
        "close that connection first",
    ),
    Rule(
        r"file locks|Some file locks are hold",
        "file_locks",
        "it holds file locks",
        "release them first",
    ),
    Rule(
        r"ghost file.*(too big|limit)|Can't dump ghost file",
        "ghost_file",
        "it holds a large deleted file open",
        "close the file first",
    ),
    Rule(r"Found dangling tty|tty.*has no master", "terminal", "it has a terminal", "start it without a terminal"),
    Rule(
        r"Can't get 1:16 opt",
        "criu_too_old",
        "this kernel (6.16 or newer) needs CRIU 4.2 for any network socket",
        "install CRIU 4.2 or newer",
    ),
    Rule(
        r"(iptables|ip6tables|nft).*(not found|No such file|exited with)|Failed to (lock|unlock) network",
        "network_lock",
        "CRIU could not lock the network",
        "install iptables or nftables on the host",
    ),
    Rule(r"Can't open file .* on restore|No such file or directory", "file_missing", "a file is missing", ""),
    Rule(r"pid .* (already exists|mismatch)|Pid \d+ do not match", "pid_taken", "a pid it needs is taken", ""),
    Rule(r"No space left on device", "no_space", "the disk is full", "make room on the host"),
)


def explain_failure(act: str, container: str, error: MigratorError, log: Path) -> MigratorError:
    """Turn a failed checkpoint or restore into an error that says why.

    Args:
        act: `checkpoint` or `restore`.
        container: The container's name.
        error: What containerd answered; passing troubles and unknown outcomes are handed back as they are.
        log: CRIU's own log of the attempt; may be absent.
    """
    if isinstance(error, TransientError | OutcomeUnknown) or "criu" not in str(error).lower():
        return error
    lines = failing_lines(log)
    rule = match_rule("\n".join(lines) or str(error))
    detail = f" (CRIU: {lines[0]})" if lines else f" ({error.message})"
    unharmed = "the source runs on" if act == "checkpoint" else "nothing of the program ran here, the source is resumed"
    cause = f": {rule.cause}" if rule else ""
    remedy = f"{rule.remedy}; " if rule and rule.remedy else ""
    return WorkloadFailed(
        f"CRIU could not {act} container '{container}'{cause}{detail}",
        code=f"criu_{rule.code}" if rule else f"criu_{act}_failed",
        remedy=f"{remedy}{unharmed}",
    )


def match_rule(text: str) -> Rule | None:
    """Find the first rule that knows one of the lines."""
    return next((rule for rule in RULES if re.search(rule.pattern, text, re.IGNORECASE)), None)


def failing_lines(log: Path) -> list[str]:
    """Return the error lines of a log, first cause first, without time stamps; [] when there is no log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    found = re.findall(r"^(?:\([\d.]+\)\s*)?(?:\s*\d+:\s*)?Error\s*\([^)]*\):\s*(.+)$", text, re.MULTILINE)
    return [line.strip() for line in found]
