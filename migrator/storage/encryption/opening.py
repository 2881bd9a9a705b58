"""What the settings make of a store: encrypted or not, signed or not."""

from __future__ import annotations

from migrator.errors import InvalidRequest
from migrator.settings import Settings
from migrator.storage.encryption.signatures import Signatures
from migrator.storage.encryption.source import RingSource, find_ring
from migrator.storage.encryption.store import EncryptedStore
from migrator.storage.store import ObjectStore


def open_encrypted(plain: ObjectStore, settings: Settings) -> ObjectStore:
    """Put encryption around a store, unless the settings say that keys are for signatures alone.

    Raises:
        MigratorError: See `opening.open_store`.
    """
    return EncryptedStore(plain, open_ring(settings)) if settings.encryption else plain


def open_signatures(settings: Settings) -> Signatures:
    """Open what signs and checks.

    Raises:
        MigratorError: See `opening.open_store`.
    """
    return Signatures(open_ring(settings), accept_missing=settings.accept_unprotected)


def open_ring(settings: Settings) -> RingSource:
    """Open the key ring and see that it is one.

    Raises:
        MigratorError: See `opening.open_store`.
    """
    source = find_ring(settings)
    if source is None:
        raise InvalidRequest(
            "no key ring is configured",
            code="no_keys",
            remedy="make one with `migrator keys init` and name it: MIGRATOR_KEY_FILE=/etc/migrator/keys.json",
        )
    source.current()
    return source
