"""What goes ahead of the freeze: sent by the source, laid down on the target, each step once or several times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.criu.live_memory import look_at
from migrator.models.phase import JobKind
from migrator.models.values import Facts, JobRequest
from migrator.service.host import Act, Host
from migrator.service.steps.ahead import AHEAD, FETCHED_AHEAD, SENT_AHEAD, Precopy, Prefetch, layer_below
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.criu.layered import read_pages

MIB = 1 << 20
PROGRAM = f"""
import mmap, os, sys
memory = mmap.mmap(-1, 4 * {MIB}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory.write(os.urandom(len(memory)))
for line in sys.stdin:
    memory[:4096] = os.urandom(4096)
    print("done", flush=True)
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="memory of others is root's")


class Program:
    """A program that changes a page when it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.change()

    def change(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"

    def pages(self) -> dict[int, bytes]:
        """Its memory as it is now, page by page."""
        (memory, *_) = look_at([Path(f"/proc/{self.process.pid}")])
        found = {}
        with memory.file.open("rb", buffering=0) as file:
            for run in memory.runs:
                data = os.pread(file.fileno(), run.size_bytes, run.address)
                found |= {run.address + place: data[place : place + 4096] for place in range(0, len(data), 4096)}
        return found


@pytest.fixture
def program() -> Iterator[Program]:
    found = Program()
    yield found
    found.process.kill()
    found.process.communicate()


@pytest.fixture
def host(tmp_path: Path, program: Program) -> Host:
    task = SimpleNamespace(
        pid=program.process.pid, container_id="web", pids=lambda: [SimpleNamespace(pid=program.process.pid)]
    )
    runtime = SimpleNamespace(task=lambda _: task)
    settings = SimpleNamespace(run_dir=tmp_path / "run", state_dir=tmp_path / "state")
    store = CheckpointStore(MemoryStore())
    return cast(Host, SimpleNamespace(settings=settings, checkpoints=store, runtime=lambda _: runtime))


def act(facts: Facts) -> Act:
    request = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
    command: Any = SimpleNamespace(
        step="prefetch", job_id="mig-1", workload_id="w", checkpoint_id="ck-1", request=request, facts=facts
    )
    return Act(command, lambda *_: None)


def arrived(host: Host, facts: Facts, pid: int) -> dict[int, bytes]:
    layer = layer_below(host, act(facts), len(facts[AHEAD]) + 1)
    assert layer
    return read_pages(layer.directory, str(pid))


def test_two_rounds_bring_the_memory_as_it_is_then(host: Host, program: Program) -> None:
    facts = Precopy().run(host, act({}))
    facts |= Prefetch().run(host, act(facts))
    first = facts[FETCHED_AHEAD]
    program.change()
    sent = facts[SENT_AHEAD]
    facts |= Precopy().run(host, act(facts))
    facts |= Prefetch().run(host, act(facts))
    now, there = program.pages(), arrived(host, facts, program.process.pid)
    assert {address: page for address, page in there.items() if address in now} == now
    assert facts[SENT_AHEAD] - sent < MIB
    assert facts[FETCHED_AHEAD] - first < MIB


def test_a_step_that_is_repeated_does_not_lie_over_itself(host: Host, program: Program) -> None:
    facts = Precopy().run(host, act({}))
    for _ in range(2):
        told = Prefetch().run(host, act(facts))
    facts |= told
    program.change()
    for _ in range(2):
        again = Precopy().run(host, act(facts))
    facts |= again
    for _ in range(3):
        told = Prefetch().run(host, act(facts))
    now, there = program.pages(), arrived(host, facts | told, program.process.pid)
    assert {address: page for address, page in there.items() if address in now} == now


def test_nothing_is_left_of_it(host: Host, tmp_path: Path) -> None:
    facts = Precopy().run(host, act({}))
    facts |= Prefetch().run(host, act(facts))
    Prefetch().undo(host, act(facts))
    Precopy().undo(host, act(facts))
    assert not list(host.checkpoints.objects.scan(""))
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_container_whose_memory_cannot_be_seen_sends_nothing(host: Host, program: Program) -> None:
    program.process.kill()
    program.process.wait()
    assert Precopy().run(host, act({})) == {}
    assert Prefetch().run(host, act({})) == {}
