"""Versions and locks of a bucket: what it takes to delete an object for good. Knows a client and no library."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from migrator.errors import MigratorError, NotFound, PermissionDenied, PreconditionFailed
from migrator.storage.layout import CONTENT

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

REMEMBERED_S = 300.0
Translated = Callable[[str], AbstractContextManager[None]]


class Versions:
    """The versions of objects in one bucket.

    Args:
        client: The way to it.
        bucket: Its name.
        location: What people call it.
        translated: Turns errors of the client into ours.
    """

    def __init__(self, client: S3Client, bucket: str, location: str, translated: Translated):
        self._client = client
        self._bucket = bucket
        self._location = location
        self._translated = translated
        self._known: tuple[float, bool] | None = None

    def kept(self) -> bool:
        """Whether the bucket keeps what was deleted, or once did; False if it does not tell."""
        if self._known is None or time.monotonic() - self._known[0] > REMEMBERED_S:
            try:
                with self._translated("all"):
                    status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
            except (PermissionDenied, NotFound):
                status = None
            self._known = (time.monotonic(), status is not None)
        return self._known[1]

    def hidden(self, prefix: str) -> list[tuple[str, int, datetime]]:
        """List objects whose newest version is a mark of deletion: name, bytes of all versions, and when.

        Nothing is known where the right to list versions is missing.
        """
        sizes, deleted = Counter[str](), dict[str, datetime]()
        try:
            with self._translated(prefix):
                pages = self._client.get_paginator("list_object_versions")
                for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
                    for version in page.get("Versions", []):
                        sizes[version["Key"]] += version["Size"]
                    deleted |= {
                        mark["Key"]: mark["LastModified"] for mark in page.get("DeleteMarkers", []) if mark["IsLatest"]
                    }
        except PermissionDenied:
            return []
        return [(name, sizes[name], deleted[name]) for name in sorted(deleted)]

    def delete(self, name: str, key: str) -> bool:
        """Delete all versions of an object, the newest last; False if it is to be hidden by an ordinary deletion.

        That is so for notes that the store must keep, and where the right to delete versions is missing.

        Args:
            name: As the bucket has it.
            key: As we have it.

        Raises:
            PreconditionFailed: `object_locked`.
        """
        for version in reversed(self._list(name, key)):
            try:
                with self._translated(key):
                    self._client.delete_object(Bucket=self._bucket, Key=name, VersionId=version)
            except PermissionDenied as error:
                until = self._locked_until(name, version, key)
                if until is None or not key.startswith(CONTENT):
                    return False
                raise PreconditionFailed(
                    f"object '{key}' is locked {until} in {self._location}",
                    code="object_locked",
                    remedy="wait until then, or let somebody who may take the lock away",
                ) from error
        return True

    def _list(self, name: str, key: str) -> list[str]:
        """The ids of all versions of an object, marks of deletion included, the newest first."""
        found: list[tuple[Any, str]] = []
        with self._translated(key):
            for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name):
                items: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
                found += [(item["LastModified"], item["VersionId"]) for item in items if item["Key"] == name]
        return [version for _, version in sorted(found, key=lambda item: item[0], reverse=True)]

    def _locked_until(self, name: str, version: str, key: str) -> str | None:
        """Until when a version is locked, in words; None if it is not, as far as can be seen."""
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": name, "VersionId": version}
        try:
            with self._translated(key):
                held = self._client.get_object_legal_hold(**where).get("LegalHold", {})
            if held.get("Status") == "ON":
                return "by a legal hold"
        except MigratorError:
            pass  # it has none
        try:
            with self._translated(key):
                kept = self._client.get_object_retention(**where).get("Retention", {})
        except MigratorError:
            return None
        return f"until {kept['RetainUntilDate']:%Y-%m-%d %H:%M} UTC" if kept.get("RetainUntilDate") else None
