"""What breaks, and how it is mended. Each strike hits one lab, by process ids and inside that lab's own namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from migrator.lab import cgroups
from migrator.lab.control import ADDRESS, BUCKET
from migrator.lab.host import Host
from tests.acceptance.faults.scene import Mend, Scene
from tests.acceptance.inventory import is_frozen, parent_of

Strike = Callable[[Scene], Mend]
Until = Callable[[Scene], None]

GUARD_LIMIT_S = 5.0
CATCH_S = 20.0
TABLE = "lab_cut"
DUMPS_MEMORY, RESTORES_MEMORY = b"Dumping pages", b"Restoring resources"
"""What CRIU's log says when it is in the middle."""


# ---- what is waited for before it is mended


def at_once(_: Scene) -> None:
    """Mend right away."""


def turned_back(scene: Scene) -> None:
    """Until the job has noticed."""
    scene.wait_turned_back()


def resumed(scene: Scene) -> None:
    """Until the frozen program runs again, which must not take longer than a guard may wait for a dead worker."""
    deadline = time.monotonic() + CATCH_S
    while is_frozen(scene.pid):
        assert time.monotonic() < deadline, f"the program is still frozen after {CATCH_S} s"
        time.sleep(0.01)


def resumed_in_time(scene: Scene) -> None:
    """Until the frozen program runs again: a guard may wait for a dead worker so long and no longer."""
    resumed(scene)
    waited_s = time.monotonic() - scene.struck_at
    assert waited_s <= GUARD_LIMIT_S, f"the program stood still for {waited_s:.1f} s after its worker died"


def step(name: str) -> Until:
    """Until a later step is under way."""
    return lambda scene: scene.wait_step(name)


def after_s(seconds: float) -> Until:
    """For so long."""
    return lambda _: time.sleep(seconds)


# ---- services


def killed(where: str, service: str) -> Strike:
    """SIGKILL a service; started again afterwards."""

    def strike(scene: Scene) -> Mend:
        scene.host(where).service(service).kill()
        return lambda: scene.restart(where, service)

    return strike


def group_killed(where: str, service: str) -> Strike:
    """SIGKILL a service's whole process group."""

    def strike(scene: Scene) -> Mend:
        pid = scene.host(where).service(service).pid
        assert pid is not None
        assert os.getpgid(pid) == pid
        os.killpg(pid, signal.SIGKILL)
        scene.host(where).service(service).kill()  # and wait until it is buried
        return lambda: scene.restart(where, service)

    return strike


def stopped(where: str, service: str) -> Strike:
    """SIGSTOP a service, as if its machine stood still; woken afterwards."""

    def strike(scene: Scene) -> Mend:
        target = scene.host(where).service(service)
        target.signal(signal.SIGSTOP)
        return lambda: target.signal(signal.SIGCONT)

    return strike


def both(first: Strike, second: Strike) -> Strike:
    """Two things at once."""

    def strike(scene: Scene) -> Mend:
        mends = first(scene), second(scene)

        def mend() -> None:
            for each in mends:
                each()

        return mend

    return strike


# ---- processes that are found by what they are, within the cgroups of one host of the lab


def guard_killed(scene: Scene) -> Mend:
    """SIGKILL the pause guard of this job."""
    os.kill(_catch(scene, "source", lambda pid: _is_guard_of(_words(pid), scene.job_id)), signal.SIGKILL)
    return _nothing


def shim_killed(where: str) -> Strike:
    """SIGKILL the shim of the container, as soon as there is one."""

    def strike(scene: Scene) -> Mend:
        os.kill(_catch(scene, where, lambda pid: _is_shim_of(_words(pid), scene.container.name)), signal.SIGKILL)
        return _nothing

    return strike


def criu_killed(where: str, *, middle: bool = False) -> Strike:
    """SIGKILL the CRIU that dumps or restores on a host: as it begins, or when it handles the memory."""

    def strike(scene: Scene) -> Mend:
        os.kill(_catch_criu(scene, where, middle=middle), signal.SIGKILL)
        return _nothing

    return strike


def criu_stopped(where: str, *, middle: bool = False) -> Strike:
    """SIGSTOP the CRIU that dumps or restores on a host: it hangs for ever, and nobody wakes it."""

    def strike(scene: Scene) -> Mend:
        os.kill(_catch_criu(scene, where, middle=middle), signal.SIGSTOP)
        return _nothing

    return strike


def _catch_criu(scene: Scene, where: str, *, middle: bool) -> int:
    """The CRIU that has begun: runc asks others for their version before, and they write no log."""
    host = scene.host(where)
    work = host.root / "run/migrator/criu" / scene.job_id
    log, sign = (work / "dump.log", DUMPS_MEMORY) if where == "source" else (work / "restore.log", RESTORES_MEMORY)
    _wait_for(log, b"(")
    pid = _catch(scene, where, _is_main_criu)
    if middle:
        _wait_for(log, sign)
    return pid


def _wait_for(log: Path, sign: bytes) -> None:
    deadline = time.monotonic() + CATCH_S
    while not (log.exists() and sign in log.read_bytes()):
        assert time.monotonic() < deadline, f"CRIU never came so far: {log}"
        time.sleep(0.001)


