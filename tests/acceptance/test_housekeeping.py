"""What a crash may leave is planted by other tools on a host: doctor shows it, --fix removes it, all else stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, Machine
from tests.acceptance.inventory import is_frozen, parent_of
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

LET_PASS = """
import sqlite3, sys
from datetime import datetime, timedelta
with sqlite3.connect("/var/lib/migrator/migrator.db", timeout=20) as database:
    (ended,) = database.execute("SELECT finished_at FROM jobs WHERE id = ?", (sys.argv[1],)).fetchone()
    earlier = datetime.fromisoformat(ended) - timedelta(seconds=41)
    database.execute("UPDATE jobs SET finished_at = ? WHERE id = ?", (earlier.isoformat(" "), sys.argv[1]))
"""
"""For 40 s a job that has ended may still have a command on its way: let it have ended earlier."""
FOREIGN = "mig-aaaaaaaaaa"
"""A job that the control plane does not know."""
IMAGE = "migrator.local/ticker:1"
CRIU_CHAIN = """*filter
:CRIU - [0:0]
-I INPUT -j CRIU
-I OUTPUT -j CRIU
-A CRIU -m mark --mark 0xC114 -j ACCEPT
-A CRIU -j DROP
COMMIT
"""
ABORT = """
import sys
from migrator.containerd import ContainerdClient
ContainerdClient("/run/containerd/containerd.sock").content.abort(sys.argv[1])
"""
DEAD_PID = 2**22 - 1


def examine(cluster: Cluster, *words: str) -> dict[str, dict[str, Any]]:
    """What each host says, whatever the exit code."""
    return {row["host"]: row for row in cluster.cli("doctor", *words).data}


def findings(cluster: Cluster, *words: str) -> list[dict[str, Any]]:
    """What lies about on alpha."""
    found: list[dict[str, Any]] = examine(cluster, "alpha", *words)["alpha"]["findings"]
    return found


def fates(cluster: Cluster, *words: str) -> dict[tuple[str, str], str]:
    """The same in short, but for epochs: former tests leave them."""
    return {
        (item["kind"], item["name"]): item["fate"]
        for item in findings(cluster, *words)
        if item["kind"] != "epoch" or item["name"].startswith("gone")
    }


def make_file(machine: Machine, path: str, text: str = "") -> None:
    file = machine.host.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def guard_record(job: str, container: str, state: str) -> str:
    return json.dumps(
        {
            "job_id": job, "namespace": "default", "container": container, "containerd_socket": "/run/x",
            "worker_pid": DEAD_PID, "worker_started": 1, "budget_s": 30.0, "patience_s": 3.0,
            "state": state, "guard_pid": DEAD_PID, "reason": "",
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def failed_job(cluster: Cluster) -> str:
    """A job that has failed so long ago that nothing of it can be on its way."""
    answer = cluster.cli("migrate", "alpha/nothing", "beta", "--wait")
    return let_pass(cluster, answer.data["id"])


def let_pass(cluster: Cluster, job: str) -> str:
    """Put back the end of a job, so far that it is settled now."""
    done = cluster.lab.control.exec(["python3", "-c", LET_PASS, job])
    assert done.returncode == 0, done.stderr
    return job


@pytest.fixture
def alpha(cluster: Cluster) -> Machine:
    return cluster["alpha"]


@pytest.fixture
def quick_alpha(cluster: Cluster, alpha: Machine) -> Iterator[Machine]:
    """Alpha with a worker for which a second is a long time."""
    with cluster.worker_with("alpha", {"MIGRATOR_LEFTOVER_AGE_S": "1"}):
        yield alpha


# ---- one of each kind, of a job that is over


def plant_lease(machine: Machine, job: str) -> str:
    machine.ctr("leases", "create", "--id", f"migrator-{job}")
    return f"migrator-{job}"


def plant_snapshot(machine: Machine, job: str) -> str:
    machine.ctr("snapshots", "prepare", "left", "")
    machine.ctr("snapshots", "label", "left", f"io.migrator.job={job}")
    return "left"


def plant_container(machine: Machine, job: str) -> str:
    machine.ctr("containers", "create", "--label", f"io.migrator.job={job}", IMAGE, "left")
    return "left"


def plant_ingest(machine: Machine, job: str) -> str:
    return begin_ingest(machine, f"migrator-{job}-sha256:{'a' * 64}")


def plant_directory_in_memory(machine: Machine, job: str) -> str:
    make_file(machine, f"/run/migrator/criu/{job}/images/pages-1.img", "memory")
    return f"/run/migrator/criu/{job}"


def plant_directory_on_disk(machine: Machine, job: str) -> str:
    make_file(machine, f"/var/lib/migrator/criu/{job}/images/pages-1.img", "memory")
    return f"/var/lib/migrator/criu/{job}"


def plant_guard(machine: Machine, job: str) -> str:
    make_file(machine, f"/run/migrator/guards/{job}.json", guard_record(job, "nobody", "released"))
    make_file(machine, f"/run/migrator/guards/{job}.lock")
    return "nobody"


def plant_lock(machine: Machine, job: str) -> str:
    make_file(machine, f"/run/migrator/guards/{job}.lock")
    return f"{job}.json"


def begin_ingest(machine: Machine, ref: str) -> str:
    """Begin to write a blob and die."""
    command = machine.host.enter_command(["ctr", "content", "ingest", ref])
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin is not None
        process.stdin.write(b"begun")
        process.stdin.flush()
        deadline = time.monotonic() + 10
        while ref not in machine.ctr("content", "active"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
    return ref


PLANTS = {
    "lease": plant_lease,
    "snapshot": plant_snapshot,
    "container": plant_container,
    "ingest": plant_ingest,
    "directory": plant_directory_in_memory,
    "directory on disk": plant_directory_on_disk,
    "guard": plant_guard,
    "guard's lock": plant_lock,
}


@pytest.mark.parametrize("what", PLANTS)
def test_what_a_job_left_is_shown_and_removed(cluster: Cluster, alpha: Machine, failed_job: str, what: str) -> None:
    name, kind = PLANTS[what](alpha, failed_job), what.split()[0].removesuffix("'s")
    shown = cluster.cli("doctor", "alpha")
    assert shown.code == 1, shown.said
    (found,) = [item for item in shown.data[0]["findings"] if item["name"] == name and item["kind"] == kind]
    assert (found["fate"], found["job_id"]) == ("due", failed_job)
    assert "over (failed)" in found["reason"]
    assert fates(cluster)[(kind, name)] == "due", "looking changes nothing"
    assert fates(cluster, "--fix")[(kind, name)] == "removed"
    again = cluster.cli("doctor", "alpha")
    assert again.code == 0, again.said
    assert name not in [item["name"] for item in again.data[0]["findings"]]


@pytest.mark.parametrize("what", PLANTS)
def test_what_may_be_somebody_elses_stays(cluster: Cluster, alpha: Machine, failed_job: str, what: str) -> None:
    name, kind = PLANTS[what](alpha, FOREIGN), what.split()[0].removesuffix("'s")
    try:
        answer = cluster.cli("doctor", "alpha", "--fix")
        assert answer.code == 0, answer.said
        (found,) = [item for item in answer.data[0]["findings"] if item["name"] == name and item["kind"] == kind]
        assert found["fate"] == "kept"
        assert "knows no such job" in found["reason"]
    finally:
        tidy(alpha, FOREIGN)


def tidy(machine: Machine, job: str) -> None:
    """Take away by hand what a test planted."""
    machine.ctr("containers", "delete", "left", check=False)
    machine.ctr("snapshots", "delete", "left", check=False)
    machine.ctr("leases", "delete", "--sync", f"migrator-{job}", check=False)
    for ref in machine.ctr("content", "active").split():
        if job in ref:
            machine.run("python3", "-c", ABORT, ref)
    machine.run(
        "sh", "-c", f"rm -rf /run/migrator/criu/{job} /var/lib/migrator/criu/{job} /run/migrator/guards/{job}.*"
    )


# ---- what has no job


def committed_snapshot(machine: Machine) -> str:
    """Some snapshot that a view can be made of; containers have active ones beside it."""
    rows = [line.split() for line in machine.ctr("snapshots", "ls").splitlines()[1:]]
    return next(row[0] for row in rows if row[-1] == "Committed")


def test_an_old_view_and_an_old_ingest_go(cluster: Cluster, quick_alpha: Machine) -> None:
    parent = committed_snapshot(quick_alpha)
    quick_alpha.ctr("snapshots", "view", "migrator-view-1", parent)
    ref = begin_ingest(quick_alpha, "migrator-rw-web-1")
    time.sleep(1.5)
    assert fates(cluster) == {("view", "migrator-view-1"): "due", ("ingest", ref): "due"}
    assert fates(cluster, "--fix") == {("view", "migrator-view-1"): "removed", ("ingest", ref): "removed"}
    assert fates(cluster) == {}


def test_a_young_view_stays(cluster: Cluster, alpha: Machine) -> None:
    parent = committed_snapshot(alpha)
    alpha.ctr("snapshots", "view", "migrator-view-1", parent)
    try:
        assert fates(cluster, "--fix") == {("view", "migrator-view-1"): "kept"}
    finally:
        alpha.ctr("snapshots", "delete", "migrator-view-1")


def test_the_epoch_of_a_workload_that_is_gone_goes(
    cluster: Cluster, alpha: Machine, ticker: Running, keeps_checkpoints: None
) -> None:
    job = cluster.done("checkpoints", "create", str(ticker), "--wait")
    workload = cluster.done("checkpoints", "show", job["checkpoint_id"])["workload_id"]
    make_file(alpha, "/var/lib/migrator/epochs/gone-aaaaaaaaaa", "7")
    alpha.run("touch", "--date", "2 minutes ago", "/var/lib/migrator/epochs/gone-aaaaaaaaaa")
    shown = cluster.cli("doctor", "alpha")
    assert shown.code == 0, "a host that remembers too much is well"
    assert ("epoch", "gone-aaaaaaaaaa", "due") in {
        (item["kind"], item["name"], item["fate"]) for item in shown.data[0]["findings"]
    }
    assert fates(cluster, "--fix")[("epoch", "gone-aaaaaaaaaa")] == "removed"
    kept = alpha.run("ls", "/var/lib/migrator/epochs").split()
    assert workload in kept
    assert "gone-aaaaaaaaaa" not in kept


# ---- frozen tasks, and the network


def test_a_task_that_somebody_has_paused_stays_paused(cluster: Cluster, ticker: Running) -> None:
    ticker.ctr("tasks", "pause", "demo")
    answer = cluster.cli("doctor", "alpha", "--fix")
    assert answer.code == 0, answer.said
    found = [(item["kind"], item["name"], item["fate"]) for item in answer.data[0]["findings"]]
    assert ("frozen", "demo", "foreign") in found
    assert is_frozen(ticker.pid)
    ticker.ctr("tasks", "resume", "demo")


def test_a_task_that_a_dead_guard_left_frozen_runs_again(
    cluster: Cluster, alpha: Machine, ticker: Running, keeps_checkpoints: None
) -> None:
    job = cluster.done("checkpoints", "create", str(ticker), "--wait")["id"]
    ticker.ctr("tasks", "pause", "demo")
    make_file(alpha, f"/run/migrator/guards/{job}.json", guard_record(job, "demo", "armed"))
    assert fates(cluster, "--fix") == {("frozen", "demo"): "kept"}, "the job has only just ended"
    assert is_frozen(ticker.pid)
    let_pass(cluster, job)
    assert fates(cluster) == {("frozen", "demo"): "due"}
    assert fates(cluster, "--fix") == {("frozen", "demo"): "removed"}
    assert not is_frozen(ticker.pid)
    assert fates(cluster) == {}


def test_a_frozen_task_that_is_no_workload_of_this_host_stays_frozen(
    cluster: Cluster, alpha: Machine, failed_job: str
) -> None:
    stray = cluster.start(WORKLOADS["ticker"], "alpha", "stray")
    stray.ctr("tasks", "pause", "stray")
    make_file(alpha, f"/run/migrator/guards/{failed_job}.json", guard_record(failed_job, "stray", "promised"))
    try:
        answer = cluster.cli("doctor", "alpha", "--fix")
        assert answer.code == 1, answer.said
        assert [item["fate"] for item in answer.data[0]["findings"] if item["name"] == "stray"] == ["failed"]
        assert is_frozen(stray.pid)
    finally:
        alpha.run("sh", "-c", f"rm -f /run/migrator/guards/{failed_job}.*")
        cluster.remove("stray")


def chain_by_iptables(machine: Machine, pid: int) -> None:
    """The lock as CRIU 4 makes it, twice: two dumps were killed."""
    for _ in range(2):
        done = machine.host.exec(
            ["nsenter", f"--net=/proc/{pid}/ns/net", "iptables-restore", "-w", "--noflush"], input=CRIU_CHAIN
        )
        assert done.returncode == 0, done.stderr


def table_by_nftables(machine: Machine, pid: int) -> None:
    """The lock as CRIU 4 makes it with `--network-lock nftables`."""
    inside = f"nsenter --net=/proc/{pid}/ns/net nft"
    table = "inet CRIU-0f9d2b1c-6a55-4a3e-9f0e-0d6b6d0f6a11"
    machine.run(
        "sh",
        "-c",
        f"{inside} create table {table}; {inside} add chain {table} output '{{ type filter hook output priority 0; policy drop; }}'",
    )


def await_lock(cluster: Cluster, fate: str, *words: str) -> dict[str, Any]:
    """The one lock that is found. While any CRIU lives on this machine, perhaps another lab's, none is looked for."""
    deadline = time.monotonic() + 60
    while not (found := [item for item in findings(cluster, *words) if item["kind"] == "firewall"]):
        assert time.monotonic() < deadline, "no lock was found"
        time.sleep(0.5)
    assert [item["fate"] for item in found] == [fate]
    return found[0]


