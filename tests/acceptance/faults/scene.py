"""A move during which something breaks: one program, its two hosts, and how to strike at the right moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import grpc

from migrator.cli.connection import Api
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.lab.host import Host
from tests.acceptance.cluster import Cluster
from tests.acceptance.faults.witness import Witness
from tests.workloads import Running, Workload

LOOK_S = 0.004
"""A step of some hundred milliseconds is met near its beginning."""
STEP_S = 30.0
END_S = 90.0
ENDED = ("succeeded", "failed", "cancelled", "needs_operator")

Mend = Callable[[], None]
"""Puts right what a strike broke."""


@dataclass(frozen=True)
class Fault:
    """One thing that breaks, when, for how long, and how the move may end."""

    name: str
    at: str
    """The step that is under way when it breaks."""
    strike: Callable[[Scene], Mend]
    until: Callable[[Scene], None]
    """What is waited for before it is mended."""
    ends: tuple[str, ...]
    wide: bool = False
    """Met by `make test-wide` and the endurance run, so that `make test` stays short."""

    def __str__(self) -> str:
        return self.name


class Scene:
    """One program and the job that moves it."""

    def __init__(self, cluster: Cluster, workload: Workload, container: Running, witness: Witness):
        names = [name for name in cluster.machines if name != container.host.name]
        self.cluster = cluster
        self.workload = workload
        self.container = container
        self.witness = witness
        self.source, self.target = container.host.name, names[0]
        self.pid = container.pid
        self.before = workload.look(container)
        self.api = Api(cluster.lab.api)
        self.job_id = ""
        self.struck_at = 0.0
        self.judged = False
        """Whether all went as it must; until then nobody knows where the program is."""

    def host(self, where: str) -> Host:
        """The host called `source`, `target` or `control`."""
        return self.cluster.lab.host({"source": self.source, "target": self.target}.get(where, where))

    # ---- the job

    def begin(self) -> None:
        """Ask for the move, once both hosts are heard of after what broke before."""
        self._wait_hosts(lambda hosts: all(hosts[name].alive for name in (self.source, self.target)))
        request = pb.CreateJobRequest(
            kind=pb.JOB_KIND_MIGRATION,
            source=self.source,
            container=self.container.name,
            target=self.target,
            namespace="default",
        )
        self.job_id = self.api.jobs.CreateJob(request, timeout=10).job.id

    def job(self) -> pb.Job:
        """The job as the API tells it; a server that is down is asked again."""
        deadline = time.monotonic() + STEP_S
        while True:
            try:
                return self.api.jobs.GetJob(pb.GetJobRequest(id=self.job_id), timeout=5).job
            except grpc.RpcError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def cancel(self) -> bool:
        """Ask for a cancel; tell whether it was accepted."""
        try:
            self.api.jobs.CancelJob(pb.CancelJobRequest(id=self.job_id), timeout=10)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return False
        return True

    def wait_step(self, name: str) -> None:
        """Wait until a step is under way."""
        self._wait(lambda job: _status(job, name) != "pending", f"step {name}", STEP_S)

    def wait_turned_back(self) -> None:
        """Wait until the job goes back, or has ended."""
        self._wait(lambda job: job.phase in (*ENDED, "rolling_back"), "the way back", END_S)

    def wait_end(self) -> pb.Job:
        """Wait until the job has ended."""
        return self._wait(lambda job: job.phase in ENDED, "the end", END_S)

    def _wait(self, wanted: Callable[[pb.Job], bool], what: str, timeout_s: float) -> pb.Job:
        deadline = time.monotonic() + timeout_s
        while not wanted(job := self.job()):
            assert time.monotonic() < deadline, f"{what} does not come:\n{tell(job)}"
            time.sleep(LOOK_S)
        return job

    # ---- after it

    def play(self, fault: Fault) -> pb.Job:
        """Begin, strike, mend, and judge."""
        self.begin()
        self.wait_step(fault.at)
        self.strike(fault.strike, fault.until)
        return self.judge(fault.ends)

    def strike(self, strike: Callable[[Scene], Mend], until: Callable[[Scene], None]) -> None:
        """Break something, wait, and mend it in every case."""
        mend = strike(self)
        self.struck_at = time.monotonic()
        try:
            until(self)
        finally:
            mend()

    def judge(self, ends: tuple[str, ...]) -> pb.Job:
        """The job ended as it may, one copy of the program runs in the right place, and its memory is whole."""
        job = self.wait_end()
        assert job.phase in ends, f"a job that may end {ends} ended {job.phase}:\n{tell(job)}"
        here, there = (self.target, self.source) if job.phase == "succeeded" else (self.source, self.target)
        name = self.container.name
        assert self.cluster[here].tasks().get(name) == "RUNNING", f"it does not run on {here}:\n{tell(job)}"
        assert name not in self.cluster[there].tasks(), f"there is a task on {there}:\n{tell(job)}"
        assert name not in self.cluster[there].containers(), f"there is a container on {there}:\n{tell(job)}"
        self.container = Running(self.cluster[here], name)
        self.workload.check(self.before, self.container)
        assert not self.witness.seen_twice, f"it ran on two hosts at once: {self.witness.seen_twice}"
        self.judged = True
        return job

    # ---- services

    def restart(self, where: str, service: str) -> None:
        """Start a service again, and wait until the control plane has heard of a worker."""
        host, now = self.host(where), datetime.now(UTC)
        host.service(service).start()
        if service == "worker":
            self.wait_heard(host.name, now)

    def wait_heard(self, name: str, since: datetime) -> None:
        """Wait until the control plane has heard of a host since a moment."""
        self._wait_hosts(lambda hosts: hosts[name].seen_at.ToDatetime(UTC) > since)

    def _wait_hosts(self, wanted: Callable[[dict[str, pb.Host]], bool]) -> None:
        deadline = time.monotonic() + STEP_S
        while True:
            hosts = {host.name: host for host in self.api.hosts.ListHosts(pb.ListHostsRequest(), timeout=10).hosts}
            if wanted(hosts):
                return
            assert time.monotonic() < deadline, f"nothing is heard of a host: {hosts}"
            time.sleep(0.1)


def tell(job: pb.Job) -> str:
    """A job in some lines."""
    steps = [f"  {step.name} on {step.host or 'control'}: {step.status}" for step in job.steps]
    return "\n".join([f"{job.id}: {job.phase} {job.failure.code} {job.failure.message}", *steps])


def _status(job: pb.Job, name: str) -> str:
    return next(step.status for step in job.steps if step.name == name)
