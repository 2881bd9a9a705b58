from __future__ import annotations

from pathlib import Path

import pytest

from migrator.criu.log import RULES, explain_failure, failing_lines
from migrator.criu.program import find_criu, oldest_for, parse_version
from migrator.errors import InternalError, PreconditionFailed, Unavailable, WorkloadFailed

LOG = """(00.012345) Dumping task (pid: 17)
(00.023456) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.023500) Error (criu/cr-dump.c:1669): Dump files (pid: 17) failed with -1
(00.034567)      1: Error (criu/files.c:1): later line
"""


def test_the_first_error_line_is_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(LOG)
    assert failing_lines(log)[0].startswith("inet: Connected TCP socket")
    assert len(failing_lines(log)) == 2
    explained = explain_failure("checkpoint", "web", InternalError("runc did not: criu failed"), log)
    assert isinstance(explained, WorkloadFailed)
    assert explained.code == "criu_tcp_established"
    assert "web" in str(explained)
    assert "open TCP connection" in str(explained)
    assert "source runs on" in str(explained.remedy)


BEGIN = "(00.001202) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted"
"""Stands in every log of a dump by runc's shim, also in those of dumps that go well."""
END = "(00.071645) Error (criu/cr-dump.c:1975): Dumping FAILED."
CAPTURED = {
    "io_uring": """pie: 1: Error (criu/pie/parasite.c:588): send_fds failed (-22)
(00.010878) Error (criu/parasite-syscall.c:280): Can't retrieve FDs from socket
(00.010883) Error (compel/src/lib/infect-rpc.c:44): Message reply from daemon is trimmed (12/0)
(00.010893) Error (criu/cr-dump.c:1545): Dump files (pid: 26064) failed with -1""",
    "unknown_file": """(00.015578) Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] (anon anon_inode:[userfaultfd])
(00.015605) Error (criu/cr-dump.c:1545): Dump files (pid: 26300) failed with -1""",
    "open_device": """(00.011901) Error (criu/files-ext.c:94): Can't dump file 6 of that type [20600] (chr 10:229)
(00.011920) Error (criu/cr-dump.c:1545): Dump files (pid: 26555) failed with -1""",
    "ghost_file": """(00.015890) Error (criu/files-reg.c:1031): Can't dump ghost file /state/deleted of 3145728 size, increase limit
(00.015910) Error (criu/cr-dump.c:1545): Dump files (pid: 27466) failed with -1""",
    "watch_on_overlay": """(00.037490) Warn  (criu/fsnotify.c:281): fsnotify: \tHandle 0x77:0x1da0a2 cannot be opened
(00.037693) Warn  (criu/irmap.c:105): irmap: Can't stat /var/spool: No such file or directory
(00.038547) Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle
(00.038572) Error (criu/cr-dump.c:1545): Dump files (pid: 27706) failed with -1""",
    "unknown_socket": """(00.012100) Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 40)
(00.012118) Error (criu/cr-dump.c:1545): Dump files (pid: 28825) failed with -1""",
    "uninterruptible_sleep": """(10.002390) Error (criu/cr-dump.c:1655): Timeout reached. Try to interrupt: 0
(10.002488) Error (compel/src/lib/infect.c:262): Unseizable non-zombie 29152 found, state D, err -1/4""",
    "traced_process": """(00.002547) Warn  (compel/src/lib/infect.c:132): Unable to interrupt task: 30534 (Operation not permitted)
(00.002567) Error (criu/seize.c:335): zombie 30534 (comm python3) found while seizing
(00.102746) Warn  (compel/src/lib/infect.c:132): Unable to interrupt task: 30534 (Operation not permitted)
(00.102787) Error (criu/seize.c:335): zombie 30534 (comm python3) found while seizing
(10.002390) Error (criu/cr-dump.c:1655): Timeout reached. Try to interrupt: 0""",
    "netlink_data": """(00.014094) Error (criu/sk-netlink.c:77): netlink: The socket has data to read
(00.014112) Error (criu/cr-dump.c:1545): Dump files (pid: 422) failed with -1""",
    "nested_namespace": """(00.255883) Error (criu/net.c:3009): net: Unable to dump more than one netns if the --emptyns is set
(00.286339) Error (criu/namespaces.c:1163): Namespaces dumping finished with error 65280""",
}
"""What CRIU 4.2.1 wrote in the lab when it was asked for what preflight refuses."""