@pytest.mark.parametrize("lock", [chain_by_iptables, table_by_nftables])
def test_a_task_that_a_killed_dump_cut_off_is_reachable_again(
    cluster: Cluster, alpha: Machine, ticker: Running, lock: Callable[[Machine, int], None]
) -> None:
    inside = ["nsenter", f"--net=/proc/{ticker.pid}/ns/net"]
    lock(alpha, ticker.pid)
    found = await_lock(cluster, "due")
    assert found["name"].startswith("demo: ")
    assert "CRIU" in found["name"]
    ticker.ctr("tasks", "pause", "demo")
    assert {item["kind"] for item in findings(cluster, "--fix")} <= {"frozen", "epoch"}, "a frozen task keeps its lock"
    ticker.ctr("tasks", "resume", "demo")
    await_lock(cluster, "removed", "--fix")
    assert "CRIU" not in alpha.run(*inside, "iptables-save")
    assert "CRIU" not in alpha.run(*inside, "nft", "list", "tables")


# ---- what is in use


def test_a_sweep_disturbs_no_job(cluster: Cluster, quick_alpha: Machine, ticker: Running) -> None:
    before = ticker.state()
    job = cluster.done("migrate", str(ticker), "beta")["id"]
    seen: list[dict[str, Any]] = []
    while cluster.job(job)["state"] in ("queued", "running", "rolling_back"):
        seen += [item for row in examine(cluster, "--fix").values() for item in row["findings"]]
    assert cluster.job(job)["state"] == "succeeded", cluster.job(job)
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "demo"))
    assert [item for item in seen if item["job_id"] == job], "no sweep met the job's things"
    assert [item for item in seen if item["fate"] != "kept" and item["kind"] != "epoch"] == []


