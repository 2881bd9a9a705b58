"""One suite, three stores, each as it is and encrypted: a dictionary, a directory, and a real S3 server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.storage.directory import DirectoryStore
from migrator.storage.memory import MemoryStore
from migrator.storage.pacing import Limits, Pace, PacedStore
from migrator.storage.store import ObjectStore
from tests.contract.storage.benches import Bench, DirectoryBench, EncryptedBench, MemoryBench, open_s3_bench
from tests.servers.s3 import S3Server, running_s3


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as server:
        yield server


S3 = pytest.param("s3", marks=pytest.mark.servers)
ENCRYPTED_S3 = pytest.param("encrypted s3", marks=[pytest.mark.servers, pytest.mark.wide])


@pytest.fixture(
    params=["memory", "directory", S3, "paced memory", "encrypted memory", "encrypted directory", ENCRYPTED_S3]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    encrypted, name = request.param.startswith("encrypted "), request.param.removeprefix("encrypted ")
    plain = open_bench(name, request, tmp_path)
    return EncryptedBench(plain) if encrypted else plain


def open_bench(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if name == "memory":
        return MemoryBench(MemoryStore())
    if name == "paced memory":
        paces = [Pace(1 << 40)]
        return MemoryBench(PacedStore(MemoryStore(), Limits("mig-1", paces, paces, lambda: None)))
    if name == "directory":
        return DirectoryBench(DirectoryStore(tmp_path / "store"), tmp_path / "store")
    return open_s3_bench(request.getfixturevalue("s3_server"), f"t-{secrets.token_hex(6)}")


@pytest.fixture
def store(bench: Bench) -> ObjectStore:
    return bench.store
