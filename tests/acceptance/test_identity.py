"""Who a program is and what it may do is the same after a move; its limits hold, its end is told, its clocks go on."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.containerd import ContainerdClient
from migrator.lab import cgroups
from tests.acceptance.cluster import Cluster, Machine
from tests.workloads import Running
from tests.workloads.workload import State

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

IMAGE = "migrator.local/ticker:1"
PERSON = """
import json, os, signal, time
signal.signal(signal.SIGTERM, lambda *_: os._exit(42)); signal.signal(signal.SIGCHLD, signal.SIG_IGN)
last, number, back = time.monotonic(), 0, 0.0
while True:
    number += 1
    now = time.monotonic()
    back, last = min(back, now - last), now
    told = {"counter": number, "nonce": NONCE, "back": back, "monotonic": now, "boot": time.clock_gettime(7),
            "env": dict(os.environ), "ids": [os.getresuid(), os.getresgid(), os.getgroups()], "pid": os.getpid(),
            "cwd": os.getcwd(), "umask": UMASK, "host": os.uname().nodename, "session": [os.getsid(0), os.getpgid(0)],
            "nice": os.getpriority(os.PRIO_PROCESS, 0)}
    open("/dev/shm/new", "w").write(json.dumps(told)); os.rename("/dev/shm/new", "/dev/shm/state.json")
    time.sleep(0.02)
"""
START = "import os\nNONCE, UMASK = os.urandom(8).hex(), os.umask(0o027)\nos.umask(UMASK)\n"
FORKS = """
import os, time
for number in range(100):
    try:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    except BlockingIOError:
        print("stopped at", number)
        break
"""
MAY_HAVE_USERS = bool(int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> 24 & 1)
"""CAP_SYS_RESOURCE: without it CRIU may not read the limits of other users' processes, and such containers are refused."""
USER = "1234:2345" if MAY_HAVE_USERS else "0:0"
OPTIONS = (
    *("--memory-limit", str(96 << 20), "--cpu-quota", "50000", "--cpu-period", "100000"),
    *("--env", "COLOUR=blue", "--env", "EMPTY=", "--user", USER, "--cwd", "/opt", "--hostname", "person"),
    *("--cap-drop", "CAP_CHOWN", "--cap-add", "CAP_SYS_TIME", "--seccomp"),
    *("--label", "team=red", "--label", "containerd.io/restart.policy=always", "--annotation", "note=kept"),
)
MARKS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigCgt")
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "80", "net.core.somaxconn": "1234", "kernel.msgmax": "9999"}
LIMITS = {
    "memory.limit_in_bytes": "memory.max",
    "cpu.cfs_quota_us": "cpu.max",
    "cpu.shares": "cpu.weight",
    "pids.max": "pids.max",
}
"""Files of cgroup v1, and of v2."""