def test_a_restored_container_keeps_what_it_has(cluster: Cluster, ticker: Running, failed_job: str) -> None:
    """Its snapshot bears the mark of the job that brought it; after a success it is the user's, even without a task."""
    job = cluster.done("migrate", str(ticker), "beta", "--wait")
    assert job["state"] == "succeeded", job
    let_pass(cluster, job["id"])
    moved = ticker.on(cluster["beta"])
    moved.ctr("tasks", "kill", "--signal", "SIGKILL", "demo")
    found = examine(cluster, "beta", "--fix")["beta"]["findings"]
    assert [item for item in found if item["kind"] != "epoch"] == []
    assert "demo" in cluster["beta"].containers()
    assert "demo" in cluster["beta"].ctr("snapshots", "ls")


# ---- doctor itself


def test_a_healthy_lab(cluster: Cluster) -> None:
    answer = cluster.cli("doctor")
    assert answer.code == 0, answer.said
    assert [row["host"] for row in answer.data] == ["alpha", "beta"]
    for row in answer.data:
        levels = {check["name"]: check["level"] for check in row["checks"]}
        assert {"containerd", "runc", "criu", "criu check", "criu configuration", "programs", "store", "clock"} < set(
            levels
        )
        assert "wrong" not in levels.values(), row
        assert row["failure"] is None