def _catch(scene: Scene, where: str, wanted: Callable[[int], bool]) -> int:
    """The first process of a host that is wanted."""
    name = scene.host(where).name
    deadline = time.monotonic() + CATCH_S
    while True:
        for pid in cgroups.processes(scene.witness.cgroups[name][:1]):
            if wanted(pid):
                return pid
        assert time.monotonic() < deadline, f"no such process on {name}"
        time.sleep(0.002)


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def _is_main_criu(pid: int) -> bool:
    """Whether this is the CRIU that runc started; its helpers have CRIU for a parent."""
    try:
        return _program(pid) == "criu" and _program(parent_of(pid)) == "runc"
    except OSError:
        return False


def _program(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _is_guard_of(words: list[str], job_id: str) -> bool:
    return "migrator.service.pause_guard" in words and job_id in words[-1]


def _is_shim_of(words: list[str], container: str) -> bool:
    return bool(words) and Path(words[0]).name.startswith("containerd-shim") and container in words


def _nothing() -> None:
    """There is nothing to mend."""


# ---- wires


def cut(where: str, *, into: bool = True, out: bool = True) -> Strike:
    """Drop what goes between a host and the control host, in one direction or both."""

    def strike(scene: Scene) -> Mend:
        host = scene.host(where)
        rules = [f"add table ip {TABLE}"]
        if into:
            rules += [f"add chain ip {TABLE} in {{ type filter hook input priority 0; }}"]
            rules += [f"add rule ip {TABLE} in ip saddr {ADDRESS} drop"]
        if out:
            rules += [f"add chain ip {TABLE} out {{ type filter hook output priority 0; }}"]
            rules += [f"add rule ip {TABLE} out ip daddr {ADDRESS} drop"]
        _must(host, "nft", "; ".join(rules))
        return lambda: _must(host, "nft", f"delete table ip {TABLE}")

    return strike


# ---- disks


def filled(where: str, directory: str, size: str = "4k") -> Strike:
    """Lay a small file system over a directory: whatever is written there finds no room."""

    def strike(scene: Scene) -> Mend:
        host = scene.host(where)
        _must(host, "mkdir", "-p", directory)
        _must(host, "mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "full", directory)
        return lambda: _must(host, "umount", "--lazy", directory)

    return strike


def run_filled(where: str, room_bytes: int) -> Strike:
    """Leave so much room in /run, which is memory."""

    def strike(scene: Scene) -> Mend:
        host = scene.host(where)
        found = os.statvfs(host.root / "run")
        used_bytes = (found.f_blocks - found.f_bfree) * found.f_frsize
        _must(host, "mount", "-o", f"remount,size={used_bytes + room_bytes}", "/run")
        return lambda: _must(host, "mount", "-o", "remount,size=50%", "/run")

    return strike


def _must(host: Host, *words: str) -> None:
    done = host.exec(list(words))
    assert done.returncode == 0, f"{host.name}: {' '.join(words)}: {done.stderr}"


# ---- the object store


DAMAGE = """
import boto3, json, os, sys
from botocore.config import Config
s3 = boto3.client(
    "s3", endpoint_url=os.environ["MIGRATOR_S3_ENDPOINT"], region_name="us-east-1",
    aws_access_key_id=os.environ["MIGRATOR_S3_ACCESS_KEY"],
    aws_secret_access_key=os.environ["MIGRATOR_S3_SECRET_KEY"],
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
)
bucket, part, how = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
listed = s3.list_objects_v2(Bucket=bucket, Prefix="checkpoints/")["Contents"]
key = max(listed, key=lambda found: found["LastModified"])["Key"]
if part != "index":
    index = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    (digest,) = [m["digest"] for m in index["manifests"] if part in m.get("annotations", {}).values()]
    key = "blobs/sha256/" + digest.partition(":")[2]
data = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
data[len(data) // 2] ^= 1
if how == "gone":
    s3.delete_object(Bucket=bucket, Key=key)
else:
    s3.put_object(Bucket=bucket, Key=key, Body=bytes(data[: len(data) // 2] if how == "cut" else data))
print("done", flush=True)
"""
"""The newest checkpoint in the store is that of the job under way."""


def damaged(part: str, how: str) -> Strike:
    """Damage a part of the checkpoint after it was sealed and before it is fetched.

    The target's containerd stands still meanwhile, which holds the fetch at its first call; its worker is heard of.

    Args:
        part: A role, or `index`.
        how: `changed`, `cut` or `gone`.
    """

    def strike(scene: Scene) -> Mend:
        worker, runtime = (scene.host("target").service(name) for name in ("worker", "containerd"))
        settings = {key: value for key, value in worker.spec.environment.items() if key.startswith("MIGRATOR_S3")}
        program = ["python3", "-c", DAMAGE, BUCKET, part, how]
        command = scene.cluster.lab.control.enter_command(program, settings)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as damage:
            assert damage.stdin is not None
            assert damage.stdout is not None
            assert damage.stdout.readline() == "ready\n"
            scene.wait_step("upload")
            runtime.signal(signal.SIGSTOP)
            try:
                scene.wait_step("fetch")
                damage.stdin.write("now\n")
                damage.stdin.flush()
                assert damage.stdout.readline() == "done\n"
            finally:
                runtime.signal(signal.SIGCONT)
        return _nothing

    return strike
