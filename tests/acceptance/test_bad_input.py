"""Requests that cannot be met: a clear error that names the thing and a remedy; the source runs on; nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

NOT_REACHED = "http://10.77.0.2:9"
"""On the control host, a port where nobody listens."""


def refused(cluster: Cluster, kind: str, named: str, *words: str, within_s: float = 30.0) -> None:
    error = cluster.failure(*words, within_s=within_s)
    assert error["kind"] == kind, error
    assert named in error["message"], error


def assert_runs_on(cluster: Cluster, container: Running) -> None:
    assert cluster["alpha"].tasks()[container.name] == "RUNNING"
    before = container.state()
    after = container.wait_until(lambda state: state["counter"] > before["counter"])
    assert after["nonce"] == before["nonce"]
    assert after["memory_ok"] is True


@pytest.mark.parametrize(
    ("kind", "named", "words"),
    [
        ("NotFound", "nowhere", "migrate nowhere/demo beta"),
        ("NotFound", "nowhere", "migrate alpha/demo nowhere"),
        ("NotFound", "nobody", "migrate alpha/nobody beta"),
        ("NotFound", "nospace", "migrate alpha/demo beta --namespace nospace"),
        ("NotFound", "nobody", "checkpoints create alpha/nobody"),
        ("NotFound", "nowhere", "checkpoints create nowhere/demo"),
        ("NotFound", "nothing-of-it", "checkpoints show nothing-of-it"),
        ("NotFound", "nothing-of-it", "restore nothing-of-it beta"),
        ("NotFound", "nothing-of-it", "jobs show nothing-of-it"),
        ("NotFound", "nothing-of-it", "jobs cancel nothing-of-it"),
        ("NotFound", "nothing-of-it", "jobs watch nothing-of-it"),
        ("NotFound", "nowhere", "containers list nowhere"),
        ("InvalidRequest", "alpha", "migrate alpha/demo alpha"),
        ("InvalidRequest", "demo", "migrate demo beta"),
        ("InvalidRequest", "a b", "migrate alpha/demo beta --namespace a_b"),
    ],
    ids=lambda value: value.replace(" ", "_").replace("/", "_") if isinstance(value, str) else None,
)
def test_words_that_name_nothing(cluster: Cluster, ticker: Running, kind: str, named: str, words: str) -> None:
    refused(cluster, kind, named, *[word.replace("a_b", "a b") for word in words.split()])
    assert_runs_on(cluster, ticker)


def test_an_export_of_no_checkpoint_leaves_no_file(cluster: Cluster, tmp_path: Path) -> None:
    refused(cluster, "NotFound", "nothing-of-it", "checkpoints", "export", "nothing-of-it", str(tmp_path / "file"))
    assert not list(tmp_path.iterdir())


def test_a_container_without_a_task(cluster: Cluster, nothing_left: None) -> None:
    cluster["alpha"].ctr("containers", "create", "migrator.local/ticker:1", "idle")
    try:
        refused(cluster, "PreconditionFailed", "idle", "migrate", "alpha/idle", "beta")
    finally:
        cluster.remove("idle")


def test_a_container_whose_program_has_ended(cluster: Cluster, ticker: Running) -> None:
    ticker.ctr("tasks", "kill", "--signal", "SIGTERM", "demo")
    ticker.wait_until(lambda seen: seen["state"] == "STOPPED", lambda: {"state": cluster["alpha"].tasks().get("demo")})
    refused(cluster, "PreconditionFailed", "demo", "migrate", "alpha/demo", "beta")
    assert cluster["alpha"].tasks()["demo"] == "STOPPED"


def test_a_paused_task_stays_paused(cluster: Cluster, ticker: Running) -> None:
    ticker.ctr("tasks", "pause", "demo")
    refused(cluster, "PreconditionFailed", "demo", "migrate", "alpha/demo", "beta")
    assert cluster["alpha"].tasks()["demo"] == "PAUSED"
    ticker.ctr("tasks", "resume", "demo")
    assert_runs_on(cluster, ticker)


def test_the_name_is_taken_on_the_target(cluster: Cluster, ticker: Running) -> None:
    other = cluster.start(WORKLOADS["ticker"], "beta", "demo")
    before = other.state()
    refused(cluster, "AlreadyExists", "demo", "migrate", "alpha/demo", "beta")
    assert_runs_on(cluster, ticker)
    assert WORKLOADS["ticker"].check(before, other)["nonce"] == before["nonce"]


@pytest.mark.parametrize("host", ["alpha", "beta"])
@pytest.mark.parametrize(
    ("script", "named"),
    [("#!/bin/sh\necho 'Version: 3.11'\n", "3.11"), ("#!/bin/sh\nexit 1\n", "CRIU")],
    ids=["too-old", "broken"],
)
def test_criu_is_of_no_use(cluster: Cluster, ticker: Running, host: str, script: str, named: str) -> None:
    with cluster.covered(host, "/usr/sbin/criu", script):
        error = cluster.failure("migrate", "alpha/demo", "beta")
    assert error["kind"] == "PreconditionFailed", error
    assert named in error["message"], error
    assert error["host"] == host
    assert_runs_on(cluster, ticker)


@pytest.mark.parametrize("host", ["alpha", "beta"])
@pytest.mark.parametrize(
    ("settings", "kind", "named"),
    [
        ({"MIGRATOR_S3_ENDPOINT": NOT_REACHED}, "Unavailable", NOT_REACHED),
        ({"MIGRATOR_STORE_URL": "s3://no-such-bucket"}, "NotFound", "no-such-bucket"),
        ({"MIGRATOR_S3_SECRET_KEY": "wrong"}, "PermissionDenied", "migrator"),
    ],
    ids=["unreachable", "bucket", "credentials"],
)
def test_the_object_store_is_of_no_use(
    cluster: Cluster, ticker: Running, host: str, settings: dict[str, str], kind: str, named: str
) -> None:
    with cluster.worker_with(host, settings):
        error = cluster.failure("migrate", "alpha/demo", "beta")
    assert error["kind"] == kind, error
    assert named in error["message"], error
    assert "wrong" not in str(error).replace("wrong bucket", "").replace("wrong credentials", "")
    assert error["host"] == host
    assert_runs_on(cluster, ticker)


@pytest.mark.parametrize("host", ["alpha", "beta"])
def test_a_host_whose_worker_is_dead(cluster: Cluster, ticker: Running, host: str) -> None:
    cluster.kill(host, "worker")
    try:
        error = cluster.failure("migrate", "alpha/demo", "beta", within_s=6.0)
        assert host in error["message"], error
        assert "worker" in f"{error['message']} {error['remedy']}", error
        assert_runs_on(cluster, ticker)
    finally:
        cluster.restart(host, "worker")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("MIGRATOR_LOG_LEVEL", "loud"),
        ("MIGRATOR_STORE_URL", "ftp://somewhere"),
        ("MIGRATOR_FREEZE_BUDGET_S", "-1"),
        ("MIGRATOR_CONFIG", "/no/such/file.toml"),
    ],
)
@pytest.mark.parametrize("command", [["server"], ["controller"], ["worker", "--host", "alpha"]], ids=lambda c: c[0])
def test_bad_configuration(command: list[str], setting: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "migrator", *command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, setting: value},
    )
    assert done.returncode == 2, done
    said = done.stderr + done.stdout
    assert (value if setting == "MIGRATOR_CONFIG" else setting.removeprefix("MIGRATOR_").lower()) in said
    assert "Traceback" not in said