def test_a_silent_host_is_named_and_the_others_are_shown(cluster: Cluster) -> None:
    worker = cluster["beta"].host.service("worker")
    worker.signal(signal.SIGSTOP)
    try:
        time.sleep(5)
        answer = cluster.cli("doctor")
        assert answer.code == 6, answer.said
        rows = {row["host"]: row for row in answer.data}
        assert rows["alpha"]["checks"]
        assert rows["beta"]["failure"]["code"] == "no_live_worker"
        assert "migrator worker --host beta" in answer.stderr
    finally:
        worker.signal(signal.SIGCONT)
        cluster.wait_alive("beta")


def test_an_unknown_host(cluster: Cluster) -> None:
    answer = cluster.cli("doctor", "nowhere")
    assert answer.code == 3, answer.said


def test_a_missing_program_and_a_configuration_of_criu_are_told(cluster: Cluster, alpha: Machine) -> None:
    make_file(alpha, "/etc/criu/runc.conf", "# ours\ntcp-established\n")
    try:
        with cluster.worker_with("alpha", {"PATH": "/usr/bin:/bin"}):
            answer = cluster.cli("doctor", "alpha")
            checks = {check["name"]: check for check in answer.data[0]["checks"]}
            assert answer.code == 1, answer.said
            assert checks["criu configuration"]["level"] == "doubtful"
            assert checks["criu configuration"]["value"] == "/etc/criu/runc.conf: tcp-established"
            assert checks["programs"]["level"] == "wrong"
            assert "iptables-restore" in checks["programs"]["value"]
            assert checks["programs"]["remedy"]
    finally:
        alpha.run("rm", "-r", "/etc/criu")