@pytest.fixture
def person(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    cluster.remove("person")
    program = ["/usr/bin/python3", "-B", "-c", START + PERSON]
    cluster["alpha"].ctr("containers", "create", *OPTIONS, IMAGE, "person", *program)
    limit_processes(cluster["alpha"], "person", 40)
    yield start(cluster["alpha"])
    cluster.remove("person")


def start(machine: Machine) -> Running:
    machine.ctr("tasks", "start", "--detach", "--null-io", "person")
    container = Running(machine, "person")
    container.wait_until(lambda state: state["counter"] > 20, lambda: look(container))
    machine.ctr("containers", "label", "person", "containerd.io/restart.status=running")
    return container


def limit_processes(machine: Machine, name: str, limit: int) -> None:
    """`ctr` has no option for it."""
    with ContainerdClient(machine.host.containerd_socket) as client:
        container = client.with_namespace("default").containers.get(name)
        spec = container.spec_json()
        spec["linux"]["resources"]["pids"] = {"limit": limit}
        spec["linux"]["resources"]["cpu"]["shares"] = 512
        spec["process"]["user"]["additionalGids"] = [7, 4711]
        spec["process"]["oomScoreAdj"] = 123
        spec["linux"]["sysctl"] = SYSCTLS
        limited = replace(container, spec=container.pack_spec(spec))
        client.with_namespace("default").containers.update(limited, "spec")


def look(container: Running) -> State:
    state: State = json.loads((container.root / "dev/shm/state.json").read_text())
    return state


def identity(container: Running) -> dict[str, Any]:
    """All that must be the same, by the program, the kernel and containerd."""
    state = {
        key: value for key, value in look(container).items() if key not in ("counter", "back", "monotonic", "boot")
    }
    pid = container.pid
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {name: value.strip() for name, _, value in lines if name in MARKS}
    record = json.loads(container.ctr("containers", "info", container.name))
    for moment in ("CreatedAt", "UpdatedAt"):
        record.pop(moment)
    files = {name: Path(f"/proc/{pid}/{name}").read_text() for name in ("limits", "oom_score_adj")}
    inside = ["nsenter", f"--target={pid}", "--net", "--ipc", "sysctl", "--values"]
    files |= {name: container.host.run(*inside, name).strip() for name in SYSCTLS}
    return {"program": state, "kernel": status | files, "limits": limits(pid), "record": record}


def limits(pid: int) -> dict[str, str]:
    found = {}
    for hierarchy in cgroups.hierarchies():
        place = hierarchy.mount / cgroups.own_path(hierarchy, pid).lstrip("/")
        found |= {
            name: (place / name).read_text().strip()
            for pair in LIMITS.items()
            for name in pair
            if (place / name).exists()
        }
    return found


def test_identity_and_limits_are_the_same_after_a_move(cluster: Cluster, person: Running) -> None:
    before = identity(person)
    assert before["program"]["env"]["COLOUR"] == "blue"
    assert str(96 << 20) in before["limits"].values()
    assert "40" in before["limits"].values()
    assert (before["kernel"]["NoNewPrivs"], before["kernel"]["Seccomp"]) == ("1", "2")
    assert before["kernel"].items() >= (SYSCTLS | {"oom_score_adj": "123\n"}).items()
    assert before["record"]["Labels"]["containerd.io/restart.status"] == "running"
    moved = cluster.migrate(person, "beta")
    assert identity(moved) == before
    assert_limits_hold(moved)
    assert identity(cluster.migrate(moved, "alpha")) == before
    assert_its_end_is_told(cluster, "alpha")


def assert_limits_hold(container: Running) -> None:
    """The fork bomb and the memory hog are run inside, by an exec."""
    forks = ["--exec-id", "forks", container.name, "/usr/bin/python3", "-c", FORKS]
    assert "stopped at" in container.host.run("ctr", "tasks", "exec", *forks)
    hog = "a = bytearray(200 << 20); print('too much')"
    exec_id = ["--exec-id", "hog", container.name, "/usr/bin/python3", "-c", hog]
    assert "too much" not in container.host.run("ctr", "tasks", "exec", *exec_id, check=False)
    container.wait_until(lambda state: state["counter"] > 0, lambda: look(container))
    container.wait_until(
        lambda seen: seen["added"] == 0,
        lambda: {"added": container.ctr("tasks", "ps", container.name).count("exec_id")},
    )


def assert_its_end_is_told(cluster: Cluster, host: str) -> None:
    """containerd knows the exit status of what it did not start; with the restart label it starts it anew, as it should."""
    machine = cluster[host]
    machine.ctr("containers", "label", "person", "containerd.io/restart.status=")
    socket = machine.host.root / "run/containerd/containerd.sock"
    events = subprocess.Popen(
        ["nsenter", "--target", str(machine.host.pid), "--mount", "ctr", "events"], stdout=subprocess.PIPE, text=True
    )
    try:
        time.sleep(0.5)
        with ContainerdClient(socket) as client:
            task = client.with_namespace("default").task("person")
            machine.ctr("tasks", "kill", "--signal", "SIGTERM", "person")
            assert task.wait(10).code == 42
        assert machine.tasks()["person"] == "STOPPED"
    finally:
        time.sleep(0.5)
        events.terminate()
    told = events.communicate(timeout=10)[0]
    assert any("/tasks/exit" in line and '"exit_status":42' in line for line in told.splitlines()), told


def test_the_clocks_of_a_program_never_jump_back(cluster: Cluster, person: Running) -> None:
    before = look(person)
    moved = cluster.migrate(person, "beta")
    after = moved.wait_until(lambda state: state["counter"] > before["counter"] + 50, lambda: look(moved))
    assert after["back"] == 0.0
    assert after["nonce"] == before["nonce"]
    assert Path(f"/proc/{moved.pid}/ns/time").readlink() != Path("/proc/self/ns/time").readlink(), "clocks of its own"
    for clock in ("monotonic", "boot"):
        assert 0 < after[clock] - before[clock] < 60


def test_another_user_moves_or_is_refused_before_the_freeze(cluster: Cluster, person: Running) -> None:
    cluster.remove("person")
    program = ["/usr/bin/python3", "-c", "import time; time.sleep(600)"]
    cluster["alpha"].ctr("run", "--detach", "--null-io", "--user", "1234", IMAGE, "person", *program)
    job = cluster.cli("migrate", "alpha/person", "beta", "--wait").data
    assert job["state"] == ("succeeded" if MAY_HAVE_USERS else "failed"), job
    assert MAY_HAVE_USERS or job["failure"]["code"] == "no_cap_sys_resource"
    assert cluster["beta" if MAY_HAVE_USERS else "alpha"].tasks()["person"] == "RUNNING"


def test_an_added_process_is_refused_until_it_has_ended(cluster: Cluster, person: Running) -> None:
    sleeper = ["/usr/bin/python3", "-c", "import time; time.sleep(600)"]
    person.ctr("tasks", "exec", "--detach", "--exec-id", "helper", person.name, *sleeper)
    error = cluster.failure("migrate", str(person), "beta")
    assert error["code"] == "executed_process", error
    assert "started in it from outside" in error["message"]
    person.ctr("tasks", "kill", "--exec-id", "helper", "--signal", "SIGKILL", person.name)
    person.wait_until(
        lambda seen: seen["added"] == 0, lambda: {"added": person.ctr("tasks", "ps", person.name).count("exec_id")}
    )
    before = look(person)
    moved = cluster.migrate(person, "beta")
    moved.wait_until(lambda state: state["counter"] > before["counter"] + 20, lambda: look(moved))
