"""Preflight says before anything is touched what CRIU would refuse, and what it lets through really moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from migrator.containerd import ContainerdClient
from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import is_frozen, take_inventory
from tests.workloads import WORKLOADS, Running
from tests.workloads.odd import COMMAND

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

ODD = WORKLOADS["odd"]
REFUSED = {
    "io_uring": "io_uring",
    "userfaultfd": "userfaultfd",
    "device": "open_device",
    "deleted-large": "ghost_file",
    "watch-image": "watch_on_overlay",
    "vsock": "unknown_socket",
    "traced": "traced_process",
    "vfork": "uninterruptible_sleep",
    "nested": "nested_namespace",
}
"""What the program does, and what preflight has to say of it; CRIU failed on each of them (tests/unit/criu/test_log.py)."""
Start = Callable[..., Running]


@pytest.fixture
def start(cluster: Cluster, nothing_left: None) -> Iterator[Start]:
    """Start the odd program in the container `odd` on alpha."""

    def start_odd(oddities: str, *options: str) -> Running:
        image = "migrator.local/odd:1"
        cluster["alpha"].ctr("run", "--detach", "--null-io", *options, image, "odd", *COMMAND, oddities)
        container = Running(cluster["alpha"], "odd")
        container.wait_until(lambda state: state["counter"] > 5)
        return container

    cluster.remove("odd")
    yield start_odd
    cluster.remove("odd")


def ask(cluster: Cluster, code: int) -> list[dict[str, Any]]:
    """Make a preflight that must end like this; return what failed."""
    answer = cluster.cli("preflight", "alpha/odd", "beta")
    assert answer.code == code, answer.said
    findings = answer.data["findings"]
    assert {found["host"] for found in findings} == {"alpha", "beta"}, "the target is asked in any case"
    return [found for found in findings if found["grade"] == "fail"]


def move(cluster: Cluster, container: Running) -> None:
    """Move it, and see that all odd things still work."""
    before = ODD.look(container)
    after = ODD.check(before, cluster.migrate(container, "beta"))
    assert after["broken"] == []


def test_everything_that_criu_cannot_dump_is_told_at_once(cluster: Cluster, start: Start) -> None:
    container = start(",".join(REFUSED), "--privileged")
    time.sleep(0.3)
    failed = ask(cluster, 1)
    assert {found["code"] for found in failed} == {*REFUSED.values()}
    assert all(found["host"] == "alpha" and found["remedy"] and "'odd'" in found["message"] for found in failed[:1])
    error = cluster.failure("migrate", "alpha/odd", "beta")
    assert (error["kind"], error["code"]) == ("PreconditionFailed", failed[0]["code"]), "a migration stops at the first"
    assert not is_frozen(container.pid)


def test_a_program_that_was_started_from_outside_would_be_lost(cluster: Cluster, start: Start) -> None:
    container = start("plain-devices")
    sleeping = ("/usr/bin/python3", "-c", "import time; time.sleep(60)")
    container.ctr("tasks", "exec", "--detach", "--exec-id", "stranger", "odd", *sleeping)
    assert [found["code"] for found in ask(cluster, 1)] == ["executed_process"]


def test_a_container_of_nerdctls_is_refused_for_its_hook(cluster: Cluster, start: Start) -> None:
    """Made as nerdctl makes them: labels, and a hook that connects the container; here it does nothing."""
    del start  # which removes it afterwards
    machine, image = cluster["alpha"], "migrator.local/odd:1"
    machine.ctr("containers", "create", "--label", "nerdctl/namespace=default", image, "odd", *COMMAND, "plain-devices")
    hook = {"path": "/bin/true", "args": ["nerdctl", "internal", "oci-hook", "createRuntime"]}
    with ContainerdClient(machine.host.containerd_socket).with_namespace("default") as runtime:
        container = runtime.containers.get("odd")
        spec = container.spec_json() | {"hooks": {"createRuntime": [hook]}}
        runtime.containers.update(replace(container, spec=container.pack_spec(spec)), "spec")
    machine.ctr("tasks", "start", "--detach", "--null-io", "odd")
    assert [found["code"] for found in ask(cluster, 1)] == ["nerdctl_container"]
    assert cluster.failure("migrate", "alpha/odd", "beta")["code"] == "nerdctl_container"


def test_a_preflight_touches_nothing_and_what_it_lets_through_moves(cluster: Cluster, start: Start) -> None:
    container = start("plain-devices,deleted-small,watch-etc,watch-tmpfs,terminal,shared")
    before, pid = take_inventory(cluster.lab), container.pid
    assert ask(cluster, 0) == []
    assert take_inventory(cluster.lab) == before
    assert (container.pid, is_frozen(pid)) == (pid, False)
    dry = cluster.done("migrate", "alpha/odd", "beta", "--dry-run")
    assert [step["name"] for step in dry["forecast"]["steps"]][-1] == "settle"
    assert dry["forecast"]["checkpoint_bytes"] > 1_000_000
    move(cluster, container)


@contextmanager
def criu_configuration(cluster: Cluster, host: str, text: str) -> Iterator[None]:
    """Let CRIU on a host be configured for a while."""
    directory = cluster[host].host.root / "etc/criu"
    was_there = directory.is_dir()
    directory.mkdir(exist_ok=True)
    try:
        (directory / "runc.conf").write_text(text)
        yield
    finally:
        (directory / "runc.conf").unlink()
        if not was_there:
            directory.rmdir()


def test_limits_that_the_host_has_raised_count(cluster: Cluster, start: Start) -> None:
    container = start("deleted-large,watch-image")
    assert {found["code"] for found in ask(cluster, 1)} == {"ghost_file", "watch_on_overlay"}
    raised = "ghost-limit 10M\nirmap-scan-path /data\n"
    with criu_configuration(cluster, "alpha", raised), criu_configuration(cluster, "beta", raised):
        assert ask(cluster, 0) == []
        move(cluster, container)
        back = cluster.finish("migrate", "beta/odd", "alpha")  # runc reads another file of a task that was restored
        assert back["state"] == "succeeded", back["failure"]


def test_a_configuration_of_criu_that_contradicts(cluster: Cluster, start: Start) -> None:
    start("plain-devices")
    with criu_configuration(cluster, "beta", "lazy-pages\n"):
        (failed,) = ask(cluster, 1)
        assert (failed["host"], failed["code"]) == ("beta", "criu_configuration")
        assert cluster.failure("migrate", "alpha/odd", "beta")["code"] == "criu_configuration"


def test_all_that_is_wrong_with_the_target_is_told_too(cluster: Cluster, start: Start) -> None:
    start("io_uring")
    cluster["beta"].ctr("containers", "create", "migrator.local/odd:1", "odd")
    with cluster.covered("beta", "/usr/sbin/criu", "#!/bin/sh\necho 'Version: 3.11'\n"):
        failed = {(found["host"], found["code"]) for found in ask(cluster, 1)}
    assert failed == {
        ("alpha", "io_uring"),
        ("beta", "container_exists"),
        ("beta", "criu_too_old"),
    }


def test_where_there_is_nothing_to_look_at(cluster: Cluster, nothing_left: None) -> None:
    assert cluster.failure("preflight", "alpha/nobody", "beta")["code"] == "container_not_found"
