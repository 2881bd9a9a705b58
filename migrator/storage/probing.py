"""Probe a store: some look-alikes take the condition of a conditional PUT and ignore it."""

from __future__ import annotations

import secrets
from contextlib import suppress

from migrator.errors import AlreadyExists, PreconditionFailed
from migrator.storage.layout import RING_MARK
from migrator.storage.store import ObjectStore

PROBES = "probes/"


def probe_store(store: ObjectStore) -> None:
    """Probe a store, and see that a process without keys does not write readable objects among encrypted ones.

    Raises:
        PreconditionFailed: `store_encrypted`; `store_unfit`.
        MigratorError: See `ObjectStore.probe`.
    """
    store.probe()
    if store.head(RING_MARK) is not None:  # an encrypted store does not show it: there it is no object
        raise PreconditionFailed(
            f"{store.location} is encrypted, and this process does not encrypt",
            code="store_encrypted",
            remedy="give it the deployment's key ring (MIGRATOR_KEY_FILE), with MIGRATOR_ENCRYPTION on",
        )


def probe_conditional_put(store: ObjectStore) -> None:
    """Write one key twice under the condition that it is absent; the second must lose.

    Raises:
        PreconditionFailed: `store_unfit`.
    """
    key = f"{PROBES}{secrets.token_hex(12)}"
    with suppress(AlreadyExists):  # by chance alone it is there: this is our own request, repeated
        store.put(key, b"first", if_absent=True)
    try:
        try:
            store.put(key, b"second", if_absent=True)
        except AlreadyExists:
            return
        raise PreconditionFailed(
            f"{store.location} ignores conditional writes (If-None-Match)",
            code="store_unfit",
            remedy="use a store that honours them, such as AWS S3, Ceph RGW or SeaweedFS",
        )
    finally:
        store.delete(key)