def test_a_worker_sweeps_when_it_starts(cluster: Cluster, alpha: Machine, failed_job: str) -> None:
    alpha.host.service("worker").stop()
    plant_lease(alpha, failed_job)
    plant_directory_in_memory(alpha, failed_job)
    cluster.restart("alpha", "worker")
    deadline = time.monotonic() + 20
    while failed_job in alpha.ctr("leases", "ls") or alpha.run("ls", "/run/migrator/criu", check=False):
        assert time.monotonic() < deadline, "nothing was swept"
        time.sleep(0.5)


# ---- a machine that is gone


def test_what_a_removed_host_had_sealed_is_brought_back(
    cluster: Cluster, alpha: Machine, ticker: Running, keeps_checkpoints: None
) -> None:
    before, shim = ticker.state(), parent_of(ticker.pid)
    target = cluster["beta"].host.service("containerd")
    job_id = str(cluster.done("migrate", str(ticker), "beta")["id"])
    cluster.wait_frozen(ticker)
    target.signal(signal.SIGSTOP)  # nothing is fetched, so nothing is promised; its worker is heard of
    try:
        cluster.wait_for_step(job_id, "upload", "done")
        cluster.kill("alpha", "worker")
        os.kill(shim, signal.SIGKILL)
    finally:
        target.signal(signal.SIGCONT)
    try:
        assert cluster.cli("hosts", "remove", "alpha").code == 2
        wait_silent(cluster, "alpha")
        assert cluster.done("hosts", "remove", "alpha", "--gone")["jobs"] == [job_id]
        job = cluster.wait_for_job(job_id)
        assert (job["state"], job["failure"]["code"]) == ("failed", "source_gone"), job
        assert cluster.finish("restore", job["checkpoint_id"], "beta")["state"] == "succeeded"
        WORKLOADS["ticker"].check(before, Running(cluster["beta"], "demo"))
    finally:
        cluster.restart("alpha", "worker")  # the machine is installed anew
        tidy(alpha, job_id)


def wait_silent(cluster: Cluster, name: str) -> None:
    deadline = time.monotonic() + 30
    while any(host["alive"] for host in cluster.done("hosts", "list") if host["name"] == name):
        assert time.monotonic() < deadline, f"{name} does not fall silent"
        time.sleep(0.2)
