"""The lab as the acceptance tests use it: hosts with a shell, the product's command line, containers made by `ctr`."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrator.errors import KINDS
from migrator.lab.host import Host
from migrator.lab.lab import Lab
from migrator.lab.service import Service
from tests.acceptance.inventory import is_frozen
from tests.workloads import Running, Workload
from tests.workloads.outside import Outside

JOB_S = 60.0
VOLUMES = "/srv/volumes"
DETACH = """
import base64, json, os, pathlib, subprocess, sys
for note in pathlib.Path("/var/lib/cni/results").glob(f"*-{sys.argv[1]}-*"):
    told = json.loads(note.read_text())
    network = json.loads(base64.b64decode(told["config"]))
    words = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": told["containerId"], "CNI_IFNAME": told["ifName"],
             "CNI_PATH": "/opt/cni/bin", "CNI_NETNS": ""}
    for part in reversed(network["plugins"]):
        part |= {"cniVersion": network["cniVersion"], "name": network["name"], "prevResult": told["result"]}
        command = ["/opt/cni/bin/" + part["type"]]
        subprocess.run(command, input=json.dumps(part), text=True, check=True, env={**os.environ, **words})
    note.unlink()
"""
"""What a user does with a CNI container that is gone: DEL, by the runtime's note. `ctr` itself never does it."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one call of the command line gave."""

    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    took_s: float

    @property
    def data(self) -> Any:
        return json.loads(self.stdout)

    @property
    def said(self) -> str:
        return f"`migrator {' '.join(self.words)}` → {self.code} in {self.took_s:.2f} s\n{self.stdout}\n{self.stderr}"

    @property
    def error(self) -> dict[str, Any]:
        """The error it told: kind, code, message, host, remedy."""
        for text in (self.stderr, self.stdout):
            try:
                data = json.loads(text.strip().splitlines()[-1] if text.strip() else "")
            except ValueError:
                try:
                    data = json.loads(text)
                except ValueError:
                    continue
            found = data.get("error") or data.get("failure") or data if isinstance(data, dict) else None
            if isinstance(found, dict) and "message" in found:
                return found
        raise AssertionError(f"no error told: {self.said}")


class Machine:
    """A lab host with a shell."""

    def __init__(self, host: Host):
        self.host = host
        self.name = host.name

    def run(self, *command: str, timeout_s: float = 60.0, check: bool = True) -> str:
        done = self.host.exec(list(command), timeout_s=timeout_s)
        if check:
            words = f"exit status {done.returncode}: {done.stderr or done.stdout}"
            assert done.returncode == 0, f"{self.name}: {' '.join(command)}: {words}"
        return done.stdout

    def ctr(self, *words: str, namespace: str = "default", check: bool = True) -> str:
        return self.run("ctr", "--namespace", namespace, *words, check=check)

    def tasks(self, namespace: str = "default") -> dict[str, str]:
        """Every task's name and state."""
        rows = [line.split() for line in self.ctr("tasks", "ls", namespace=namespace).splitlines()[1:]]
        return {row[0]: row[2] for row in rows}

    def containers(self, namespace: str = "default") -> list[str]:
        return self.ctr("containers", "ls", "-q", namespace=namespace).split()


