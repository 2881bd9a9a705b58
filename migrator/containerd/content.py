"""The content store: blobs under their digest, and ingests (blobs on their way in) under a ref."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask

from migrator.containerd.channel import Caller
from migrator.containerd.ingest import Ingest, write_blob
from migrator.containerd.values import Labels, moment
from migrator.errors import IntegrityError, NotFound, ResourceExhausted
from migrator.gen.containerd.services.content.v1 import content_pb2 as pb
from migrator.gen.containerd.services.content.v1.content_pb2_grpc import ContentStub
from migrator.models.descriptors import Descriptor

SLOWEST_BYTES_PER_S = 1 << 20
"""A transfer slower than this counts as hung; deadlines of streams grow with their length accordingly."""


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """What is known about one blob."""

    digest: str
    size_bytes: int
    labels: Labels = field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def from_wire(cls, wire: pb.Info) -> ContentInfo:
        """Read containerd's form."""
        return cls(wire.digest, wire.size, dict(wire.labels), moment(wire.created_at), moment(wire.updated_at))


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """How far an ingest has come; ours name no total, see `ingest`."""

    ref: str
    offset_bytes: int
    total_bytes: int
    expected: str
    started_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def from_wire(cls, wire: pb.Status) -> IngestStatus:
        """Read containerd's form."""
        times = moment(wire.started_at), moment(wire.updated_at)
        return cls(wire.ref, wire.offset, wire.total, wire.expected, *times)


