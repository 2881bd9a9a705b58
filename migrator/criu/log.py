"""Explain what CRIU wrote into its log: cause, remedy, and that the source is unharmed."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
        "connection_in_flight",
        "a connection waits to be accepted",
        "try again when the program has accepted it",
    ),
    Rule(
        r"io_uring|Can't retrieve FDs from socket",
        "io_uring",
        "it has a file open that cannot be handed to another process, such as an io_uring",
        "turn io_uring off in the program",
    ),
    Rule(
        r"Can't dump file \d+ of that type .*\((chr|blk) |Can't handle non-regular mapping",
        "open_device",
        "it has a device open or mapped that CRIU does not know",
        "let the program close it",
    ),
    Rule(
        r"Can't dump file \d+ of that type",
        "unknown_file",
        "it has a file open of a kind that CRIU does not know",
        "let the program close it",
    ),
    Rule(
        r"external (stream|unix|dgram) socket|External socket is used|half of stream unix|name-less external socket"
        r"|Unix socket \d+ without peer",
        "external_unix_socket",
        "it is connected to a unix socket outside the container",
        "close that connection first, or let a datagram socket through with --external-unix-sockets",
    ),
    Rule(
        r"Non-empty write queue on an in-flight socket",
        "unaccepted_connection",
        "a client has connected and sent data, and the program has not accepted it yet",
        "try again",
    ),
    Rule(
        r"Can't get rlimit \d+: Operation not permitted",
        "no_cap_sys_resource",
        "a process is not root's, and CRIU may not read its limits",
        "give containerd and the worker CAP_SYS_RESOURCE",
    ),
    Rule(
        r"Unknown socket collected|Unsupported proto \d+ for socket|Unsupported type \(\d+\) on socket",
        "unknown_socket",
        "it has a socket open of a kind that CRIU does not know",
        "let the program close it; Go programs use MPTCP unless GODEBUG=multipathtcp=0",
    ),
    Rule(
        r"netlink: The socket has data to read",
        "netlink_data",
        "it has not yet read what waits in a netlink socket",
        "try again",
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
        "close the file first, or raise the limit on the source: ghost-limit in /etc/criu/runc.conf",
    ),
    Rule(
        r"Can't dump that handle|Can't find suitable path for handle",
        "watch_on_overlay",
        "it watches files (inotify, fanotify) that CRIU does not find by their handle",
        "watch a tmpfs or a volume, or add irmap-scan-path to /etc/criu/runc.conf on the source",
    ),
    Rule(
        r"Found dangling tty|tty.*has no master|slave (external )?peer|ctty inheritance detected",
        "terminal",
        "it has a terminal whose other end is outside",
        "start it without a terminal",
    ),
    Rule(
        r"Unseizable non-zombie .* state D|Unable to freeze cgroup|Timeout reached. Try to interrupt",
        "uninterruptible_sleep",
        "a thread in it waits where nothing can stop it (a disk, a file server, a child after vfork)",
        "see what it waits for in /proc/PID/stack, then try again",
    ),
    Rule(
        r"zombie \d+ .* found while seizing|Unable to interrupt task",
        "traced_process",
        "a process in it is traced by another one",
        "end the debugger or strace",
    ),
    Rule(
        r"Can't dump nested \w+ namespace|Unable to dump more than one netns|Nested mount namespaces are not supported",
        "nested_namespace",
        "a process in it has a namespace of its own",
        "end that process",
    ),
    Rule(
        r"A session leader of .* is outside of its pid namespace",
        "executed_process",
        "a process in it was started from outside",
        "wait for its end, or end it",
    ),
    Rule(
        r"SysVIPC shmem map .* doesn't live in IPC ns",
        "host_ipc",
        "it uses System V shared memory of the host",
        "give it an IPC namespace of its own",
    ),
    Rule(r"has uprobes vma", "uprobes", "it is being probed", "end what traces it (perf, bpftrace)"),
    Rule(r"packetized mode for pipes", "packet_pipe", "it has a pipe in packet mode (O_DIRECT)", "close the pipe"),
    Rule(r"dumping BPF map type", "bpf", "it has a BPF map of a kind that CRIU does not know", "close it"),
    Rule(
        r"Diag module missing",
        "diag_module",
        "the kernel cannot tell of its sockets",
        "load the modules there: modprobe -a inet_diag tcp_diag udp_diag unix_diag netlink_diag af_packet_diag",
    ),
    Rule(
        r"FS mnt .* unsupported id|Unable to find suitable mount|doesn't have a proper root mount|Can't lookup mount",
        "mount",
        "it has a mount that CRIU cannot resolve",
        "start it without that mount",
    ),
    Rule(
        r"autodetected external mount|No mapping for .* mountpoint",
        "external_mount",
        "a mount comes from outside the container",
        "declare it as a volume, or start it without that mount",
    ),
    Rule(
        r"The root task has another root than mntns",
        "changed_root",
        "its first process has called chroot",
        "start it with that directory as its root",
    ),
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
    Rule(
        r"Can't fork for \d+: Resource temporarily unavailable",
        "pids_limit",
        "its pids limit leaves no room for CRIU's helpers",
        "let some of its processes end, or raise the limit",
    ),
    Rule(
        r"CPU (instruction )?capabilities do not match|FPU feature required by image|xfeatures has unsupported bits",
        "cpu_features",
        "this host's processor lacks what the source's had",
        "choose another target: see `migrator preflight`",
    ),
    Rule(
        r"has bad size \d+ \(expect|has bad mode 0\d+ \(expect",
        "file_changed",
        "a file is not what it was when the program opened it",
        "do not change files that it has open between checkpoint and restore",
    ),
    Rule(
        r"Can't bind inet socket .*(Address already in use|Cannot assign requested address)",
        "address",
        "an address or port that it listens on is not free on this host",
        "free it there, or give the container a network of its own",
    ),
    Rule(r"Can't open file .* on restore|No such file or directory", "file_missing", "a file is missing", ""),
    Rule(
        r"pid .* (already exists|mismatch)|Pid \d+ do not match|Can't fork for \d+: File exists",
        "pid_taken",
        "a pid it needs is taken",
        "",
    ),
    Rule(r"Cannot allocate memory", "no_memory", "the host has not enough memory", "free memory on the host"),
    Rule(r"No space left on device", "no_space", "the disk is full", "make room on the host"),
)
HARMLESS = r"rlimit: Can't setup RLIMIT_NOFILE for self"
"""Said at the beginning of every dump that runc's shim starts."""
SUMMARY = r"(Dump|Collect|Pre-dumping|Restor)\w* .*failed with -?\d+|(Dumping|Restoring) FAILED"
"""Says that something failed of which an earlier line says why."""


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
    rule = match_rule(lines or [str(error)])
    detail = f" (CRIU: {lines[0]})" if lines else f" ({error.message})"
    unharmed = "the source runs on" if act == "checkpoint" else "nothing of the program ran here, the source is resumed"
    cause = f": {rule.cause}" if rule else ""
    remedy = f"{rule.remedy}; " if rule and rule.remedy else ""
    return WorkloadFailed(
        f"CRIU could not {act} container '{container}'{cause}{detail}",
        code=f"criu_{rule.code}" if rule else f"criu_{act}_failed",
        remedy=f"{remedy}{unharmed}",
    )


def match_rule(lines: Sequence[str]) -> Rule | None:
    """Find the rule that knows the earliest line: what comes first is the cause."""
    known = ((line, rule) for line in lines for rule in RULES)
    return next((rule for line, rule in known if re.search(rule.pattern, line, re.IGNORECASE)), None)


def failing_lines(log: Path) -> list[str]:
    """Return the error lines of a log, first cause first, without time stamps; [] when there is no log.

    What always stands there is left out, and so are lines that only sum up, unless there is nothing else.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    found = re.findall(r"^(?:\([\d.]+\)\s*)?(?:pie: )?(?:\s*\d+:\s*)?Error\s*\([^)]*\):\s*(.+)$", text, re.MULTILINE)
    lines = [line.strip() for line in found if not re.search(HARMLESS, line)]
    return [line for line in lines if not re.search(SUMMARY, line)] or lines
