"""Bring a sealed checkpoint to the target: every digest verified, imported under the job's lease, files applied."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from migrator.containerd import ContainerdClient
from migrator.criu.images import unpack_images
from migrator.criu.layers import CannotLayer, unpack_layer
from migrator.errors import Cancelled, IntegrityError
from migrator.models.descriptors import Descriptor, digest_bytes
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.models.streams import read_stdio
from migrator.models.values import Facts
from migrator.models.volumes import Volume, VolumePolicy, made_on_target
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.arrival import restored_snapshot_key
from migrator.service.steps.ahead import AHEAD, CountedPieces, layer_below
from migrator.service.steps.chunked import written_before
from migrator.service.steps.image import drop_snapshot, ensure_lease
from migrator.service.steps.streams import logs_of
from migrator.service.steps.volumes import make_volumes, places_of, volumes_of_job
from migrator.service.steps.work import (
    new_image_directory,
    note_fetched,
    read_fetched,
    remove_work_directory,
)
from migrator.storage.chunks import is_chunked, part_of
from migrator.storage.oci import CheckpointIndex, FactAnnotation, parse_index

IMPORTED = (Role.CONTAINER, Role.RW_DIFF)
"""What goes into the content store, changed files last. CRIU's images go into a directory, for the restore."""


INDEXES_KEPT = 16
LOGS_STAY = (JobKind.DRILL, JobKind.REWIND)
"""What a drill says nobody wants to know; the log of what is rewound is here, and goes on."""


class Fetch(HostStep):
    """Import the parts and put the changed files into the container's snapshot."""

    name = "fetch"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the bytes fetched; a late copy of the command finds it done.

        Raises:
            IntegrityError: A blob is not what its digest says, or the index is not the one that was sealed.
        """
        if (fetched_bytes := read_fetched(host, act)) is not None:
            return {"downloaded_bytes": fetched_bytes}
        runtime = host.runtime(act.request.namespace)
        ensure_lease(runtime, act.lease_id)
        leased = runtime.with_lease(act.lease_id)
        index = _FETCHED.keep(sealed_index(host, act))
        logs = () if act.request.kind in LOGS_STAY else _logs(index)
        fetching = _Fetching(host, act, [index.part(role) for role in (*IMPORTED, Role.MEMORY, *_copied(act, logs))])
        with ThreadPoolExecutor(2 + len(IMPORTED)) as beside, fetching.or_stop():
            work = [
                beside.submit(fetching.into_directory, index.part(Role.MEMORY)),
                beside.submit(make_volumes, host, act, logs, lambda role: fetching.chunks(index.part(role))),
                *(beside.submit(fetching.into_content, leased, index.part(role)) for role in IMPORTED),
            ]
            work[-1].result()  # the changed files
            _apply(leased, part_of(index.part(Role.RW_DIFF)), act)
            for done in work:
                done.result()
        note_fetched(host, act, fetching.fetched_bytes)
        return {"downloaded_bytes": fetching.fetched_bytes}

    def undo(self, host: Host, act: Act) -> Facts:
        """Drop CRIU's files, the volumes and the snapshot that may hold half of the files.

        The lease goes with `prepare`.
        """
        places_of(host, act).take_back()
        remove_work_directory(host, act)
        drop_snapshot(host.runtime(act.request.namespace), act)
        return {}


class _Fetching:
    """Parts on their way to this host, with one count of bytes."""

    def __init__(self, host: Host, act: Act, parts: list[Descriptor]):
        self._host = host
        self._act = act
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.total_bytes = sum(part_of(part).size_bytes for part in parts)
        self._known_bytes = 0

    @property
    def fetched_bytes(self) -> int:
        """What really came: all but what was here already."""
        return self.total_bytes - self._known_bytes

    @contextmanager
    def or_stop(self) -> Iterator[None]:
        """Let all others stop when one fails: a frozen source waits."""
        try:
            yield
        except BaseException:
            self._stopped.set()
            raise

    def into_content(self, runtime: ContainerdClient, part: Descriptor) -> None:
        """Import a part into the content store."""
        whole = part_of(part)
        runtime.content.write(
            f"{self._act.lease_id}-{whole.digest}",
            self.chunks(part),
            size_bytes=whole.size_bytes,
            digest=whole.digest,
        )

    def into_directory(self, part: Descriptor) -> None:
        """Unpack CRIU's images; they are used only if all of their bytes were what the digest says."""
        directory = new_image_directory(self._host, self._act, part_of(part).size_bytes)
        try:
            if not self._over_what_came_ahead(part, directory):
                unpack_images(self.chunks(part), directory)
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise

    def _over_what_came_ahead(self, part: Descriptor, directory: Path) -> bool:
        """Fetch only what the target has not yet, if something came ahead of the freeze; False if nothing was done."""
        below = layer_below(self._host, self._act, len(self._act.facts.get(AHEAD, ())) + 1)
        if below is None or not is_chunked(part):
            return False
        store = self._host.checkpoints
        store.chunks.learn(written_before(self._act))
        recipe = store.read_recipe(part)
        pieces = store.read_unless_known(recipe, below.places, below.groups, on_progress=self._count)
        counted = CountedPieces(pieces)
        try:
            unpack_layer(counted, directory, below)
        except CannotLayer:
            shutil.rmtree(directory)
            return False
        self._known_bytes = counted.known_bytes
        return True

    def chunks(self, part: Descriptor) -> Iterator[bytes]:
        """A part's bytes; the last of them come only when all were what the digest says."""
        return self._host.checkpoints.read_part(part, on_progress=self._count)

    def _count(self, size_bytes: int) -> None:
        if self._stopped.is_set():
            raise Cancelled(f"job {self._act.command.job_id} does not want it any more")
        with self._lock:
            self._done_bytes += size_bytes
            done_bytes = self._done_bytes
        self._act.progress(done_bytes, self.total_bytes)


