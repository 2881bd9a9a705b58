"""Containers with bind mounts move as each was declared, and whole; what was not declared is refused before the freeze."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster, Machine
from tests.workloads import Running
from tests.workloads.workload import State

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

IMAGE = "migrator.local/ticker:1"
WRITER = """
import fcntl, json, os, time
book = open("/data/book", "a")
fcntl.flock(book, fcntl.LOCK_EX)
table = open("/data/table", "w+b"); table.truncate(8192); table.flush()
fcntl.lockf(table, fcntl.LOCK_EX, 100, 10)
open("/scratch/note", "w").write("kept in memory"); shm = open("/dev/shm/note", "w+"); shm.write("shared"); shm.flush()
os.makedirs("/state"); nonce, number = os.urandom(8).hex(), 0
while True:
    number += 1
    book.write(f"{number}\\n"); book.flush(); os.fsync(book.fileno())
    os.pwrite(table.fileno(), number.to_bytes(8, "big"), 0)
    told = {"counter": number, "nonce": nonce, "secret": open("/run/secret").read(), "empty": os.listdir("/empty"),
            "scratch": open("/scratch/note").read(), "shm": open("/dev/shm/note").read(),
            "shared": open("/shared/name").read()}
    open("/state/new", "w").write(json.dumps(told)); os.rename("/state/new", "/state/state.json")
    time.sleep(0.02)
"""
BINDS = {
    "/data": "/srv/app/data,rbind:rw",
    "/run/secret": "/srv/app/secret,rbind:ro",
    "/shared": "/srv/shared,rbind:ro",
    "/empty": "/srv/app/empty,bind:rw",
}
POLICIES = {"/data": "copy", "/run/secret": "copy", "/shared": "shared", "/empty": "empty"}
VOLUMES = [word for item in POLICIES.items() for word in ("--volume", "=".join(item))]


class Files:
    """A host's files, seen from outside."""

    def __init__(self, machine: Machine):
        self.top = machine.host.root

    def __truediv__(self, path: str) -> Path:
        return self.top / path.lstrip("/")


