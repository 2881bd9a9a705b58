"""The store in memory, seen from several machines: away, slow, cut off, damaging."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from migrator.errors import Unavailable
from migrator.simulator.faults import STORE, Place
from migrator.storage.layout import check_key
from migrator.storage.memory import MemoryStore
from migrator.storage.store import Progress

if TYPE_CHECKING:
    from migrator.simulator.world import World


class SimulatedStore(MemoryStore):
    """Every request is made by the process that runs right now, over its own line."""

    def __init__(self, world: World):
        super().__init__()
        self._world = world
        self.away_until_s = 0.0
        self.truncates_until_s = 0.0
        self.corrupts_until_s = 0.0
        self.next_upload_shorter = False
        self.next_upload_turned = False

    def objects(self) -> dict[str, bytes]:
        """What is there, for the rules."""
        return {key: data for key, (data, _) in self._objects.items()}

    def fill(self, objects: dict[str, bytes]) -> None:
        """Put objects there before anything begins."""
        for key, data in objects.items():
            super().put(key, data)

    def probe(self) -> None:
        """See `ObjectStore.probe`; a probe leaves nothing behind but its own key."""
        self._check()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """See `ObjectStore.put`."""
        self._before("put", key)
        super().put(key, data, if_absent=if_absent)
        self._after("put", key)

    def put_hashed(self, key: str, data: bytes | bytearray, digest: str) -> None:
        """See `ObjectStore.put_hashed`; damaged like an upload."""
        self.upload(key, [bytes(data)], size_bytes=len(data), digest=digest)

    def upload(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        size_bytes: int,
        digest: str | None,
        on_progress: Progress | None = None,
    ) -> None:
        """See `ObjectStore.upload`; what the store damages is damaged after its digest was checked."""
        del size_bytes, digest, on_progress
        self._before("upload", key)
        data = b"".join(chunks)
        if self.next_upload_shorter:
            data, self.next_upload_shorter = data[:-1], False
        if self.next_upload_turned:
            data, self.next_upload_turned = bytes([data[0] ^ 1]) + data[1:], False
        super().put(key, data)
        self._after("upload", key)

    def download(self, key: str, *, size_bytes: int, on_progress: Progress | None = None) -> Iterator[bytes]:
        """See `ObjectStore.download`."""
        self._before("download", key)
        now_s = self._world.loop.now_s
        self.faults.truncate_bytes = 1 if now_s < self.truncates_until_s else 0
        self.faults.corrupt = now_s < self.corrupts_until_s
        yield from super().download(key, size_bytes=size_bytes, on_progress=on_progress)

    def delete(self, key: str) -> bool:
        """See `ObjectStore.delete`."""
        self._before("delete", key)
        gone = super().delete(key)
        self._after("delete", key)
        return gone

    def _read(self, key: str) -> bytes:
        data = super()._read(key)
        self._answer()
        return data

    def _answer(self) -> None:
        """Get the store's answer, unless the way back is cut."""
        if self._world.is_cut(STORE, self._world.actor.name):
            raise self._away()

    def _before(self, verb: str, key: str) -> None:
        self._world.point(Place.STORE, f"{self._world.actor.name} {verb} {_short(key)}", waits=True)

    def _after(self, verb: str, key: str) -> None:
        self._world.rules.store_changed()
        self._world.point(Place.STORE, f"{self._world.actor.name} {verb} {_short(key)}: done", waits=True)
        self._answer()

    def _check(self, key: str = "all") -> None:
        check_key(key)
        if self.away_until_s > self._world.loop.now_s or self._world.is_cut(self._world.actor.name, STORE):
            raise Unavailable("the store does not answer", code="store_unavailable")


def _short(key: str) -> str:
    """A key without what is there by chance: no two runs have packs of the same name."""
    directory, _, name = key.rpartition("/")
    if directory == "blobs/sha256":
        return key[-8:]
    return directory if len(name) == 64 else key
