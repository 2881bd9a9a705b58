"""One suite, three stores: a dictionary, a directory, and a real S3 server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.storage.directory import DirectoryStore
from migrator.storage.memory import MemoryStore
from migrator.storage.store import ObjectStore
from tests.contract.storage.benches import Bench, DirectoryBench, MemoryBench, open_s3_bench
from tests.servers.s3 import S3Server, running_s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


@pytest.fixture(params=["memory", "directory", pytest.param("s3", marks=pytest.mark.servers)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if request.param == "memory":
        return MemoryBench(MemoryStore())
    if request.param == "directory":
        return DirectoryBench(DirectoryStore(tmp_path / "store"), tmp_path / "store")
    return open_s3_bench(request.getfixturevalue("s3_server"), f"t-{secrets.token_hex(6)}")


@pytest.fixture
def store(bench: Bench) -> ObjectStore:
    return bench.store
