"""Open the store that the settings name. boto3 takes half a second to import, so only `s3://` pays for it,
and only who has keys for cryptography."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from migrator.errors import InvalidRequest
from migrator.settings import Settings
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.directory import DirectoryStore
from migrator.storage.store import ObjectStore


def open_store(settings: Settings) -> ObjectStore:
    """Open the store, encrypted if there are keys; nothing is connected yet.

    Raises:
        InvalidRequest: `bad_configuration`, the URL names no bucket; `bad_key_ring`.
        NotFound: `key_file_missing`.
        PermissionDenied: `key_file_open` or `key_file_unreadable`.
        Unavailable: `key_command_failed`.
    """
    plain = open_plain(settings)
    if not has_keys(settings):
        return plain
    opened: ObjectStore = _opening().open_encrypted(plain, settings)
    return opened


def open_checkpoints(settings: Settings, *, chunk_cache: Path | None = None) -> CheckpointStore:
    """Open the store of checkpoints, which signs and checks signatures if there are keys.

    Args:
        settings: Which store, and which keys.
        chunk_cache: A file for what is known of chunks; None for a temporary one.

    Raises:
        MigratorError: See `open_store`.
    """
    signatures = _opening().open_signatures(settings) if has_keys(settings) else None
    return CheckpointStore(open_store(settings), chunk_cache=chunk_cache, signatures=signatures)


def has_keys(settings: Settings) -> bool:
    """Whether the deployment has a key ring."""
    return bool(settings.key_file or settings.key or settings.key_command)


def open_plain(settings: Settings) -> ObjectStore:
    """Open the store as it is.

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


def _opening() -> ModuleType:
    return importlib.import_module("migrator.storage.encryption.opening")