@pytest.mark.parametrize("code", CAPTURED)
def test_a_real_log_is_explained(tmp_path: Path, code: str) -> None:
    log = tmp_path / "dump.log"
    log.write_text("\n".join((BEGIN, CAPTURED[code], END)))
    explained = explain_failure("checkpoint", "web", InternalError("criu failed: type DUMP errno 0"), log)
    assert explained.code == f"criu_{code}"
    assert "RLIMIT_NOFILE" not in str(explained), "the line that means nothing is not shown as the cause"
    assert explained.remedy
    assert explained.remedy != "the source runs on", "there is something to do"


def test_every_rule_has_a_code_of_its_own_and_a_cause() -> None:
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert all(rule.cause for rule in RULES)


def test_lines_that_only_sum_up_are_shown_when_there_is_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text(f"{BEGIN}\n{END}\n")
    assert failing_lines(log) == ["Dumping FAILED."]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("(criu/sk-unix.c:506): unix: Non-empty write queue on an in-flight socket 0x288278", "unaccepted_connection"),
        ("(criu/fsnotify.c:284): fsnotify: \tCan't dump that handle", "watch_on_overlay"),
        ("(criu/cr-dump.c:389): Can't get rlimit 0: Operation not permitted", "no_cap_sys_resource"),
        ("(criu/proc_parse.c:502): Unknown shit 600 (anon_inode:[io_uring])", "io_uring"),
        ("(criu/parasite-syscall.c:280): Can't retrieve FDs from socket", "io_uring"),
    ],
)
def test_what_real_programs_met(tmp_path: Path, line: str, code: str) -> None:
    log = tmp_path / "dump.log"
    harmless = (
        "(00.003909) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted"
    )
    log.write_text(f"{harmless}\n(00.1) Error {line}\n")
    explained = explain_failure("checkpoint", "web", InternalError("criu failed"), log)
    assert explained.code == f"criu_{code}"
    assert line.rpartition(": ")[2] in str(explained)


def test_an_unknown_line_is_still_shown(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("(00.1) Error (criu/x.c:1): something new\n")
    explained = explain_failure("restore", "web", InternalError("criu failed"), log)
    assert explained.code == "criu_restore_failed"
    assert "something new" in str(explained)


def test_passing_troubles_are_handed_on(tmp_path: Path) -> None:
    error = Unavailable("containerd does not answer (criu)")
    assert explain_failure("checkpoint", "web", error, tmp_path / "none") is error


@pytest.mark.parametrize(
    ("text", "numbers"), [("4.2.1", (4, 2, 1)), ("4.2-rc1", (4, 2, 1)), ("", ()), ("3.17", (3, 17))]
)
def test_versions(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_version(text) == numbers


def test_new_kernels_need_a_new_criu() -> None:
    assert oldest_for("6.18.44-fc") == (4, 2)
    assert oldest_for("6.1.0-26-amd64") == (3, 17)


def program(tmp_path: Path, body: str) -> str:
    path = tmp_path / "criu"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("body", "code"), [("echo Version: 2.0", "criu_too_old"), ("exit 3", "criu_broken"), ("echo hello", "criu_broken")]
)
def test_a_criu_that_does_not_serve(tmp_path: Path, body: str, code: str) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        find_criu(program(tmp_path, body))
    assert caught.value.code == code
    assert caught.value.remedy


def test_no_criu(tmp_path: Path) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        find_criu(str(tmp_path / "absent"))
    assert caught.value.code == "criu_missing"


def test_a_good_criu(tmp_path: Path) -> None:
    assert find_criu(program(tmp_path, "echo Version: 4.2.1")).version == "4.2.1"
