"""What lies about on hosts and in the store, read by other tools than the product's: `ctr`, the kernel, boto3."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from migrator.lab import cgroups
from migrator.lab.control import BUCKET
from migrator.lab.lab import Lab

LIST = r"""
set -eu
for ns in $(ctr namespaces ls -q); do
  c="ctr -n $ns"
  $c leases create --id look > /dev/null
  $c leases delete --sync look > /dev/null   # containerd collects its garbage now, not some seconds later
  $c containers ls -q            | sed "s|^|container $ns |"
  $c tasks ls     | awk -v n="$ns" 'NR > 1 {print "task", n, $1, $3}'
  $c images ls -q                | sed "s|^|image $ns |"
  $c content ls -q               | sed "s|^|content $ns |"
  $c content active | awk -v n="$ns" 'NR > 1 {print "ingest", n, $1}'
  $c leases ls -q                | sed "s|^|lease $ns |"
  $c snapshots ls | awk -v n="$ns" 'NR > 1 {print "snapshot", n, $1}'
done
find /run/migrator /var/lib/migrator/criu /tmp /var/tmp -mindepth 1 ! -type s ! -type d 2>/dev/null | sed "s|^|file - |" || true
find /run/migrator /var/lib/migrator/criu -mindepth 2 -type d 2>/dev/null | sed "s|^|directory - |" || true
find /run/containerd/io.containerd.runtime.v2.task -mindepth 2 -maxdepth 2 2>/dev/null | sed "s|^|bundle - |" || true
find /var/lib/cni/results /var/lib/cni/networks -type f ! -name 'last_*' ! -name lock 2>/dev/null | sed "s|^|cni - |" || true
ls /sys/class/net | sed "s|^|link - |"
iptables-save 2>/dev/null | grep '^-A' | sed "s|^|iptables - |" || true
nft list tables 2>/dev/null | sed "s|^|nft - |" || true
for ns in $(ctr namespaces ls -q); do
  ctr -n $ns tasks ls | while read -r name pid state; do
    [ -e "/proc/$pid/ns/net" ] || continue
    inside="nsenter --target $pid --net"
    $inside nft list tables 2>/dev/null | grep CRIU | sed "s|^|lock $ns $name |" || true
    $inside iptables-save 2>/dev/null | grep '^-A' | sed "s|^|lock $ns $name |" || true
  done
done
"""

S3_CLIENT = """
import boto3, os
from botocore.config import Config
s3 = boto3.client(
    "s3", endpoint_url=os.environ["MIGRATOR_S3_ENDPOINT"], region_name="us-east-1",
    aws_access_key_id=os.environ["MIGRATOR_S3_ACCESS_KEY"],
    aws_secret_access_key=os.environ["MIGRATOR_S3_SECRET_KEY"],
    config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
)
bucket = os.environ["BUCKET"]
"""
"""Begins what is run on the control plane to look at the bucket without the product."""
STORE = (
    S3_CLIENT
    + """
