"""A whole deployment with a key ring: containers move and come back, and the store holds nothing readable."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from migrator.lab.control import KEY_FILE, product_environment
from migrator.lab.files import write_private
from migrator.lab.lab import Lab, Shape
from migrator.lab.secrets import ensure_secrets
from migrator.storage.encryption.ring import new_ring, write_ring
from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

WORD = "a-password-that-nobody-may-find"
STRANGERS = "/run/lab/strangers.json"
SWAP = """
import sys
from migrator.settings import load_settings
from migrator.storage import open_checkpoints, layout
store = open_checkpoints(load_settings())
names = [store.objects._names.hide(layout.index_key(*words.split("/"))) for words in sys.argv[1:]]
inner = store.objects.inner
inner.put("encrypted/" + names[1], inner.get("encrypted/" + names[0]))
"""
LIST = """
from migrator.settings import load_settings
from migrator.storage.opening import open_plain
for info in open_plain(load_settings()).scan(""):
    print(info.key)
"""


@pytest.fixture(scope="module")
def cluster(lab_factory: Callable[[str, Shape], AbstractContextManager[Lab]], lab_root: Path) -> Iterator[Cluster]:
    with lab_factory("encrypted", Shape(hosts=2, encrypted=True)) as lab:
        cluster = Cluster(lab, lab_root)
        cluster.import_image(WORKLOADS["ticker"], "alpha", "beta")
        yield cluster


@pytest.fixture(scope="module")
def ticker(cluster: Cluster) -> Running:
    return cluster.start(WORKLOADS["ticker"], "alpha", "demo", options=("--env", f"PASSWORD={WORD}"))


def on_control(cluster: Cluster, *argv: str) -> str:
    environment = product_environment(ensure_secrets(cluster.lab.layout.secrets_file))
    done = cluster.lab.control.exec(list(argv), environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(cluster: Cluster, *words: str) -> Any:
    return json.loads(on_control(cluster, "python3", "-m", "migrator", "keys", *words, "--json"))


def give_ring(cluster: Cluster) -> None:
    """Copy the control host's key file to all hosts; no worker is started again."""
    text = (cluster.lab.control.root / KEY_FILE.lstrip("/")).read_text()
    for machine in cluster.machines.values():
        write_private(machine.host.root / KEY_FILE.lstrip("/"), text)


def test_a_container_moves_and_comes_back_and_nothing_is_readable(
    cluster: Cluster, ticker: Running, tmp_path: Path
) -> None:
    before = ticker.state()
    there = cluster.migrate(ticker, "beta")
    WORKLOADS["ticker"].check(before, there)
    back = cluster.migrate(there, "alpha")
    WORKLOADS["ticker"].check(before, back)
    taken = cluster.finish("checkpoints", "create", str(back))["checkpoint_id"]
    cluster.finish("restore", taken, "beta", "--name", "copy")
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "copy"))
    cluster.remove("copy")

    cluster.done("checkpoints", "export", taken, str(tmp_path / "demo.tar"))
    assert WORD.encode() in (tmp_path / "demo.tar").read_bytes()  # it is in there, in plaintext
    names = on_control(cluster, "python3", "-c", LIST).split()
    assert {name.split("/")[0] for name in names} == {"encrypted", "keys"}
    found = cluster.lab.control.exec(["grep", "-rlF", "-e", WORD, "-e", taken, "/var/lib/migrator/s3"])
    assert (found.returncode, found.stdout) == (1, "")
    for host in (cluster.lab.control, *(machine.host for machine in cluster.machines.values())):
        ring = json.loads((host.root / KEY_FILE.lstrip("/")).read_text())
        secret = ring["keys"][0]["secret"]
        assert host.exec(["grep", "-rlF", secret, "/var/log/lab", "/var/lib/migrator"]).stdout == ""


@pytest.mark.parametrize(
    ("environment", "code"),
    [({"MIGRATOR_KEY_FILE": STRANGERS}, "store_key_unknown"), ({"MIGRATOR_KEY_FILE": ""}, "store_encrypted")],
)
def test_a_host_with_a_wrong_key_or_none_is_refused_before_the_freeze(
    cluster: Cluster, ticker: Running, environment: dict[str, str], code: str
) -> None:
    before, pid = ticker.state(), ticker.pid
    write_private(cluster["beta"].host.root / STRANGERS.lstrip("/"), write_ring(new_ring()))
    with cluster.worker_with("beta", environment):
        failure = cluster.failure("migrate", str(ticker), "beta")
    assert (failure["code"], failure["host"]) == (code, "beta")
    WORKLOADS["ticker"].check(before, ticker)
    assert ticker.pid == pid


def test_an_index_in_the_place_of_another_is_refused(cluster: Cluster, ticker: Running) -> None:
    taken = [cluster.finish("checkpoints", "create", str(ticker))["checkpoint_id"] for _ in range(2)]
    shown = [cluster.done("checkpoints", "show", checkpoint_id) for checkpoint_id in taken]
    on_control(cluster, "python3", "-c", SWAP, *(f"{one['workload_id']}/{one['id']}" for one in shown))
    failure = cluster.failure("restore", taken[1], "beta", "--name", "copy")
    assert (failure["kind"], failure["code"]) == ("IntegrityError", "object_damaged")
    assert cluster["beta"].containers() == []


def test_keys_are_changed_while_everything_runs(cluster: Cluster, ticker: Running) -> None:
    (old,) = keys(cluster, "list")
    done = keys(cluster, "rotate")
    assert done["data_keys_rewrapped"] >= 3
    assert cluster.failure("migrate", str(ticker), "beta")["code"] == "store_key_unknown"
    give_ring(cluster)
    before = ticker.state()
    there = cluster.migrate(ticker, "beta")
    WORKLOADS["ticker"].check(before, there)
    keys(cluster, "retire", old["id"])
    give_ring(cluster)
    WORKLOADS["ticker"].check(before, cluster.migrate(there, "alpha"))
    assert [key["id"] for key in keys(cluster, "list")] == [done["active"]]
