from __future__ import annotations

from pathlib import Path

import pytest

from migrator.criu.log import explain_failure, failing_lines
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
    assert len(failing_lines(log)) == 3
    explained = explain_failure("checkpoint", "web", InternalError("runc did not: criu failed"), log)
    assert isinstance(explained, WorkloadFailed)
    assert explained.code == "criu_tcp_established"
    assert "web" in str(explained)
    assert "open TCP connection" in str(explained)
    assert "source runs on" in str(explained.remedy)


def test_what_criu_gets_over_is_no_cause(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    harmless = (
        "(00.027686) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n"
    )
    log.write_text(f"{harmless}(00.03) Error (criu/cr-dump.c:300): Can't get rlimit 0: Operation not permitted\n")
    explained = explain_failure("checkpoint", "web", InternalError("runc did not: criu failed"), log)
    assert explained.code == "criu_no_sys_resource"


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
