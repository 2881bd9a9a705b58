"""One blob on its way into the content store: the write stream and its rules.

The daemon locks a ref for as long as a stream lives, tells on STAT how far the ingest has come, cuts it back to nothing
when a WRITE names offset 0, and refuses a digest that it already has. A STAT must not name a total: if it differs from
that of a stale ingest, the daemon forgets how far that one came but leaves its bytes in the file.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import grpc

from migrator.containerd.channel import Caller
from migrator.containerd.faults import Subject, reraise
from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InvalidRequest,
    MigratorError,
    OutcomeUnknown,
    PreconditionFailed,
    ResourceBusy,
)
from migrator.gen.containerd.services.content.v1 import content_pb2 as pb
from migrator.gen.containerd.services.content.v1.content_pb2_grpc import ContentStub

PIECE_BYTES = 1 << 20
WINDOW = 4
"""Pieces that may be on their way before the first answer is awaited."""
LOCK_PATIENCE_S = 5.0
"""A writer that died frees the ref as soon as the daemon sees its connection close."""
CLOSE_PATIENCE_S = 2.0
"""What the daemon may still have to do with the last pieces; one that hangs is not waited for longer."""

_STAT, _WRITE, _COMMIT = pb.WriteAction.STAT, pb.WriteAction.WRITE, pb.WriteAction.COMMIT


@dataclass(frozen=True, slots=True)
class Ingest:
    """What is to be written."""

    ref: str
    size_bytes: int
    digest: str | None
    offset_bytes: int
    labels: dict[str, str]


def write_blob(caller: Caller, wanted: Ingest, chunks: Iterable[bytes], timeout_s: float) -> tuple[str, bool]:
    """Write one blob; return its digest and whether it was there before."""
    try:
        return _write_unlocked(caller, wanted, chunks, timeout_s)
    except (MigratorError, OSError) as error:
        if not isinstance(error, (OutcomeUnknown, ResourceBusy, InvalidRequest)):
            _abort(caller, wanted.ref)
        raise


def _write_unlocked(caller: Caller, wanted: Ingest, chunks: Iterable[bytes], timeout_s: float) -> tuple[str, bool]:
    """Wait for the ref's lock, then write."""
    give_up_at = time.monotonic() + min(LOCK_PATIENCE_S, timeout_s)
    while True:
        stream = _Stream(caller, wanted, timeout_s)
        try:
            state = stream.open()
        except AlreadyExists:
            stream.close()
            return wanted.digest or "", True
        except ResourceBusy:
            stream.close()
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.1)
            continue
        except BaseException:
            stream.close()
            raise
        try:
            return _fill(stream, wanted, state, chunks)
        finally:
            stream.close()


def _fill(stream: _Stream, wanted: Ingest, state: pb.WriteContentResponse, chunks: Iterable[bytes]) -> tuple[str, bool]:
    """Send what is missing, then seal."""
    if wanted.digest and state.offset == wanted.size_bytes and state.digest == wanted.digest:
        return stream.commit(wanted.size_bytes)
    offset = wanted.offset_bytes
    if offset and offset != state.offset:
        raise InvalidRequest(
            f"ingest {wanted.ref} stands at byte {state.offset}, so it cannot be continued from byte {offset}",
            code="ingest_offset",
            remedy="ask status(ref) for the offset, or write from the beginning",
        )
    for piece in pieces(chunks):
        stream.send(pb.WriteContentRequest(action=_WRITE, ref=wanted.ref, offset=offset, data=piece))
        offset += len(piece)
    if offset != wanted.size_bytes:
        raise IntegrityError(
            f"ingest {wanted.ref} came to {offset} bytes instead of {wanted.size_bytes}", code="content_mismatch"
        )
    return stream.commit(offset)


def pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut and join `chunks` so that every piece but the last has 1 MiB."""
    held = bytearray()
    for chunk in chunks:
        if not held and len(chunk) == PIECE_BYTES:
            yield bytes(chunk)
            continue
        held += chunk
        while len(held) >= PIECE_BYTES:
            yield bytes(held[:PIECE_BYTES])
            del held[:PIECE_BYTES]
    if held:
        yield bytes(held)


class _Stream:
    """The write stream: all of it happens in the caller's thread, gRPC's own thread only empties the queue."""

    def __init__(self, caller: Caller, wanted: Ingest, timeout_s: float):
        self._caller = caller
        self._wanted = wanted
        self._unanswered = 0
        self._digest = ""
        self._requests: queue.SimpleQueue[pb.WriteContentRequest | None] = queue.SimpleQueue()
        write = caller.stub(ContentStub).Write
        self._answers = write(iter(self._requests.get, None), timeout=timeout_s, metadata=caller.metadata)

    def open(self) -> pb.WriteContentResponse:
        """Take the ref's lock and learn how far the ingest has come."""
        wanted = self._wanted
        self._requests.put(pb.WriteContentRequest(action=_STAT, ref=wanted.ref, expected=wanted.digest or ""))
        self._unanswered = 1
        return self._answer("open")

    def send(self, request: pb.WriteContentRequest) -> None:
        """Send one piece; waits for the oldest answer when the window is full."""
        while self._unanswered >= WINDOW:
            self._answer("write")
        self._requests.put(request)
        self._unanswered += 1

    def commit(self, offset: int) -> tuple[str, bool]:
        """Seal the blob; return its digest and whether it was there before.

        The digest is not named again: the daemon would say that it has it before it puts it under the caller's lease.
        """
        wanted = self._wanted
        while self._unanswered:
            self._answer("write")
        self._requests.put(
            pb.WriteContentRequest(
                action=_COMMIT, ref=wanted.ref, offset=offset, total=wanted.size_bytes, labels=wanted.labels
            )
        )
        self._unanswered = 1
        try:
            return self._answer("commit").digest, False
        except AlreadyExists:
            return self._digest, True
        except PreconditionFailed as error:
            expected = f"{wanted.digest or 'its digest'} and {wanted.size_bytes} bytes"
            raise IntegrityError(
                f"ingest {wanted.ref} is not what {expected} say: {error.message}", code="content_mismatch"
            ) from error

    def close(self) -> None:
        """End the stream and wait until the daemon has let go of the ref: only then may it be written or aborted."""
        self._requests.put(None)
        timer = threading.Timer(CLOSE_PATIENCE_S, self._answers.cancel)
        timer.start()
        with suppress(grpc.RpcError):
            for _ in self._answers:
                pass
        timer.cancel()

    def _answer(self, act: str) -> pb.WriteContentResponse:
        subject = Subject(act, "ingest", self._wanted.ref, self._caller.namespace, act == "commit")
        try:
            answer = next(self._answers)
        except StopIteration as error:
            raise OutcomeUnknown(
                f"containerd ended the write of ingest {self._wanted.ref} without an answer",
                code="containerd_no_answer",
            ) from error
        except grpc.RpcError as error:
            reraise(error, subject, self._caller.transport.socket)
        self._unanswered -= 1
        self._digest = answer.digest
        return answer


def _abort(caller: Caller, ref: str) -> None:
    """Leave no half-written blob; one that cannot be thrown away now is collected a day later."""
    with suppress(MigratorError):
        request = pb.AbortRequest(ref=ref)
        caller.unary(caller.stub(ContentStub).Abort, request, caller.subject("abort", "ingest", ref, changes=True))
