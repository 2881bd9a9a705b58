"""What prune leaves in the store for itself and for those who seal at the same moment.

prune/lock            one prune at a time: holder, and until when
prune/blobs/HEX       a candidate: no checkpoint needed this blob by then. Whoever relies on it takes the mark away
prune/doomed/NAME     the blobs that are being deleted right now, a digest a line: nobody relies on them any more
prune/packs/HEX       the same as both for a pack: whoever needs its chunks writes them anew
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from migrator.errors import AlreadyExists, Cancelled, NotFound, ResourceBusy
from migrator.storage import layout
from migrator.storage.store import ObjectStore

LEASE = timedelta(minutes=10)
"""A lock that was not renewed for so long is nobody's."""
RENEW_S = 60.0
DOOM_LIMIT = 4 << 20


class PruneLock:
    """Holds the store for one prune.

    Correctness needs it only to keep two from deleting by what one of them read long ago; both would read the same.

    Args:
        objects: The store.
        holder: Who asks, such as a job's id; the same holder takes its own lock over.
        is_over: Whether another holder is known to be gone.
        clock: A monotonic clock.
    """

    def __init__(
        self,
        objects: ObjectStore,
        holder: str,
        is_over: Callable[[str], bool] = lambda _: False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._objects = objects
        self._holder = holder
        self._is_over = is_over
        self._clock = clock
        self._token = secrets.token_hex(8)
        self._renewed_s = 0.0

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            ResourceBusy: `prune_busy`, another prune is under way.
        """
        try:
            self._objects.put(layout.PRUNE_LOCK, self._note(), if_absent=True)
        except AlreadyExists as error:
            self._take_over(error)
        self._renewed_s = self._clock()

    def renew(self) -> None:
        """Say that it is still held, and make sure that it is; call it before each deletion.

        Raises:
            Cancelled: `prune_lost`, somebody else holds it by now.
        """
        if self._clock() - self._renewed_s < RENEW_S:
            return
        if self._read().get("token") != self._token:
            raise Cancelled("another prune has taken over", code="prune_lost", remedy="see `migrator jobs list`")
        self._objects.put(layout.PRUNE_LOCK, self._note())
        self._renewed_s = self._clock()

    def release(self) -> None:
        """Give it back, if it is still ours."""
        if self._read().get("token") == self._token:
            self._objects.delete(layout.PRUNE_LOCK)

    def _take_over(self, taken: AlreadyExists) -> None:
        other = self._read()
        holder = str(other.get("holder", ""))
        over = holder == self._holder or self._is_over(holder) or _is_past(str(other.get("until", "")))
        if not over:
            raise ResourceBusy(
                f"another prune is under way ({holder})",
                code="prune_busy",
                remedy=f"wait for its end; if it is dead, its lock ends {other.get('until')}",
            ) from taken
        self._objects.put(layout.PRUNE_LOCK, self._note())
        if self._read().get("token") != self._token:
            raise ResourceBusy("another prune begins right now", code="prune_busy", remedy="try again") from taken

    def _note(self) -> bytes:
        until = (datetime.now(UTC) + LEASE).isoformat()
        return json.dumps({"holder": self._holder, "token": self._token, "until": until}, sort_keys=True).encode()

    def _read(self) -> dict[str, object]:
        try:
            told = json.loads(self._objects.get(layout.PRUNE_LOCK))
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            return {}
        except (ValueError, RecursionError):
            return {}
        return told if isinstance(told, dict) else {}


def _is_past(moment: str) -> bool:
    try:
        until = datetime.fromisoformat(moment)
    except ValueError:
        return True
    return until.tzinfo is None or until < datetime.now(UTC)


def doomed_blobs(objects: ObjectStore) -> set[str]:
    """The digests of blobs that somebody is deleting right now."""
    found: set[str] = set()
    for info in objects.scan(layout.DOOMED):
        try:
            data = objects.get(info.key, DOOM_LIMIT)
        except NotFound as error:
            if error.code != "object_not_found":
                raise
            continue  # that deletion is over
        found |= set(data.decode(errors="replace").split())
    return found


def doom(objects: ObjectStore, name: str, digests: Iterable[str]) -> None:
    """Say that blobs are about to be deleted; from here on no new checkpoint comes to name them."""
    objects.put(layout.doomed_key(name), "\n".join(sorted(digests)).encode())
