"""What an S3 server's refusals mean in our words. Knows the protocol and no library."""

from __future__ import annotations

from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InternalError,
    InvalidRequest,
    MigratorError,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from migrator.storage.store import object_not_found

TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"}
SHORTER = {"InvalidRange"}
FULL = {"QuotaExceeded", "InsufficientCapacity", "InsufficientStorage"}
BUSY = {"SlowDown", "RequestTimeout", "OperationAborted", "Throttling", "RequestLimitExceeded"}
REGION = {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}


def explain_answer(location: str, key: str, status: int, code: str, message: str) -> MigratorError:
    """Choose the error for an answer that is no success.

    Args:
        location: The store, for messages.
        key: What it was about.
        status: Of HTTP.
        code: The error code in the body; the status once more when there was no body.
        message: The server's own words.
    """
    if code == "NoSuchBucket":
        return bucket_not_found(location)
    if code in TAKEN or status == 412:
        return AlreadyExists(f"object '{key}' exists already in {location}", code="object_exists")
    if code in DAMAGED or code in SHORTER or status == 416:
        return IntegrityError(
            f"object '{key}' is not what it was announced to be, says {location} ({code})",
            code="size_mismatch" if code not in DAMAGED else "digest_mismatch",
            remedy="it was cut short or changed; take a new checkpoint",
        )
    if code in REGION or status == 301:
        return InvalidRequest(
            f"{location} is in another region ({message or code})",
            code="bad_configuration",
            remedy="correct MIGRATOR_S3_REGION",
        )
    if code in FULL or status == 507:
        return ResourceExhausted(
            f"{location} is full ({code})", code="store_full", remedy="make room or raise its quota"
        )
    return _by_status(location, key, status, f"{code} {message}".strip())


def _by_status(location: str, key: str, status: int, words: str) -> MigratorError:
    if status in (401, 403):
        return refused(location, words.split(" ")[0])  # the rest may tell what was signed
    if status == 404:
        return object_not_found(key, location)
    if status >= 500 or status in (408, 409, 429) or words.split(" ")[0] in BUSY:
        return unavailable(location, words)
    return InternalError(
        f"{location} answered something unforeseen about '{key}': {words} (status {status})",
        code="store_answer",
        remedy="see that MIGRATOR_S3_ENDPOINT names an S3 server, and its log",
    )


def bucket_not_found(location: str) -> NotFound:
    """Say that the bucket is not there."""
    return NotFound(
        f"the bucket of {location} does not exist",
        code="bucket_not_found",
        remedy="create it, or correct MIGRATOR_STORE_URL and MIGRATOR_S3_ENDPOINT",
    )


def refused(location: str, words: str) -> PermissionDenied:
    """Say that the store does not let us in."""
    return PermissionDenied(
        f"{location} refuses our credentials ({words})",
        code="store_credentials",
        remedy="correct MIGRATOR_S3_ACCESS_KEY, MIGRATOR_S3_SECRET_KEY, the bucket's policy or this machine's clock",
    )


def unavailable(location: str, words: str) -> Unavailable:
    """Say that the store does not answer as it should, for now."""
    return Unavailable(
        f"{location} does not answer ({words})",
        code="store_unavailable",
        remedy="see that it runs and that MIGRATOR_S3_ENDPOINT is right",
    )
