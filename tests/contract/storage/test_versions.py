"""Versioned and locked buckets, on a real server: deleted is deleted, and what must stay is told by name."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from migrator.errors import PreconditionFailed
from migrator.models.descriptors import digest_bytes
from migrator.storage import layout
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.prune.notes import PruneLock
from migrator.storage.prune.plan import Cutoff
from migrator.storage.prune.pruner import Pruner
from migrator.storage.s3 import S3Store
from tests.servers.s3 import S3Server
from tests.unit.storage.samples import Sample

pytestmark = pytest.mark.servers
TOMORROW = datetime.now(UTC) + timedelta(days=1)


class Locked:
    """A bucket of its own with versions and locks."""

    def __init__(self, server: S3Server):
        self.bucket = f"locked-{secrets.token_hex(4)}"
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
        )
        self.client.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=True)
        self.store = S3Store(self.bucket, "", server.settings(store_url=f"s3://{self.bucket}"))

    def versions(self, key: str = "") -> int:
        found = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)
        return len(found.get("Versions", [])) + len(found.get("DeleteMarkers", []))

    def lock(self, key: str) -> None:
        retention = {"Mode": "COMPLIANCE", "RetainUntilDate": TOMORROW}
        self.client.put_object_retention(Bucket=self.bucket, Key=key, Retention=retention)


@pytest.fixture(scope="module")
def bucket(s3_server: S3Server) -> Locked:
    return Locked(s3_server)


def test_deleted_is_deleted_with_all_versions(bucket: Locked) -> None:
    for data in (b"one", b"two"):
        bucket.store.put("blobs/x", data)
    bucket.client.delete_object(Bucket=bucket.bucket, Key="blobs/x")
    bucket.store.put("blobs/x", b"three")
    bucket.store.put("blobs/xy", b"a neighbour")
    assert bucket.versions("blobs/x") == 5
    bucket.store.delete("blobs/x")
    bucket.store.delete("blobs/x")
    assert bucket.versions("blobs/x") == 1
    assert bucket.store.get("blobs/xy") == b"a neighbour"
    bucket.store.put("blobs/x", b"four", if_absent=True)
    assert bucket.store.get("blobs/x") == b"four"


def test_what_is_locked_is_told_by_name_and_stays(bucket: Locked) -> None:
    key = "blobs/sha256/locked"
    bucket.store.put(key, b"precious")
    bucket.lock(key)
    with pytest.raises(PreconditionFailed) as refused:
        bucket.store.delete(key)
    assert refused.value.code == "object_locked"
    assert key in refused.value.message
    assert f"until {TOMORROW:%Y-%m-%d %H:%M}" in refused.value.message
    assert bucket.store.get(key) == b"precious"


def test_a_note_that_must_be_kept_is_hidden(bucket: Locked) -> None:
    bucket.store.put("prune/note", b"x")
    bucket.lock("prune/note")
    bucket.store.delete("prune/note")
    assert bucket.store.head("prune/note") is None
    bucket.store.put("prune/note", b"y", if_absent=True)
    assert bucket.store.get("prune/note") == b"y"


def test_a_prune_harms_nothing_else(bucket: Locked) -> None:
    checkpoints = CheckpointStore(bucket.store)
    kept, loose, locked = Sample(), b"nobody needs this", b"nobody needs this, and it must stay"
    kept.seal(checkpoints, "web-1", "ck-1")
    for data in (loose, locked):
        checkpoints.put_blob(digest_bytes(data), len(data), [data])
    bucket.lock(layout.blob_key(digest_bytes(locked)))
    for _ in range(2):
        later = datetime.now(UTC) + timedelta(minutes=1)
        plan, freed_bytes = Pruner(checkpoints).run(Cutoff(later, later), PruneLock(bucket.store, "prn-1"))
    assert any(digest_bytes(locked).removeprefix("sha256:") in words and "until" in words for words in plan.locked)
    assert freed_bytes >= len(loose)
    assert bucket.versions(layout.blob_key(digest_bytes(loose))) == 0
    assert checkpoints.has_blob(digest_bytes(locked), len(locked))
    for blob in checkpoints.reachable(checkpoints.read_index("web-1", "ck-1")):
        assert b"".join(checkpoints.get_blob(blob.digest, blob.size_bytes)) == kept.blobs[blob.digest]


def test_what_was_deleted_before_and_still_takes_room_is_freed_in_two_phases(bucket: Locked) -> None:
    """By somebody who could not delete versions; what a checkpoint needs comes back only by an upload, and stays."""
    checkpoints = CheckpointStore(bucket.store)
    needed = Sample(memory=b"needed, and deleted by mistake")
    needed.seal(checkpoints, "web-1", "ck-2")
    lost = needed.parts[0].digest
    loose = b"nobody needs this, and somebody hid it"
    checkpoints.put_blob(digest_bytes(loose), len(loose), [loose])
    for digest in (lost, digest_bytes(loose)):
        bucket.client.delete_object(Bucket=bucket.bucket, Key=layout.blob_key(digest))
    hidden = {info.key: info.size_bytes for info in bucket.store.hidden(layout.BLOBS)}
    assert hidden[layout.blob_key(digest_bytes(loose))] == len(loose)
    later = datetime.now(UTC) + timedelta(minutes=1)
    freed_bytes = sum(
        Pruner(checkpoints).run(Cutoff(later, later), PruneLock(bucket.store, "prn-1"))[1] for _ in (1, 2)
    )
    assert freed_bytes >= len(loose)
    assert bucket.versions(layout.blob_key(digest_bytes(loose))) == 0
    assert bucket.versions(layout.blob_key(lost)) == 2, "an operator can take the mark of deletion away"


def test_without_the_right_to_delete_versions_nothing_is_said_to_be_free(
    bucket: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = CheckpointStore(bucket.store)
    loose = b"nobody needs this, and its versions stay"
    key = layout.blob_key(checkpoints.put_blob(digest_bytes(loose), len(loose), [loose]) and digest_bytes(loose))
    monkeypatch.setattr(bucket.store._versions, "delete", lambda *_: False)
    later = datetime.now(UTC) + timedelta(minutes=1)
    for _ in range(3):
        plan, freed_bytes = Pruner(checkpoints).run(Cutoff(later, later), PruneLock(bucket.store, "prn-1"))
    assert key in plan.hidden
    assert freed_bytes == 0
    assert bucket.store.head(key) is None
    assert bucket.versions(key) == 2, "it is hidden once"
    monkeypatch.undo()
    plan, freed_bytes = Pruner(checkpoints).run(Cutoff(later, later), PruneLock(bucket.store, "prn-1"))
    assert (bucket.versions(key), plan.hidden) == (0, {})
    assert freed_bytes >= len(loose)