import json
objects = [o["Key"] for p in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for o in p.get("Contents", [])]
uploads = [u["Key"] for u in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]
print(json.dumps({"objects": objects, "uploads": uploads}))
"""
)

PASSING = ("/run/migrator/epochs",)
"""Not left over: what a host knows about workloads."""


@dataclass(frozen=True)
class Inventory:
    """Everything found, each as `where kind namespace name`."""

    found: frozenset[str]

    def of(self, kind: str) -> set[str]:
        return {line for line in self.found if line.split()[1] == kind}


def take_inventory(lab: Lab) -> Inventory:
    """Look everywhere."""
    found = {f"{name} {line}" for name in lab.hosts for line in host_lines(lab, name)}
    return Inventory(frozenset(found | {f"store {line}" for line in store_lines(lab)}))


def host_lines(lab: Lab, name: str) -> set[str]:
    """List what lies about on a host."""
    done = lab.host(name).exec(["sh", "-c", LIST], timeout_s=60)
    assert done.returncode == 0, f"{name}: {done.stderr}"
    found = {line for line in done.stdout.splitlines() if not line.endswith(PASSING)}
    found |= {f"frozen - {place}" for place in frozen_cgroups(lab, name)}
    found |= {f"mount - {place}" for place in mounts(lab, name)}
    found |= set(tools(lab, name))
    return found | {f"guard - {pid}" for pid in guards(lab, name)}


def store_lines(lab: Lab) -> set[str]:
    """List objects and unfinished uploads of the object store."""
    settings = lab.host("alpha").service("worker").spec.environment
    wanted = {key: value for key, value in settings.items() if key.startswith("MIGRATOR_S3")}
    done = lab.control.exec(["python3", "-c", STORE], timeout_s=60, environment={**wanted, "BUCKET": BUCKET})
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    return {f"object - {key}" for key in listed["objects"]} | {f"upload - {key}" for key in listed["uploads"]}


def frozen_cgroups(lab: Lab, host: str) -> list[Path]:
    """List the cgroups of a host that are frozen now."""
    tops = cgroups.find(lab.layout.cgroup_name, host)
    return [file.parent for top in tops for file in top.rglob("*") if _says_frozen(file)]


def guards(lab: Lab, host: str) -> list[int]:
    """List the pause guards that run on a host."""
    return [pid for pid in cgroups.processes(cgroups.find(lab.layout.cgroup_name, host)) if _is_guard(pid)]


def mounts(lab: Lab, host: str) -> list[str]:
    """List what is mounted on a host; more than one mount at a place is told as often."""
    lines = Path(f"/proc/{lab.host(host).pid}/mountinfo").read_text().splitlines()
    places = [line.split()[4] for line in lines]
    return [f"{place} {places[:number].count(place)}" for number, place in enumerate(places)]


def tools(lab: Lab, host: str) -> list[str]:
    """List the shims of a host by container, and every runc and CRIU that runs."""
    found = []
    for pid in cgroups.processes(cgroups.find(lab.layout.cgroup_name, host)):
        words = _words(pid)
        program = Path(words[0]).name if words else ""
        if program.startswith("containerd-shim"):
            found.append(f"shim {words[words.index('-namespace') + 1]} {words[words.index('-id') + 1]}")
        elif program.startswith(("runc", "criu")):  # CRIU gives itself a title of several words
            program = program.partition(":")[0]
            found.append(f"program - {program} {pid}")
    return found


def parent_of(pid: int) -> int:
    """The parent of a process (proc(5), field 4 of stat); that of a container's first one is its shim."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_frozen(pid: int) -> bool:
    """Tell whether a process stands in a frozen cgroup."""
    for hierarchy in cgroups.hierarchies():
        place = hierarchy.mount / cgroups.own_path(hierarchy, pid).lstrip("/")
        if any(_says_frozen(place / name) for name in ("freezer.state", "cgroup.freeze")):
            return True
    return False


def settled_difference(
    lab: Lab,
    before: Inventory,
    *,
    allowed: frozenset[str] = frozenset(),
    keeps: str | None = None,
    moved: str | None = None,
    timeout_s: float = 15.0,
) -> tuple[list[str], list[str]]:
    """Say what came and what went since; containerd collects garbage in its own time, so look again for a while.

    Args:
        lab: Where to look.
        before: How it was.
        allowed: What may have come.
        keeps: Lines that begin so may have come, too.
        moved: A container that may be on another host now; it is no difference if it is there with all it had.
        timeout_s: How long to look again.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        now = take_inventory(lab)
        gained, lost = sorted(now.found - before.found - allowed), sorted(before.found - now.found)
        if keeps is not None:
            gained = [line for line in gained if not line.startswith(keeps)]
        if moved is not None:
            gained, lost = _without_moved(gained, lost, moved)
        if not (gained or lost) or time.monotonic() > deadline:
            return gained, lost
        time.sleep(0.3)


def _without_moved(gained: list[str], lost: list[str], name: str) -> tuple[list[str], list[str]]:
    """Strike out what a container lost on one host and gained on another: as many lines, alike but for the host."""
    came, went = ({line.partition(" ")[2] for line in lines if _is_of(line, name)} for lines in (gained, lost))
    both = came & went
    rest = [[line for line in lines if line.partition(" ")[2] not in both] for lines in (gained, lost)]
    return rest[0], rest[1]


def _is_of(line: str, name: str) -> bool:
    return name in line.replace("/", " ").split()


def _says_frozen(file: Path) -> bool:
    if file.name not in ("freezer.state", "cgroup.freeze"):
        return False
    try:
        return file.read_text().strip() in ("FROZEN", "FREEZING", "1")
    except OSError:  # the cgroup went away
        return False


def _is_guard(pid: int) -> bool:
    return "migrator.service.pause_guard" in _words(pid)


def _words(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone or a kernel thread."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []
