"""Pins beside the checkpoints: the word that one stays must survive the loss of the SQL database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from migrator.errors import NotFound
from migrator.storage.layout import PINS, pin_key
from migrator.storage.store import ObjectStore


@dataclass(frozen=True, slots=True)
class Pin:
    """Since when a checkpoint stays, and why."""

    at: datetime
    reason: str = ""


class Pins:
    """Pins over any object store.

    Args:
        objects: The store.
    """

    def __init__(self, objects: ObjectStore):
        self._objects = objects

    def write(self, checkpoint_id: str, pin: Pin) -> None:
        """Pin a checkpoint, or change its reason."""
        told = {"at": pin.at.isoformat(), "reason": pin.reason}
        self._objects.put(pin_key(checkpoint_id), json.dumps(told, sort_keys=True).encode())

    def read(self, checkpoint_id: str) -> Pin | None:
        """Return a checkpoint's pin; None if it has none. One that cannot be read still holds."""
        try:
            data = self._objects.get(pin_key(checkpoint_id))
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return None
        try:
            told = json.loads(data)
            at = datetime.fromisoformat(str(told["at"]))
            return Pin(at if at.tzinfo else at.astimezone(), str(told.get("reason", "")))
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            found = self._objects.head(pin_key(checkpoint_id))
            return Pin(found.modified_at, "its note cannot be read") if found else None

    def remove(self, checkpoint_id: str) -> None:
        """Take a pin away; one that is not there is fine."""
        self._objects.delete(pin_key(checkpoint_id))

    def list(self) -> list[str]:
        """The ids of all pinned checkpoints."""
        return [info.key.removeprefix(PINS) for info in self._objects.scan(PINS)]