class Content:
    """The blobs that one namespace sees. Errors carry codes such as `content_not_found`."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def info(self, digest: str) -> ContentInfo:
        """Return what is known about one blob.

        Raises:
            NotFound: `content_not_found`.
        """
        subject = self._caller.subject("read", "content", digest)
        return ContentInfo.from_wire(self._caller.unary(self._stub.Info, pb.InfoRequest(digest=digest), subject).info)

    def exists(self, digest: str) -> bool:
        """Tell whether the namespace has that blob."""
        try:
            self.info(digest)
        except NotFound:
            return False
        return True

    def list(self, *filters: str) -> list[ContentInfo]:
        """Return the blobs that match any filter, such as `labels."x"==y`; without one, all."""
        subject = self._caller.subject("list", "content")
        answers = self._caller.stream(self._stub.List, pb.ListContentRequest(filters=filters), subject)
        return [ContentInfo.from_wire(info) for answer in answers for info in answer.info]

    def read(self, digest: str, offset: int = 0, size: int = 0, *, timeout_s: float | None = None) -> Iterator[bytes]:
        """Stream a blob, or `size` bytes of it from `offset` (fewer where it ends), in pieces of at most 1 MiB.

        The caller checks the digest where it matters; `read_all` does.

        Raises:
            NotFound: `content_not_found`.
            InvalidRequest: `content_invalid`: `offset` lies behind its end.
        """
        if timeout_s is None:
            timeout_s = self._stream_timeout_s(size or self.info(digest).size_bytes)
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        subject = self._caller.subject("read", "content", digest)
        for answer in self._caller.stream(self._stub.Read, request, subject, timeout_s=timeout_s):
            yield answer.data

    def read_all(self, digest: str, limit_bytes: int = 16 << 20) -> bytes:
        """Return a small blob, verified.

        Raises:
            NotFound: `content_not_found`.
            ResourceExhausted: `content_too_large`: it is longer than `limit_bytes`.
            IntegrityError: `content_damaged`: the bytes are not what the digest says.
        """
        size_bytes = self.info(digest).size_bytes
        if size_bytes > limit_bytes:
            raise ResourceExhausted(
                f"content {digest} has {size_bytes} bytes, more than the {limit_bytes} that may be read at once",
                code="content_too_large",
            )
        data = b"".join(self.read(digest, timeout_s=self._stream_timeout_s(size_bytes))) if size_bytes else b""
        if digest != f"sha256:{hashlib.sha256(data).hexdigest()}":
            raise IntegrityError(f"content {digest} holds other bytes than its digest says", code="content_damaged")
        return data

    def write(
        self,
        ref: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None = None,
        media_type: str = "",
        labels: Labels | None = None,
        offset_bytes: int = 0,
        timeout_s: float | None = None,
    ) -> Descriptor:
        """Store a blob; success when it is already there.

        A stale ingest of the same ref is completed when it already holds the whole blob, continued when `offset_bytes`
        says so, and written anew otherwise. A writer that holds the ref is waited for, for a few seconds.

        Args:
            ref: Name of the ingest; writers of one ref exclude each other.
            chunks: The bytes, in pieces of any size.
            size_bytes: Length of the whole blob.
            digest: What it must come to. None: whatever it comes to.
            media_type: Goes into the descriptor that is returned; the store does not know it.
            labels: Set on the blob, also when it was already there.
            offset_bytes: `chunks` begin here, because `status(ref)` said that so much is already stored.
            timeout_s: Deadline of the whole transfer; grows with the size when omitted.

        Raises:
            IntegrityError: `content_mismatch`: the bytes have another digest or length; nothing is kept.
            ResourceBusy: `ingest_locked`: another writer holds the ref.
        """
        wanted = Ingest(ref, size_bytes, digest, offset_bytes, dict(labels or {}))
        timeout_s = timeout_s or self._stream_timeout_s(size_bytes)
        found, existed = write_blob(self._caller, wanted, chunks, timeout_s)
        if existed and labels:
            self.update_labels(found, labels)
        return Descriptor(media_type, found, size_bytes)

    def write_bytes(self, data: bytes, *, media_type: str, labels: Labels | None = None) -> Descriptor:
        """Store a small blob and return its descriptor."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        ref = f"migrator-{digest}"
        return self.write(ref, [data], size_bytes=len(data), digest=digest, media_type=media_type, labels=labels)

    def update_labels(self, digest: str, labels: Labels) -> ContentInfo:
        """Set these labels and leave the others; an empty value removes one.

        Raises:
            NotFound: `content_not_found`.
        """
        mask = FieldMask(paths=[f"labels.{label}" for label in labels])
        request = pb.UpdateRequest(info=pb.Info(digest=digest, labels=labels), update_mask=mask)
        subject = self._caller.subject("label", "content", digest, changes=True)
        return ContentInfo.from_wire(self._caller.unary(self._stub.Update, request, subject).info)

    def delete(self, digest: str) -> None:
        """Take a blob out of the namespace, whoever refers to it.

        Raises:
            NotFound: `content_not_found`.
        """
        subject = self._caller.subject("delete", "content", digest, changes=True)
        self._caller.unary(self._stub.Delete, pb.DeleteContentRequest(digest=digest), subject)

    def ingests(self, *filters: str) -> tuple[IngestStatus, ...]:
        """Return the ingests that match any filter, such as `ref==NAME`; without one, all."""
        subject = self._caller.subject("list", "ingest")
        answer = self._caller.unary(self._stub.ListStatuses, pb.ListStatusesRequest(filters=filters), subject)
        return tuple(IngestStatus.from_wire(status) for status in answer.statuses)

    def status(self, ref: str) -> IngestStatus:
        """Return how far an ingest has come.

        Raises:
            NotFound: `ingest_not_found`.
        """
        subject = self._caller.subject("read", "ingest", ref)
        return IngestStatus.from_wire(self._caller.unary(self._stub.Status, pb.StatusRequest(ref=ref), subject).status)

    def abort(self, ref: str) -> None:
        """Throw an ingest away.

        Raises:
            NotFound: `ingest_not_found`.
        """
        subject = self._caller.subject("abort", "ingest", ref, changes=True)
        self._caller.unary(self._stub.Abort, pb.AbortRequest(ref=ref), subject)

    def _stream_timeout_s(self, size_bytes: int) -> float:
        return self._caller.timeout_s + size_bytes / SLOWEST_BYTES_PER_S

    @property
    def _stub(self) -> ContentStub:
        return self._caller.stub(ContentStub)
