"""`checkpoints show|tree|diff|du` over real checkpoints: what people read, what programs read, and what damage looks like."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from migrator.models.values import Checkpoint
from migrator.storage.oci import INDEX_TYPES
from tests.contract.cli.test_cli_json import assert_keys, documented
from tests.servers.api import TAKEN_AT, ServedApi
from tests.servers.command_line import Answer
from tests.unit.inspection.real import RealCheckpoint

Cli = Callable[..., Answer]


def keep(api: ServedApi, checkpoint_id: str, real: RealCheckpoint, workload_id: str = "web-1") -> None:
    """Seal a real checkpoint and put it into the catalogue."""
    index = real.upload(api.checkpoints)
    document = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPES[0],
        "manifests": [part.to_oci() for part in index.parts],
        "annotations": {"io.migrator.container": "web"},
    }
    digest = api.checkpoints.seal(workload_id, checkpoint_id, json.dumps(document).encode())
    size_bytes = sum(part.size_bytes for part in index.parts)
    kept = Checkpoint(
        checkpoint_id, workload_id, "chk-1", "alpha", "default", "web", "web:1", digest, size_bytes, TAKEN_AT
    )
    with api.database.transaction() as tx:
        tx.checkpoints.add(kept)


@pytest.fixture
def two(api: ServedApi) -> None:
    keep(api, "ck-1", RealCheckpoint("first"))
    second = RealCheckpoint("second")
    second.touch(1, 0, b"changed")
    keep(api, "ck-2", second)


@pytest.mark.usefixtures("two")
def test_what_people_read(cli: Cli) -> None:
    shown = cli("checkpoints", "show", "ck-1").out
    assert "3 processes (python3 first), 5 threads" in shown
    assert "memory.limit 104857600" in shown
    tree = cli("checkpoints", "tree", "ck-1", "--files", "--sockets", "--mounts", "--memory", "--changed").out
    for words in (
        "└── 1 python3  /usr/bin/python3.14  3 threads: Thread-1 (forev, Thread-2 (forev  10.8 MB",
        "tcp 127.0.0.1:8080  listening", "file /state/log", "heap", "/etc/motd.new", "overlay",
    ):  # fmt: skip
        assert words in tree
    plain = cli("checkpoints", "tree", "ck-1").out
    assert "listening" not in plain
    differ = cli("checkpoints", "diff", "ck-1", "ck-2")
    assert (differ.code, differ.err) == (0, "")
    assert "/state/log  287 B → 695 B" in differ.out
    assert "4.1 kB" in differ.out


@pytest.mark.usefixtures("two")
def test_what_programs_read(cli: Cli) -> None:
    shown = cli("checkpoints", "show", "ck-1", "--json").data
    assert set(shown) == documented("checkpoint") | {"parts", "facts", "inside", "inside_failure"}
    assert_keys(shown["inside"], "inside")
    tree = cli("checkpoints", "tree", "ck-1", "--json").data
    assert_keys(tree, "contents")
    assert_keys(tree["processes"][0], "process")
    assert_keys(tree["processes"][0]["files"][0], "open file")
    assert_keys(tree["mounts"][0], "mount")
    assert_keys(tree["files"][0], "changed file")
    (mapped, *_) = cli("checkpoints", "tree", "ck-1", "--memory", "--json").data["processes"]
    assert_keys(mapped["memory"][0], "memory range")
    assert set(mapped) == documented("process") | {"memory"}
    differ = cli("checkpoints", "diff", "ck-1", "ck-2", "--json").data
    assert_keys(differ, "difference")
    assert_keys(differ["memory"][0], "memory change")
    assert differ["memory"][0]["changed_bytes"] == 4096
    quick = cli("checkpoints", "diff", "ck-1", "ck-2", "--quick", "--json").data
    assert quick["memory"][0]["changed_bytes"] is None


@pytest.mark.usefixtures("two")
def test_what_checkpoints_occupy(api: ServedApi, cli: Cli) -> None:
    everything = cli("checkpoints", "du", "--json").data
    assert_keys(everything, "usage")
    assert_keys(everything["checkpoints"][0], "checkpoint usage")
    (one,) = cli("checkpoints", "du", "ck-2", "--json").data["checkpoints"]
    own = {part["role"]: part["own_bytes"] for part in one["parts"]}
    assert own["memory"] > 29_000_000
    assert own["spec"] == 0, "both have the same"
    spec = next(part["size_bytes"] for part in one["parts"] if part["role"] == "spec")
    assert everything["size_bytes"] == sum(item["size_bytes"] for item in everything["checkpoints"]) - spec
    assert len(cli("checkpoints", "du", "web", "--json").data["checkpoints"]) == 2
    assert "together 58" in cli("checkpoints", "du").out
    assert cli("checkpoints", "du", "ck-none").code == 3


def test_checkpoints_of_different_workloads(api: ServedApi, cli: Cli) -> None:
    keep(api, "ck-1", RealCheckpoint("first"))
    keep(api, "ck-2", RealCheckpoint("second"), "other-1")
    answer = cli("checkpoints", "diff", "ck-1", "ck-2", "--quick")
    assert (answer.code, answer.err) == (0, "These are checkpoints of different workloads.\n")
    assert cli("checkpoints", "diff", "ck-1", "ck-1").code == 2
    assert cli("checkpoints", "diff", "ck-1", "ck-none").code == 3


def test_a_damaged_checkpoint_is_told_as_such(api: ServedApi, cli: Cli) -> None:
    damaged = RealCheckpoint()
    damaged.images["core-6.img"] = b"nothing"
    keep(api, "ck-1", damaged)
    answer = cli("checkpoints", "tree", "ck-1")
    assert (answer.code, answer.out) == (10, "")
    assert "CRIU's image 'core-6.img' is malformed" in answer.err
    shown: dict[str, Any] = cli("checkpoints", "show", "ck-1", "--json").data
    assert (shown["inside"], shown["inside_failure"]["code"]) == (None, "bad_images")
    assert "cannot be read" in cli("checkpoints", "show", "ck-1").out
