"""What a program writes into its log before, while and after it moves: every line once, where the log goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

IMAGE = "migrator.local/ticker:1"
TALKER = """
import json, os, sys, time
os.makedirs("/state"); nonce, number = os.urandom(8).hex(), 0
while True:
    for _ in range(50):
        number += 1
        os.write(1, b"%07d out\\n" % number)
        os.write(2, b"%07d err\\n" % number)
    open("/state/new", "w").write(json.dumps({"counter": number, "nonce": nonce}))
    os.rename("/state/new", "/state/state.json")
    time.sleep(0.005)
"""
LOGGER = """#!/bin/sh
exec 5<&-
cat <&3 >> /var/log/talker/program.out & cat <&4 >> /var/log/talker/program.err
wait
"""
READER = """
until ls /run/containerd/fifo/*/talker-stderr; do sleep 0.1; done
cat /run/containerd/fifo/*/talker-stderr &
cat /run/containerd/fifo/*/talker-stdout > /var/log/talker/fifo.out
"""
LOG = "/var/log/talker/one.log"


@pytest.fixture
def talking(cluster: Cluster, nothing_left: None) -> Iterator[None]:
    clear(cluster)
    yield
    clear(cluster)


def clear(cluster: Cluster) -> None:
    cluster.remove("talker")
    for machine in cluster.machines.values():
        machine.run("rm", "-rf", "/var/log/talker", "/usr/local/bin/logger-of-ours")


def talk(cluster: Cluster, *options: str) -> Running:
    """Start a program that writes some ten thousand lines a second to both outputs."""
    program = ["/usr/bin/python3", "-B", "-c", TALKER]
    cluster["alpha"].run("mkdir", "-p", "/var/log/talker")
    cluster["alpha"].ctr("run", "--detach", *options, IMAGE, "talker", *program)
    container = Running(cluster["alpha"], "talker")
    container.wait_until(lambda state: state["counter"] > 5000)
    return container


def assert_every_line_once(log: Path, word: str, first: int = 1) -> int:
    """Each output's lines came in order, none lost, none doubled; return the last number."""
    lines = log.read_text().rpartition("\n")[0].split("\n")
    numbers = [int(line.split()[0]) for line in lines if line.endswith(word)]
    assert numbers == list(range(first, first + len(numbers)))
    return numbers[-1]


def test_a_log_file_goes_on_with_all_that_was_before(cluster: Cluster, talking: None) -> None:
    container = talk(cluster, "--log-uri", f"file://{LOG}")
    cluster["alpha"].run("chmod", "640", LOG)
    last, target = 0, "beta"
    for target in ("beta", "alpha", "beta"):
        before = container.state()
        container = cluster.migrate(container, target)
        container.wait_until(lambda state, before=before: state["counter"] > before["counter"] + 2000)  # type: ignore[misc]
        log = cluster[target].host.root / LOG.lstrip("/")
        for word in ("out", "err"):
            now = assert_every_line_once(log, word)
            assert now > before["counter"]
        assert now > last
        assert log.stat().st_mode & 0o777 == 0o640
        last = now


def test_a_log_here_before_keeps_what_it_has_and_gets_it_back_after_a_failure(cluster: Cluster, talking: None) -> None:
    container = talk(cluster, "--log-uri", f"file://{LOG}")
    beta = cluster["beta"]
    beta.run("sh", "-c", f"mkdir -p /var/log/talker && echo '0000000 theirs' > {LOG}")
    broken = '#!/bin/sh\ncase "$1 $2" in *swrk*) exit 1;; esac\nexec /usr/sbin/criu.real "$@"\n'
    beta.run("cp", "-a", "/usr/sbin/criu", "/usr/sbin/criu.real")
    try:
        with cluster.covered("beta", "/usr/sbin/criu", broken):
            assert cluster.finish("migrate", "alpha/talker", "beta")["state"] == "failed"
    finally:
        beta.run("rm", "/usr/sbin/criu.real")
    log = beta.host.root / LOG.lstrip("/")
    assert log.read_text() == "0000000 theirs\n"
    moved = cluster.migrate(container, "beta")
    before = moved.state()
    moved.wait_until(lambda state: state["counter"] > before["counter"] + 2000)
    assert log.read_text().startswith("0000000 theirs\n0000001 ")
    assert_every_line_once(log, "out")


def test_a_log_program_is_started_on_the_target(cluster: Cluster, talking: None) -> None:
    program = "/usr/local/bin/logger-of-ours"
    for name in ("alpha", "beta"):
        (cluster[name].host.root / program.lstrip("/")).write_text(LOGGER)
        cluster[name].run("sh", "-c", f"mkdir -p /var/log/talker && chmod 755 {program}")
    container = talk(cluster, "--log-uri", f"binary://{program}")
    cluster["beta"].run("mv", program, f"{program}.away")
    assert cluster.failure("migrate", "alpha/talker", "beta")["code"] == "log_program_missing"
    cluster["beta"].run("mv", f"{program}.away", program)
    moved = cluster.migrate(container, "beta")
    before = moved.state()
    moved.wait_until(lambda state: state["counter"] > before["counter"] + 2000)
    for word in ("out", "err"):
        here, there = (cluster[name].host.root / f"var/log/talker/program.{word}" for name in ("alpha", "beta"))
        last = assert_every_line_once(here, word)
        assert_every_line_once(there, word, first=last + 1)


def test_output_into_fifos_is_told_and_never_hangs_the_program(cluster: Cluster, talking: None) -> None:
    """`ctr run --detach` makes FIFOs whose only reader is the shim itself; here one reads them all the time."""
    cluster["alpha"].run("sh", "-c", f"mkdir -p /var/log/talker; nohup sh -c '{READER}' > /dev/null 2>&1 &")
    container = talk(cluster)
    moved = cluster.migrate(container, "beta")
    before = moved.state()
    moved.wait_until(lambda state: state["counter"] > before["counter"] + 8000)  # more than two pipes hold
    read = cluster["alpha"].host.root / "var/log/talker/fifo.out"
    assert assert_every_line_once(read, "out") >= 5000, "what was written before reached its reader"
