"""Every workload is moved while it is at work; what comes of it must be what `docs/workloads.md` says.

`make workloads` writes the table there anew: WRITE_WORKLOADS=1 stands in the environment then.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.test_programs import assert_only_on
from tests.workloads import WORKLOADS, Running, Workload
from tests.workloads.page import Table, read_table, write_table

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

WRITES = bool(os.environ.get("WRITE_WORKLOADS"))


def marked() -> Iterator[pytest.ParameterSet]:
    for name, workload in sorted(WORKLOADS.items()):
        yield pytest.param(name, marks=[pytest.mark.wide] if workload.wide else [])


@pytest.fixture(params=marked())
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@pytest.fixture
def moving(cluster: Cluster, workload: Workload, nothing_left: None) -> Iterator[Running]:
    cluster.remove("moving")
    yield cluster.start(workload, "alpha", "moving")
    cluster.remove("moving")


def test_a_workload_does_what_the_page_says(cluster: Cluster, workload: Workload, moving: Running) -> None:
    before = workload.look(moving)
    job = cluster.wait_for_job(cluster.cli("migrate", str(moving), "beta").data["id"])
    here = "beta" if job["state"] == "succeeded" else "alpha"
    container = moving.on(cluster[here])
    arrived = workload.look(container)  # it may be what was written before the freeze: it must go on from here
    workload.check(before, container)
    workload.check(arrived, container)
    assert_only_on(cluster, here, "moving")
    table = read_table()
    if WRITES:
        write_table(seen(table, cluster, workload, job))
    else:
        assert result_of(job) == table.rows[workload.name].result, job["failure"]


def test_the_page_tells_of_no_other_workloads() -> None:
    if WRITES:
        write_table(read_table().only(list(WORKLOADS)))
    told = read_table().rows
    assert {name: row.title for name, row in told.items()} == {name: w.title for name, w in WORKLOADS.items()}


def result_of(job: dict[str, Any]) -> str:
    """Say in a word what came of a move, and by whom it was refused."""
    if job["state"] == "succeeded":
        return "moves"
    begun = {step["name"] for step in job["steps"] if step["status"] != "pending"}
    return f"{'fails' if 'freeze' in begun else 'refused'}: `{job['failure']['code']}`"


def seen(table: Table, cluster: Cluster, workload: Workload, job: dict[str, Any]) -> Table:
    """Put what was seen into the table."""
    freeze = f"{job['measures']['freeze_ms'] / 1000:.2f} s" if job["state"] == "succeeded" else ""
    table = table.with_row(workload.name, workload.title, result=result_of(job), freeze=freeze)
    table = replace(table, used={**table.used, "migrator": versions(cluster)})
    if failure := job["failure"]:
        why = f"{failure['message']}; {failure['remedy']}".replace("container 'moving'", f"`{workload.name}`")
        why = re.sub(r"(pid|-CONT) \d+", r"\1 PID", " ".join(why.split()))
        table = replace(table, reasons={**table.reasons, failure["code"]: why})
    return table


def versions(cluster: Cluster) -> str:
    """Say what the lab runs."""
    host = cluster["alpha"]
    commands = {"containerd": "containerd --version", "runc": "runc --version", "CRIU": "criu --version"}
    found = {name: re.findall(r"\d+\.\d+[.\d]*", host.run(*command.split()))[0] for name, command in commands.items()}
    return ", ".join(f"{name} {version}" for name, version in found.items()) + f", kernel {platform.release()}"