@pytest.fixture
def served(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A program that writes into one volume and reads three others, on alpha."""
    yield from serve(cluster)


def serve(cluster: Cluster, *options: str) -> Iterator[Running]:
    clear(cluster)
    for machine in cluster.machines.values():
        machine.run("mkdir", "-p", "/srv/shared")
        (Files(machine) / "/srv/shared/name").write_text(machine.name)
    fill(Files(cluster["alpha"]))
    mounts = [
        f"type=bind,src={bind.split(',')[0]},dst={name},options={bind.split(',')[1]}" for name, bind in BINDS.items()
    ]
    mounts.append("type=tmpfs,src=tmpfs,dst=/scratch,options=size=4m")
    words = [word for mount in mounts for word in ("--mount", mount)]
    program = ["/usr/bin/python3", "-B", "-c", WRITER]
    cluster["alpha"].ctr("run", "--detach", "--null-io", *words, *options, IMAGE, "served", *program)
    container = Running(cluster["alpha"], "served")
    container.wait_until(lambda state: state["counter"] > 20)
    yield container
    clear(cluster)


def clear(cluster: Cluster) -> None:
    cluster.remove("served")
    for machine in cluster.machines.values():
        machine.run("rm", "-rf", "/srv")
        machine.run("mkdir", "/srv")


def fill(files: Files) -> None:
    """Everything that a directory can hold and a copy can lose."""
    data = files / "/srv/app/data"
    data.mkdir(parents=True)
    data.chmod(0o2750)
    os.chown(data, 1000, 2000)
    os.setxattr(data, "user.top", b"yes")
    plain = data / "plain"
    plain.write_text("plain")
    os.chown(plain, 1234, 5678)
    plain.chmod(0o4751)
    os.utime(plain, ns=(1, 1_500_000_000_123_456_789))
    os.setxattr(plain, "user.note", b"\0\1\2")
    os.setxattr(plain, "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    (data / "hard").hardlink_to(plain)
    (data / "absolute").symlink_to("/etc/hostname")
    (data / "upward").symlink_to("../secret")
    (data / "deep/er").mkdir(parents=True)
    (data / "deep/er/to-file").symlink_to("../../plain")
    with (data / "sparse").open("wb") as sparse:
        sparse.seek(256 << 20)
        sparse.write(b"end")
    os.mkfifo(data / "fifo", 0o640)
    (data / "name with \n line, ünï").touch()
    (data / ".wh.no-whiteout").touch()
    (files / "/srv/app/secret").write_text("hush")
    (files / "/srv/app/secret").chmod(0o400)
    (files / "/srv/app/empty").mkdir()
    (files / "/srv/app/empty").chmod(0o1777)
    (files / "/srv/app/empty/old").touch()


def describe(top: Path) -> dict[str, Any]:
    """Each path with all that a copy must keep; what the program writes meanwhile is looked at elsewhere."""
    found = {}
    for path in [top, *sorted(top.rglob("*"))]:
        name, info = str(path.relative_to(top)), path.lstat()
        if name in ("book", "table"):
            continue
        names = () if path.is_symlink() else sorted(os.listxattr(path))
        marks = {mark: os.getxattr(path, mark) for mark in names if not mark.startswith("trusted.overlay")}
        holds = (
            str(path.readlink())
            if path.is_symlink()
            else (path.read_bytes() if path.is_file() and info.st_size < 99 else info.st_size)
        )
        times = info.st_mtime_ns if path.is_file() else 0
        found[name] = (info.st_mode, info.st_uid, info.st_gid, info.st_nlink, marks, holds, times)
    return found


def assert_goes_on(before: State, after: Running) -> State:
    now = after.wait_until(lambda state: state["counter"] > before["counter"] + 20)
    assert now["nonce"] == before["nonce"]
    return now


def assert_book_is_whole(files: Files) -> None:
    numbers = (files / "/srv/app/data/book").read_text().rpartition("\n")[0].split("\n")
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]


def test_every_policy_in_one_container(cluster: Cluster, served: Running) -> None:
    alpha, beta = Files(cluster["alpha"]), Files(cluster["beta"])
    before, described = served.state(), describe(alpha / "/srv/app/data")
    assert before["empty"] == ["old"]
    job = cluster.finish("migrate", "alpha/served", "beta", *VOLUMES)
    assert job["state"] == "succeeded", job
    now = assert_goes_on(before, Running(cluster["beta"], "served"))
    assert describe(beta / "/srv/app/data") == described
    assert (beta / "/srv/app/data/sparse").stat().st_blocks * 512 < 1 << 20, "the hole was filled"
    assert_book_is_whole(beta)
    assert (now["secret"], now["shared"], now["empty"]) == ("hush", "beta", [])
    assert (now["scratch"], now["shm"]) == ("kept in memory", "shared")
    assert (beta / "/srv/app/empty").stat().st_mode & 0o7777 == 0o1777
    assert (beta / "/srv/app/secret").stat().st_mode & 0o7777 == 0o400
    mounts = Path(f"/proc/{Running(cluster['beta'], 'served').pid}/mountinfo").read_text()
    flags = {line.split()[4]: line.split()[5].split(",")[0] for line in mounts.splitlines()}
    assert {name: flags[name] for name in BINDS} == {
        "/data": "rw",
        "/run/secret": "ro",
        "/shared": "ro",
        "/empty": "rw",
    }
    assert len(locks(Running(cluster["beta"], "served").pid)) == 2, "its file locks came along"
    assert describe(alpha / "/srv/app/data") == described, "the source's data are the user's: they stay"
    assert not list((beta / "/var/lib/migrator/volumes").glob("*"))
    back_is_refused_until_the_old_data_are_gone(cluster, now)


def back_is_refused_until_the_old_data_are_gone(cluster: Cluster, before: State) -> None:
    error = cluster.failure("migrate", "beta/served", "alpha", *VOLUMES)
    assert (error["code"], error["host"]) == ("volume_exists", "alpha"), error
    cluster["alpha"].run("rm", "-rf", "/srv/app")
    assert cluster.finish("migrate", "beta/served", "alpha", *VOLUMES)["state"] == "succeeded"
    assert_goes_on(before, Running(cluster["alpha"], "served"))
    assert_book_is_whole(Files(cluster["alpha"]))


def locks(pid: int) -> list[str]:
    files = Path(f"/proc/{pid}/fdinfo").iterdir()
    return [line for file in files for line in file.read_text().splitlines() if line.startswith("lock:")]


def test_labels_declare_and_the_job_outranks_them(cluster: Cluster, nothing_left: None) -> None:
    labels = [f"io.migrator.volume{name}={policy}" for name, policy in POLICIES.items()]
    for container in serve(cluster, *[word for label in labels for word in ("--label", label)]):
        (Files(cluster["beta"]) / "/srv/app/data").mkdir(parents=True)
        (Files(cluster["beta"]) / "/srv/app/secret").write_text("another")
        before = container.state()
        error = cluster.failure("migrate", "alpha/served", "beta")
        assert error["code"] == "volume_exists", error
        assert "/srv/app/secret" in error["message"]
        assert "/srv/app/data" not in error["message"], "an empty directory is a place"
        job = cluster.finish("migrate", "alpha/served", "beta", "--volume", "/run/secret=shared")
        assert job["state"] == "succeeded", job
        assert assert_goes_on(before, Running(cluster["beta"], "served"))["secret"] == "another"
        assert_book_is_whole(Files(cluster["beta"]))


def test_what_cannot_be_is_refused_before_the_freeze(cluster: Cluster, served: Running) -> None:
    cluster["beta"].run("rm", "-rf", "/srv/shared")
    cases: dict[str, tuple[list[str], list[str]]] = {
        "bind_mounts": (["--volume", "/data=copy"], ["/run/secret", "/shared", "/empty"]),
        "volume_unknown": ([*VOLUMES, "--volume", "/dta=copy"], ["/dta"]),
        "volume_missing": (VOLUMES, ["/srv/shared"]),
    }
    for code, (words, named) in cases.items():
        error = cluster.failure("migrate", "alpha/served", "beta", *words)
        assert error["code"] == code, error
        assert all(name in error["message"] for name in named), error
        assert "/data," not in error["message"]
    assert cluster.failure("migrate", "alpha/served", "beta", "--volume", "/data=move")["kind"] == "InvalidRequest"
    freezes = [
        step["status"]
        for job in cluster.done("jobs", "list")
        for step in cluster.job(job["id"])["steps"]
        if step["name"] == "freeze"
    ]
    assert freezes[:2] == ["pending", "pending"]
    assert_goes_on(served.state(), served)


def test_a_restore_that_fails_leaves_the_source_running_and_nothing_on_the_target(
    cluster: Cluster, served: Running
) -> None:
    before, beta = served.state(), Files(cluster["beta"])
    (beta / "/srv/app/empty").mkdir(parents=True)
    (beta / "/srv/app/empty").chmod(0o751)
    told = listing(beta / "/srv")
    broken = '#!/bin/sh\ncase "$1 $2" in *swrk*) exit 1;; esac\nexec /usr/sbin/criu.real "$@"\n'
    cluster["beta"].run("cp", "-a", "/usr/sbin/criu", "/usr/sbin/criu.real")
    try:
        with cluster.covered("beta", "/usr/sbin/criu", broken):
            job = cluster.finish("migrate", "alpha/served", "beta", *VOLUMES)
    finally:
        cluster["beta"].run("rm", "/usr/sbin/criu.real")
    assert job["state"] == "failed", job
    assert {step["name"]: step["status"] for step in job["steps"]}["fetch"] == "undone"
    assert_goes_on(before, served)
    assert_book_is_whole(Files(cluster["alpha"]))
    assert listing(beta / "/srv") == told
    assert not list((beta / "/var/lib/migrator/volumes").glob("*"))


def test_volumes_of_a_checkpoint_are_restored(cluster: Cluster, served: Running, keeps_checkpoints: None) -> None:
    before = served.state()
    job = cluster.finish("checkpoints", "create", "alpha/served", *VOLUMES)
    assert job["state"] == "succeeded", job
    parts = cluster.done("checkpoints", "show", job["checkpoint_id"])["parts"]
    assert [part["role"] for part in parts if part["role"].startswith("volume-")] == ["volume-0", "volume-1"]
    assert_goes_on(before, served)
    cluster.remove("served")
    assert cluster.finish("restore", job["checkpoint_id"], "beta")["state"] == "succeeded"
    assert_goes_on(before, Running(cluster["beta"], "served"))
    assert_book_is_whole(Files(cluster["beta"]))


def listing(top: Path) -> dict[str, int]:
    return {str(path.relative_to(top)): path.lstat().st_mode for path in [top, *top.rglob("*")]}
