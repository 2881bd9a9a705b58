"""An S3-compatible store by boto3; the only file that knows boto3.

Large objects go up in parts, a few at a time, and come down in ranges, a few ahead. boto3's own transfer manager is not
used: its CRT variant ignores `endpoint_url`, and its classic one wants files, while our bytes come from streams.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from migrator.errors import IntegrityError, MigratorError, NotFound
from migrator.settings import Settings
from migrator.storage.layout import check_key
from migrator.storage.probing import PROBES, probe_conditional_put
from migrator.storage.s3_answers import bucket_not_found, explain_answer, refused, unavailable
from migrator.storage.s3_versions import Versions
from migrator.storage.store import PIECE_BYTES, SMALL_BYTES, ObjectInfo, Progress, object_not_found
from migrator.storage.verify import checked, size_mismatch

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PART_BYTES = 8 << 20
PARALLEL = 4
"""Parts under way at once: bounds an upload or download to about six parts of memory."""
PATIENT = {"connect_timeout": 2, "read_timeout": 20, "retries": {"mode": "standard", "total_max_attempts": 3}}
HASTY = {"connect_timeout": 1.5, "read_timeout": 1.8, "retries": {"mode": "standard", "total_max_attempts": 2}}
"""For the probe: two tries and the pause between them, of a second at most, take less than 5 s."""
NO_MULTIPART_BYTES = PART_BYTES
"""Up to here one request does it."""


class S3Store:
    """Objects in a bucket.

    Args:
        bucket: Its name.
        prefix: Put before every key; empty or ending in `/`.
        settings: Endpoint, region and credentials.
    """

    def __init__(self, bucket: str, prefix: str, settings: Settings):
        self.location = f"s3://{bucket}/{prefix}".rstrip("/") + f" at {settings.s3_endpoint or 'AWS'}"
        self._bucket = bucket
        self._prefix = prefix
        session = boto3.session.Session()
        self._client = _client(session, settings, PATIENT)
        self._prober = _client(session, settings, HASTY)
        self._versions = Versions(self._client, bucket, self.location, self._translated)

    def session(self, checkpoint_id: str) -> S3Store:
        """See `ObjectStore.session`."""
        del checkpoint_id
        return self

    def probe(self) -> None:
        """See `ObjectStore.probe`. A server that is not there is said within 5 s."""
        try:
            with self._translated(PROBES):
                self._prober.head_bucket(Bucket=self._bucket)
        except NotFound as error:  # a HEAD has no body that would tell a bucket from an object
            raise bucket_not_found(self.location) from error
        probe_conditional_put(self)

    def head(self, key: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        try:
            with self._translated(key):
                found = self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return None
        return ObjectInfo(key, found["ContentLength"], found["LastModified"])

    def get(self, key: str, limit_bytes: int = SMALL_BYTES) -> bytes:
        """See `ObjectStore.get`."""
        with self._translated(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"]
            data = body.read(limit_bytes + 1)
            body.close()
        if len(data) > limit_bytes:
            raise IntegrityError(f"object '{key}' has more than {limit_bytes} bytes", code="object_too_large")
        return data

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        self._put(key, data, _checksum(data), condition)

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`. The server holds the bytes against the digest."""
        self._put(key, data, b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode(), {})

    def _put(self, key: str, data: bytes | bytearray, checksum: str, condition: dict[str, Any]) -> None:
        body = cast("bytes", data)  # boto3 takes either as it is
        with self._translated(key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._key(key), Body=body, ChecksumSHA256=checksum, **condition
            )

    def upload(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None,
        on_progress: Progress | None = None,
    ) -> None:
        """See `ObjectStore.upload`."""
        whole = checked(chunks, size_bytes=size_bytes, digest=digest, what=f"object '{key}'")
        parts = _in_parts(whole, _part_bytes(size_bytes))
        if size_bytes <= NO_MULTIPART_BYTES:
            self.put(key, b"".join(parts))
            if on_progress:
                on_progress(size_bytes)
            return
        self._upload_parts(key, parts, on_progress)

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        if size_bytes <= PART_BYTES:
            yield from _in_pieces(self._read_small(key, size_bytes), on_progress)
            return
        found = self.head(key)
        if found is None:
            raise object_not_found(key, self.location)
        if found.size_bytes != size_bytes:
            raise size_mismatch(f"object '{key}'", size_bytes, found.size_bytes)
        ranges = [(start, min(start + PART_BYTES, size_bytes)) for start in range(0, size_bytes, PART_BYTES)]
        for part in _ahead(lambda edges: self._read_range(key, *edges), ranges):
            yield from _in_pieces(part, on_progress)

    def _read_small(self, key: str, size_bytes: int) -> bytes:
        """Read an object by one request; of one that is longer than it should be no more than it takes to see that."""
        with self._translated(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            found_bytes = answer["ContentLength"]
            data = answer["Body"].read() if found_bytes == size_bytes else b""
            answer["Body"].close()
        if found_bytes != size_bytes or len(data) != size_bytes:
            raise size_mismatch(f"object '{key}'", size_bytes, found_bytes if found_bytes != size_bytes else len(data))
        return data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See `ObjectStore.get_range`."""
        return self._read_range(key, offset, offset + length)

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.scan`."""
        token: dict[str, Any] = {}
        while True:
            with self._translated(prefix):
                page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + prefix, **token)
            for item in page.get("Contents", []):
                key = item["Key"].removeprefix(self._prefix)
                yield ObjectInfo(key, item["Size"], item["LastModified"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def hidden(self, prefix: str) -> Iterator[ObjectInfo]:
        """See `ObjectStore.hidden`."""
        if self._versions.kept():
            for name, size_bytes, deleted_at in self._versions.hidden(self._prefix + prefix):
                yield ObjectInfo(name.removeprefix(self._prefix), size_bytes, deleted_at)

    def delete(self, key: str) -> bool:
        """See `ObjectStore.delete`. Of a versioned bucket all versions go, the newest last."""
        name, versions = self._key(key), self._versions.kept()
        if versions and self._versions.delete(name, key):
            return True
        if not (versions and self.head(key) is None):  # one that is hidden already is not hidden once more
            with self._translated(key):
                self._client.delete_object(Bucket=self._bucket, Key=name)
        return not versions

    def abort_uploads(self, prefix: str, older_than_s: float) -> list[str]:
        """See `ObjectStore.abort_uploads`."""
        oldest, aborted = datetime.now(UTC) - timedelta(seconds=older_than_s), []
        with self._translated(prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            for page in pages:
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] <= oldest:
                        self._abort(upload["Key"], upload["UploadId"])
                        aborted.append(upload["Key"].removeprefix(self._prefix))
        return aborted

    def _upload_parts(self, key: str, parts: Iterable[bytes], on_progress: Progress | None) -> None:
        name = self._key(key)
        with self._translated(key):
            upload_id = self._client.create_multipart_upload(Bucket=self._bucket, Key=name, ChecksumAlgorithm="SHA256")[
                "UploadId"
            ]
        done = False

        def send(numbered: tuple[int, bytes]) -> Any:
            number, data = numbered
            part: dict[str, Any] = {"PartNumber": number, "ChecksumSHA256": _checksum(data)}
            with self._translated(key):
                answer = self._client.upload_part(Bucket=self._bucket, Key=name, UploadId=upload_id, Body=data, **part)
            if on_progress:
                on_progress(len(data))
            return part | {"ETag": answer["ETag"]}

        try:
            sent = list(_ahead(send, enumerate(parts, start=1)))
            with self._translated(key):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket, Key=name, UploadId=upload_id, MultipartUpload={"Parts": sent}
                )
            done = True
        finally:
            if not done:
                self._abort_quietly(name, upload_id)

    def _abort_quietly(self, name: str, upload_id: str) -> None:
        """Abort after a failure; if that fails too, the first failure matters and housekeeping finds the rest."""
        try:
            with self._translated(name):
                self._abort(name, upload_id)
        except MigratorError:
            return

    def _abort(self, name: str, upload_id: str) -> None:
        self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)

    def _read_range(self, key: str, start: int, end: int) -> bytes:
        if start == end:  # HTTP knows no empty range
            if self.head(key) is None:
                raise object_not_found(key, self.location)
            return b""
        with self._translated(key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), Range=f"bytes={start}-{end - 1}")
            data = answer["Body"].read()
        if len(data) != end - start:
            raise size_mismatch(f"object '{key}'", end - start, len(data))
        return data

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Turn boto3's errors into ours."""
        try:
            yield
        except ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            answer = error.response.get("Error", {})
            raise explain_answer(
                self.location, key, status, str(answer.get("Code", "")), str(answer.get("Message", ""))
            ) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise refused(self.location, str(error)) from error
        except BotoCoreError as error:
            raise unavailable(self.location, str(error)) from error