class Cluster:
    """A full lab."""

    def __init__(self, lab: Lab, root: Path):
        self.lab = lab
        self.root = root
        self.archives: set[Path] = set()
        """Every image that a test has imported."""
        self.clients: dict[str, Outside] = {}
        """Who talks to containers from outside, by the container's name."""
        self.machines = {name: Machine(host) for name, host in lab.hosts.items()}

    def __getitem__(self, host: str) -> Machine:
        return self.machines[host]

    # ---- the product, as a user has it

    def cli(self, *words: str, timeout_s: float = JOB_S, environment: dict[str, str] | None = None) -> Answer:
        """Call the command line with --json."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "migrator", *words, "--json"],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            env={**os.environ, "MIGRATOR_API": self.lab.api, **(environment or {})},
        )
        return Answer(words, done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    def done(self, *words: str, timeout_s: float = JOB_S) -> Any:
        """Call the command line, insist on success, and return what it printed."""
        answer = self.cli(*words, timeout_s=timeout_s)
        assert answer.code == 0, answer.said
        return answer.data

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.done("jobs", "show", job_id)
        return job

    def failure(self, *words: str, within_s: float = JOB_S) -> dict[str, Any]:
        """Ask for something that must fail, at once or as a job; return the error, told in full."""
        answer = self.cli(*words)
        assert answer.took_s < within_s, answer.said
        if answer.code == 0 and words[0] in ("migrate", "restore", "checkpoints"):
            job = self.wait_for_job(answer.data["id"], within_s)
            assert job["state"] == "failed", job
            error: dict[str, Any] = job["failure"]
        else:
            assert answer.code != 0, answer.said
            error = answer.error
            assert answer.code == KINDS[error["kind"]].exit_code, answer.said
        assert error["message"], error
        assert error["remedy"], f"no remedy: {error}"
        return error

    def wait_for_job(self, job_id: str, timeout_s: float = JOB_S) -> dict[str, Any]:
        """Wait until a job has ended, by asking again and again."""
        deadline = time.monotonic() + timeout_s
        while (job := self.job(job_id))["state"] in ("queued", "running", "rolling_back"):
            assert time.monotonic() < deadline, f"job {job_id} does not end: {job}"
            time.sleep(0.2)
        return job

    def wait_for_step(self, job_id: str, name: str, status: str, timeout_s: float = JOB_S) -> None:
        """Wait until a step of a job has a status."""
        deadline = time.monotonic() + timeout_s
        while not any(step["name"] == name and step["status"] == status for step in self.job(job_id)["steps"]):
            assert time.monotonic() < deadline, f"step {name} is never {status}: {self.job(job_id)}"
            time.sleep(0.1)

    def finish(self, *words: str) -> dict[str, Any]:
        """Create a job by the command line, wait until it has ended, and return it."""
        return self.wait_for_job(self.done(*words)["id"])

    def migrate(self, container: Running, target: str) -> Running:
        """Move a container and return it where it is now."""
        job = self.done("migrate", str(container), target, "--wait", "--namespace", container.namespace)
        assert job["state"] == "succeeded", job
        return container.on(self[target])

    # ---- containers

    def import_image(self, workload: Workload, *hosts: str, namespace: str = "default") -> str:
        """Import a workload's image into hosts and return its name."""
        archive = workload.image(self.root)
        self.archives.add(archive)
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self[host].host.import_image(archive, namespace), hosts))
        return f"migrator.local/{workload.name}:1"

    def start(
        self, workload: Workload, host: str, name: str, namespace: str = "default", options: tuple[str, ...] = ()
    ) -> Running:
        """Start a container by containerd's own tool and bring it to the point where a move is worth something."""
        image = self.import_image(workload, host, namespace=namespace)
        options += ("--cni", "--env", "SIDE=server") if workload.client else ()
        options += self._volume(host, name, workload.volume) if workload.volume else ()
        self[host].ctr(
            "run", "--detach", "--null-io", *workload.run_options, *options, image, name, namespace=namespace
        )
        container = Running(self[host], name, namespace)
        if workload.client:
            self.clients[name] = Outside(self.lab.control.pid, container.address, list(workload.client))
            container.client = self.clients[name]
        workload.started(container)
        return container

    def _volume(self, host: str, name: str, place: str) -> tuple[str, ...]:
        """Make a directory of a host that a container shows, to be copied when it moves; return what `ctr` is told."""
        self[host].run("mkdir", "-p", f"{VOLUMES}/{name}")
        mount = f"type=bind,src={VOLUMES}/{name},dst={place},options=rbind:rw"
        return ("--mount", mount, "--label", f"io.migrator.volume{place}=copy")

    def remove(self, name: str, namespace: str = "default", timeout_s: float = 20.0) -> None:
        """Remove a container of that name from every host, frozen or not, also when a restart label brings it back.

        Its client ends first, and what it had of a host's files goes last.
        """
        if client := self.clients.pop(name, None):
            client.stop()
        for machine in self.machines.values():
            deadline = time.monotonic() + timeout_s
            while name in machine.containers(namespace):
                assert time.monotonic() < deadline, (
                    f"{machine.name}: {name} cannot be removed: {machine.tasks(namespace)}"
                )
                machine.ctr("tasks", "kill", "--all", "--signal", "SIGKILL", name, namespace=namespace, check=False)
                machine.ctr("tasks", "delete", "--force", name, namespace=namespace, check=False)
                machine.ctr("containers", "delete", name, namespace=namespace, check=False)
            machine.run("python3", "-c", DETACH, f"{namespace}-{name}")
            machine.run("rm", "-rf", f"{VOLUMES}/{name}")

    def sweep(self) -> None:
        """Remove every container that a test which failed has left behind."""
        for machine in self.machines.values():
            for namespace in machine.run("ctr", "namespaces", "ls", "-q").split():
                for name in machine.containers(namespace):
                    self.remove(name, namespace)

    # ---- faults

    def wait_frozen(self, container: Running, timeout_s: float = 20.0) -> float:
        """Return (by the monotonic clock) when the container is seen frozen, looking some 500 times a second."""
        pid, deadline = container.pid, time.monotonic() + timeout_s
        while not is_frozen(pid):
            assert time.monotonic() < deadline, f"{container} was never frozen"
            time.sleep(0.002)
        return time.monotonic()

    def wait_thawed(self, pid: int, timeout_s: float) -> float:
        """Return (by the monotonic clock) when a process is seen not frozen."""
        deadline = time.monotonic() + timeout_s
        while is_frozen(pid):
            assert time.monotonic() < deadline, f"process {pid} is still frozen after {timeout_s} s"
            time.sleep(0.01)
        return time.monotonic()

    def kill(self, host: str, service: str) -> None:
        """SIGKILL, right now."""
        self[host].host.service(service).signal(signal.SIGKILL)

    def restart(self, host: str, service: str) -> None:
        self[host].host.service(service).start()
        if service == "worker":
            self.wait_alive(host)

    def wait_alive(self, host: str, timeout_s: float = 30.0) -> None:
        """Wait until the control plane has heard of a host's worker again."""
        now = datetime.now(UTC)
        self._wait_host(host, lambda row: datetime.fromisoformat(row["seen_at"]) > now, timeout_s)

    @contextmanager
    def worker_with(self, host: str, environment: dict[str, str]) -> Iterator[None]:
        """Run a host's worker with other settings for a while."""
        regular = self[host].host.service("worker")
        other = dataclasses.replace(regular.spec, environment={**regular.spec.environment, **environment})
        regular.stop()
        try:
            Service(self[host].host, other).start()
            self.wait_alive(host)
            yield
        finally:
            regular.stop()
            self.restart(host, "worker")

    @contextmanager
    def covered(self, host: str, path: str, script: str) -> Iterator[None]:
        """Lay a script over a program of a host for a while."""
        cover = f"/root/cover-{Path(path).name}"
        (self[host].host.root / cover.lstrip("/")).write_text(script)
        self[host].run("chmod", "755", cover)
        self[host].run("mount", "--bind", cover, path)
        try:
            yield
        finally:
            self[host].run("umount", path)

    def _wait_host(self, host: str, wanted: Callable[[dict[str, Any]], bool], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            rows = {row["name"]: row for row in self.done("hosts", "list")}
            if host in rows and wanted(rows[host]):
                return
            assert time.monotonic() < deadline, f"{host}: {rows}"
            time.sleep(0.2)