def _logs(index: CheckpointIndex) -> tuple[Volume, ...]:
    """The logs that the checkpoint holds."""
    known = logs_of(read_stdio(index.told(FactAnnotation.STDIO)))
    return tuple(log for log in known if index.has(log.role))


def _copied(act: Act, logs: tuple[Volume, ...]) -> list[str]:
    """The roles of the volumes and logs that travel."""
    wanted = (*made_on_target(volumes_of_job(act.facts)), *logs)
    return [volume.role for volume in wanted if volume.policy is VolumePolicy.COPY]


def sealed_index(host: Host, act: Act) -> CheckpointIndex:
    """Read the checkpoint's index and hold it against the digest that was sealed.

    Raises:
        IntegrityError: `index_changed`, the store holds another index than the one that was sealed.
    """
    command = act.command
    data = host.checkpoints.read_index_bytes(str(act.facts["checkpoint_workload"]), str(command.checkpoint_id))
    if digest_bytes(data) != act.facts["index_digest"]:
        raise IntegrityError(
            f"the index of checkpoint {command.checkpoint_id} is not the one that was sealed",
            code="index_changed",
            remedy="somebody changed the object store; take a new checkpoint",
        )
    return parse_index(data)


def fetched_index(host: Host, act: Act) -> CheckpointIndex:
    """The index that was sealed, from memory if this process has fetched the checkpoint: a program waits for it."""
    return _FETCHED.of(str(act.facts["index_digest"])) or sealed_index(host, act)


class _Fetched:
    """The indexes that were fetched last, each held against its digest. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: dict[str, CheckpointIndex] = {}

    def keep(self, index: CheckpointIndex) -> CheckpointIndex:
        with self._lock:
            self._indexes[index.digest] = index
            while len(self._indexes) > INDEXES_KEPT:
                del self._indexes[next(iter(self._indexes))]
        return index

    def of(self, digest: str) -> CheckpointIndex | None:
        with self._lock:
            return self._indexes.get(digest)


_FETCHED = _Fetched()


def _apply(runtime: ContainerdClient, diff: Descriptor, act: Act) -> None:
    snapshots = runtime.snapshots(str(act.facts["snapshot"]["snapshotter"]))
    runtime.diffs.apply(diff, snapshots.mounts(restored_snapshot_key(act)))
