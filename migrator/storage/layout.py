"""Every key in the object store, one function each; see docs/format.md.

oci-layout
blobs/sha256/HEX                        every blob once, whoever wrote it
checkpoints/WORKLOAD/ID/index.json      the OCI index of one checkpoint, written last
checkpoints/WORKLOAD/ID/HEX.sig         its signature, written before it; HEX is the index's SHA-256
pins/ID                                 a checkpoint that stays whatever a policy says
chunks/packs/HEX                        stored chunks, some MiB of them together
chunks/pack-indexes/HEX                 which chunk lies where in which packs
prune/packs/HEX                         a pack that is about to be removed: nobody relies on it any more
prune/blobs/HEX                         a blob that no checkpoint needed when this was written
prune/doomed/NAME                       the blobs that somebody is deleting right now: nobody relies on them any more
prune/lock                              one prune at a time
verdicts/JOB                            for a guard whose worker is dead: the source may run again

Of an encrypted store, all of these lie below `encrypted/` under hidden names, and beside them:

keys/ring.json                          which deployment's keys it was encrypted with
keys/data/HEX                           wrapped data keys
"""

from __future__ import annotations

import re

from migrator.errors import InvalidRequest
from migrator.models.descriptors import check_digest

OCI_LAYOUT = "oci-layout"
OCI_LAYOUT_CONTENT = b'{"imageLayoutVersion":"1.0.0"}'
CHECKPOINTS = "checkpoints/"
BLOBS = "blobs/sha256/"
PINS = "pins/"
VERDICTS = "verdicts/"
ENCRYPTED = "encrypted/"
KEYS = "keys/"
DATA_KEYS = "keys/data/"
RING_MARK = "keys/ring.json"
PACKS = "chunks/packs/"
PACK_INDEXES = "chunks/pack-indexes/"
PACK_MARKS = "prune/packs/"
BLOB_MARKS = "prune/blobs/"
DOOMED = "prune/doomed/"
PRUNE_LOCK = "prune/lock"
CONTENT = (CHECKPOINTS, BLOBS, PACKS, PACK_INDEXES)
"""What checkpoints are made of; all other keys are notes."""
SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
"""Such a name means the same to every store and file system, and leaves room for a temporary one beside it."""
HEX = re.compile(r"[0-9a-f]{64}")
_INDEX = re.compile(r"checkpoints/([^/]+)/([^/]+)/index\.json")
_SIGNATURE = re.compile(r"checkpoints/([^/]+)/([^/]+)/[0-9a-f]{64}\.sig")


def blob_key(digest: str) -> str:
    """Return where a blob is.

    Raises:
        IntegrityError: `bad_digest`.
    """
    return BLOBS + check_digest(digest).removeprefix("sha256:")


def index_key(workload_id: str, checkpoint_id: str) -> str:
    """Return where a checkpoint's index is.

    Raises:
        InvalidRequest: `bad_id`, an id is not a plain path segment.
    """
    return f"{checkpoint_directory(workload_id, checkpoint_id)}index.json"


def signature_key(workload_id: str, checkpoint_id: str, index_digest: str) -> str:
    """Return where the signature of an index is.

    Raises:
        InvalidRequest: `bad_id`, an id is not a plain path segment.
    """
    name = f"{check_digest(index_digest).removeprefix('sha256:')}.sig"
    return f"{checkpoint_directory(workload_id, checkpoint_id)}{name}"


def checkpoint_directory(workload_id: str, checkpoint_id: str) -> str:
    """Return what the keys of all that belongs to one checkpoint alone begin with.

    Raises:
        InvalidRequest: `bad_id`.
    """
    return f"{CHECKPOINTS}{check_segment(workload_id)}/{check_segment(checkpoint_id)}/"


def verdict_key(job_id: str) -> str:
    """Return where a job's verdict is.

    Raises:
        InvalidRequest: `bad_id`.
    """
    return f"{VERDICTS}{check_segment(job_id)}"


def pin_key(checkpoint_id: str) -> str:
    """Return where a checkpoint's pin is.

    Raises:
        InvalidRequest: `bad_id`.
    """
    return f"{PINS}{check_segment(checkpoint_id)}"


def pack_key(name: str) -> str:
    """Return where a pack is; its name is the SHA-256 of its bytes, in hex."""
    return PACKS + check_hex(name)


def pack_index_key(name: str) -> str:
    """Return where a pack index is; its name is the SHA-256 of its bytes, in hex."""
    return PACK_INDEXES + check_hex(name)


def pack_mark_key(name: str) -> str:
    """Return where the mark on a pack is that is about to be removed."""
    return PACK_MARKS + check_hex(name)


def blob_mark_key(name: str) -> str:
    """Return where the mark on a blob is that no checkpoint needed; its name is the hex of its digest."""
    return BLOB_MARKS + check_hex(name)


def doomed_key(name: str) -> str:
    """Return where a note of blobs is that somebody is deleting.

    Raises:
        InvalidRequest: `bad_id`.
    """
    return DOOMED + check_segment(name)


def check_hex(name: str) -> str:
    """Return a name if it is a SHA-256 in hex.

    Raises:
        IntegrityError: `bad_digest`.
    """
    return check_digest(f"sha256:{name}").removeprefix("sha256:")


def parse_index_key(key: str) -> tuple[str, str] | None:
    """Return workload and checkpoint of an index's key; None for other keys."""
    found = _INDEX.fullmatch(key)
    return (found[1], found[2]) if found else None


def parse_signature_key(key: str) -> tuple[str, str] | None:
    """Return workload and checkpoint of a signature's key; None for other keys."""
    found = _SIGNATURE.fullmatch(key)
    return (found[1], found[2]) if found else None


def check_key(key: str) -> str:
    """Return a key if every segment of it is plain: nothing empty, hidden, relative or unusual.

    Raises:
        InvalidRequest: `bad_key`.
    """
    if not all(SEGMENT.fullmatch(segment) for segment in key.split("/")):
        raise InvalidRequest(
            f"{key[:200]!r} cannot be a key of an object", code="bad_key", remedy="use letters, digits and ._-"
        )
    return key


def check_segment(name: str) -> str:
    """Return an id if it may stand in a key.

    Raises:
        InvalidRequest: `bad_id`.
    """
    if not SEGMENT.fullmatch(name):
        raise InvalidRequest(
            f"'{name[:200]}' cannot be part of a key", code="bad_id", remedy="use letters, digits and ._-"
        )
    return name