def open_s3(url: str, settings: Settings) -> S3Store:
    """Open `s3://bucket[/prefix]`."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return S3Store(bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "", settings)


def _client(session: boto3.session.Session, settings: Settings, patience: Mapping[str, Any]) -> S3Client:
    keys = settings.s3_access_key, settings.s3_secret_key
    client: S3Client = session.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=keys[0].get_secret_value() if keys[0] else None,
        aws_secret_access_key=keys[1].get_secret_value() if keys[1] else None,
        config=Config(
            signature_version="s3v4",
            max_pool_connections=PARALLEL * 4,
            # A server of one's own stands on the same network: a proxy of the environment is not meant for it.
            proxies={} if settings.s3_endpoint else None,
            # Every body carries its SHA-256 in a signed header: hashed once, verified there, and not signed once more.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if settings.s3_endpoint else "auto", "payload_signing_enabled": False},
            **patience,
        ),
    )
    return client


def _in_pieces(data: bytes, on_progress: Progress | None) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        piece = data[start : start + PIECE_BYTES]
        if on_progress:
            on_progress(len(piece))
        yield piece


def _checksum(data: bytes) -> str:
    return b64encode(sha256(data).digest()).decode()


def _part_bytes(size_bytes: int) -> int:
    """S3 allows 10,000 parts."""
    return max(PART_BYTES, -(-size_bytes // 9_000))


def _in_parts(chunks: Iterable[bytes], part_bytes: int) -> Iterator[bytes]:
    """Join and cut chunks; each byte is copied once."""
    pieces: list[memoryview] = []
    held_bytes = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while held_bytes + len(rest) >= part_bytes:
            room = part_bytes - held_bytes
            yield b"".join([*pieces, rest[:room]])
            rest, pieces, held_bytes = rest[room:], [], 0
        if rest:
            pieces.append(rest)
            held_bytes += len(rest)
    if pieces:
        yield b"".join(pieces)


def _ahead(work: Any, items: Iterable[Any]) -> Iterator[Any]:
    """Map in order with a few items under way at once; the first error ends it."""
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(PARALLEL) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > PARALLEL:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
