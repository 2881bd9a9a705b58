"""What a job costs beside the work: migrations of empty containers through API, SQL, queue and workers.

Workers, controller, server, Redis, PostgreSQL and the object store are real. The hosts' steps answer at once, so what
is measured is the service's own share of every migration, with so many of them under way.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from migrator.cli.connection import Api, connected
from migrator.errors import MigratorError
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.lab.control import product_environment
from migrator.lab.lab import Lab, Shape
from migrator.lab.secrets import ensure_secrets
from tests.bench.processes import Meter
from tests.bench.records import FILE, write_rows
from tests.conftest import running_lab

FILE_OF_OVERHEAD = FILE.with_name("benchmarks-overhead.json")
PROGRAM = Path(__file__).parent / "programs/empty_host.py"
SOURCE, TARGET = "empty-source", "empty-target"
AT_ONCE = (1, 4, 16, 20, 64)
JOBS_EACH = 4
"""So many jobs follow each other in each of the places."""
UP_S = 60.0
JOB_S = 120.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class OverheadRecord:
    """What the service did with so many jobs at once."""

    at_once: int
    jobs: int
    jobs_per_s: float
    latency_ms: float
    """Median from the request to the job's end."""
    cpu_ms_per_job: float
    """Of workers, controller and server."""
    peak_rss_mib: float


def measure(lab: Lab, workers: Sequence[int], first: int, at_once: int) -> OverheadRecord:
    """Keep so many jobs under way until each place has had its share.

    Args:
        lab: With a control plane.
        workers: The processes of the empty hosts.
        first: The first container that has not been moved yet.
        at_once: So many jobs.
    """
    pids = [service.pid for service in lab.control.services.values() if service.spec.product and service.pid]
    with connected(lab.api) as api, Meter([*pids, *workers]) as meter:
        jobs = _keep_going(api, first, at_once)
    ends = [(job.created_at.ToNanoseconds() / 1e9, job.finished_at.ToNanoseconds() / 1e9) for job in jobs]
    whole_s = max(end for _, end in ends) - min(begin for begin, _ in ends)
    latency_s = median(end - begin for begin, end in ends)
    return OverheadRecord(
        at_once, len(jobs), round(len(jobs) / whole_s, 2), round(latency_s * 1000, 1),
        round(meter.cpu_s / len(jobs) * 1000, 1), round(meter.peak_rss_mib, 1),
    )  # fmt: skip


def _keep_going(api: Api, first: int, at_once: int) -> list[pb.Job]:
    """Start jobs, a new one when one has ended; return them as they ended."""
    waiting = deque(range(first, first + JOBS_EACH * at_once))
    under_way: deque[str] = deque()
    done: list[pb.Job] = []
    while waiting or under_way:
        while waiting and len(under_way) < at_once:
            under_way.append(_start(api, f"{SOURCE}-{waiting.popleft()}"))
        job = api.jobs.GetJob(pb.GetJobRequest(id=under_way[0])).job
        if job.HasField("finished_at"):
            assert job.state == pb.JOB_STATE_SUCCEEDED, job
            done.append(job)
            under_way.popleft()
        else:
            under_way.rotate(-1)
            time.sleep(POLL_S)
    return done


def _start(api: Api, container: str) -> str:
    request = pb.CreateJobRequest(
        kind=pb.JOB_KIND_MIGRATION, source=SOURCE, container=container, target=TARGET, namespace="default"
    )
    return str(api.jobs.CreateJob(request, timeout=JOB_S).job.id)


@contextlib.contextmanager
def empty_hosts(lab: Lab, containers: int) -> Iterator[list[int]]:
    """Two workers that do nothing, beside the controller; their process ids."""
    environment = product_environment(ensure_secrets(lab.layout.secrets_file, encrypted=False))
    running = []
    try:
        for name, count in ((SOURCE, containers), (TARGET, 0)):
            command = ["python3", "-c", PROGRAM.read_text(), name, str(count)]
            running.append(subprocess.Popen(lab.control.enter_command(command, environment), stderr=subprocess.DEVNULL))
        _await_seen(lab, containers)
        yield [worker.pid for worker in running]
    finally:
        for worker in running:
            worker.terminate()
        for worker in running:
            worker.wait(UP_S)


def _await_seen(lab: Lab, containers: int) -> None:
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        seen, alive = [], []
        with contextlib.suppress(MigratorError), connected(lab.api) as api:  # it has not told yet what it has
            seen = list(api.hosts.ListContainers(pb.ListContainersRequest(host=SOURCE)).containers)
            alive = [host.name for host in api.hosts.ListHosts(pb.ListHostsRequest()).hosts if host.alive]
        if len(seen) >= containers and {SOURCE, TARGET} <= set(alive):
            return
        time.sleep(0.5)
    raise AssertionError("the empty hosts were never seen")


def main() -> None:
    """Measure with ever more jobs at once; write and print."""
    records = []
    with running_lab("bench", Shape(hosts=1)) as lab, empty_hosts(lab, JOBS_EACH * sum(AT_ONCE)) as workers:
        first = 0
        for at_once in AT_ONCE:
            records.append(measure(lab, workers, first, at_once))
            print(records[-1], flush=True)
            first += JOBS_EACH * at_once
    write_rows(records, FILE_OF_OVERHEAD)


if __name__ == "__main__":
    main()
