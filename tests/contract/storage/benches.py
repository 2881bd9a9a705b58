"""The three stores, each with a way past its interface: to damage what it holds, to leave what a kill leaves."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from migrator.models.descriptors import digest_bytes
from migrator.storage import open_store
from migrator.storage.directory import DirectoryStore
from migrator.storage.encryption.ring import new_ring, write_ring
from migrator.storage.encryption.source import RingText
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.layout import ENCRYPTED
from migrator.storage.memory import MemoryStore
from migrator.storage.pacing import PacedStore
from migrator.storage.store import ObjectStore
from tests.servers.s3 import BUCKET, S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class Bench:
    """A store under test."""

    store: ObjectStore
    leaves_uploads = True
    """Whether something is left of an upload whose process is killed."""

    def overwrite(self, key: str, data: bytes) -> None:
        """Change an object behind the store's back."""
        raise NotImplementedError

    def leave_upload(self, key: str) -> None:
        """Leave what an upload leaves when its process is killed."""
        raise NotImplementedError

    def unfinished(self) -> list[str]:
        """List everything that is there and is no object."""
        raise NotImplementedError


@dataclass
class MemoryBench(Bench):
    store: MemoryStore | PacedStore
    leaves_uploads = False

    def overwrite(self, key: str, data: bytes) -> None:
        self.store.put(key, data)

    def leave_upload(self, key: str) -> None:
        """Nothing survives the process that held it."""

    def unfinished(self) -> list[str]:
        return []


@dataclass
class DirectoryBench(Bench):
    store: DirectoryStore
    root: Path

    def overwrite(self, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)

    def leave_upload(self, key: str) -> None:
        """A file that a writer of this store was killed over: taken from a real upload while it runs."""
        seen: list[bytes] = []

        def chunks() -> Any:
            yield b"half"
            (path,) = (self.root / name for name in self.unfinished())
            seen.extend([os.fsencode(path), path.read_bytes()])
            yield b"rest"

        self.store.upload(key, chunks(), size_bytes=8, digest=digest_bytes(b"halfrest"))
        self.store.delete(key)
        left = Path(os.fsdecode(seen[0]))
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_bytes(seen[1])

    def unfinished(self) -> list[str]:
        known = {info.key for info in self.store.scan("")}
        files = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
        return sorted(set(files) - known)


@dataclass
class S3Bench(Bench):
    store: ObjectStore
    client: S3Client
    prefix: str

    def overwrite(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=self.prefix + key, Body=data)

    def leave_upload(self, key: str) -> None:
        name = self.prefix + key
        upload_id = self.client.create_multipart_upload(Bucket=BUCKET, Key=name)["UploadId"]
        self.client.upload_part(Bucket=BUCKET, Key=name, UploadId=upload_id, PartNumber=1, Body=b"half")

    def unfinished(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=BUCKET, Prefix=self.prefix).get("Uploads", [])
        return sorted(upload["Key"] for upload in found)


class EncryptedBench(Bench):
    """Another store with encryption around it."""

    def __init__(self, inner: Bench):
        self.inner = inner
        self.leaves_uploads = inner.leaves_uploads
        self._source = RingText(write_ring(new_ring()))
        self.store: EncryptedStore = self._open()

    def overwrite(self, key: str, data: bytes) -> None:
        self._open().put(key, data)

    def leave_upload(self, key: str) -> None:
        self.store.put(key, b"")  # so that there is something to see the stored name by
        (info,) = self.inner.store.scan(ENCRYPTED)
        self.store.delete(key)
        self.inner.leave_upload(info.key)

    def unfinished(self) -> list[str]:
        return self.inner.unfinished()

    def _open(self) -> EncryptedStore:
        return EncryptedStore(self.inner.store, self._source)


def open_s3_bench(server: S3Server, prefix: str) -> S3Bench:
    """Open the store under a prefix of its own, and the same place by a plain client."""
    client: S3Client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
    )
    store = open_store(server.settings(store_url=f"s3://{BUCKET}/{prefix}"))
    return S3Bench(store, client, f"{prefix}/")
