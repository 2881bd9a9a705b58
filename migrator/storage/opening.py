"""Open the store that the settings name. boto3 takes half a second to import, so only `s3://` pays for it."""

from __future__ import annotations

import importlib
from pathlib import Path

from migrator.errors import InvalidRequest
from migrator.settings import Settings
from migrator.storage.directory import DirectoryStore
from migrator.storage.store import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Open the store; nothing is connected yet.

    Raises:
        InvalidRequest: `bad_configuration`, the URL names no bucket.
    """
    url = settings.store_url
    if url.startswith("file://"):
        return DirectoryStore(Path(url.removeprefix("file://")))
    if not url.removeprefix("s3://").strip("/"):
        raise InvalidRequest(
            f"store_url '{url}' names no bucket", code="bad_configuration", remedy="set MIGRATOR_STORE_URL=s3://BUCKET"
        )
    opened: ObjectStore = importlib.import_module("migrator.storage.s3").open_s3(url, settings)
    return opened
