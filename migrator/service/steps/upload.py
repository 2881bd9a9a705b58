"""Upload the parts of a checkpoint, then seal it: blobs first, index last."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from migrator.containerd import ContainerdClient, compress_layer, index_annotations
from migrator.containerd.mediatypes import INDEX, UNCOMPRESSED
from migrator.criu.images import pack_images
from migrator.errors import ResourceBusy
from migrator.models.descriptors import Descriptor
from migrator.models.hooks import HOOKS, RAN_BEFORE
from migrator.models.phase import JobKind
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.models.streams import OUTPUTS
from migrator.models.values import Facts
from migrator.models.volumes import VOLUME_ROLE
from migrator.service.catalogue import SOURCE_GONE, last_copy
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.traits import read_cpu_flags
from migrator.service.steps.restarting import allow_restarts
from migrator.service.steps.volumes import volume_file
from migrator.service.steps.work import image_directory
from migrator.storage.oci import FactAnnotation, with_role

PARALLEL_BLOBS = 3
PIECE_BYTES = 1 << 20
SENDS_AGAIN = 3
WORTH_WAITING_BYTES = 1 << 20
"""Up to here a frozen container may wait for the compression of its changed files: some milliseconds."""


class Upload(HostStep):
    """Send what the store lacks and write the index."""

    name = "upload"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the index's digest, the bytes really sent and the size of the whole checkpoint.

        Raises:
            Unavailable: `store_unavailable`, the store does not answer.
        """
        runtime = host.runtime(act.request.namespace).with_lease(act.lease_id)
        parts = [_portable(runtime, Descriptor.from_oci(part), act) for part in act.facts["parts"]]
        index, sent_bytes = _index(host, act, parts), _send(host, act, parts)
        act.check_aborted()
        digest, more_bytes = _seal(host, act, parts, index)
        sent_bytes += more_bytes
        size_bytes = sum(part.size_bytes for part in parts) + int(act.facts["image_bytes"])
        return {"index_digest": digest, "uploaded_bytes": sent_bytes, "checkpoint_bytes": size_bytes}

    def undo(self, host: Host, act: Act) -> Facts:
        """Take the checkpoint out of the store again, sealed or half-way.

        A sealed one stays if its program is no more: it is the last copy, and the job's end tells of it.
        """
        workload_id, checkpoint_id = act.command.workload_id, str(act.command.checkpoint_id)
        if act.facts.get(SOURCE_GONE):
            kept = last_copy(host.checkpoints, workload_id, checkpoint_id, int(act.facts["image_bytes"]))
            if kept is not None:
                return kept
            allow_restarts(host.runtime(act.request.namespace), str(act.request.container))
        parts = [Descriptor.from_oci(part) for part in act.facts.get("parts", [])]
        parts += [packed for part in parts for packed in _packed_forms(host.runtime(act.request.namespace), part)]
        host.checkpoints.withdraw(workload_id, checkpoint_id, parts)
        return {}


class _Progress:
    """Adds up what several uploads say."""

    def __init__(self, act: Act, total_bytes: int):
        self._act = act
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._lock = threading.Lock()

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self._done_bytes += size_bytes
            done_bytes = self._done_bytes
        self._act.progress(done_bytes, self._total_bytes)


def _portable(runtime: ContainerdClient, part: Descriptor, act: Act) -> Descriptor:
    """Compress the changed files where nobody waits for it: `ctr container restore --rw` knows them by gzip alone."""
    waits = act.request.kind is JobKind.MIGRATION and part.size_bytes > WORTH_WAITING_BYTES
    if part.annotations.get(ROLE_ANNOTATION) != Role.RW_DIFF or waits:
        return part
    return compress_layer(runtime, part)


def _packed_forms(runtime: ContainerdClient, part: Descriptor) -> list[Descriptor]:
    """The compressed forms of a part that the content store still has."""
    found = runtime.content.list(f'labels."{UNCOMPRESSED}"=={part.digest}')
    return [replace(part, digest=info.digest, size_bytes=info.size_bytes) for info in found]


def _send(host: Host, act: Act, parts: list[Descriptor]) -> int:
    runtime = host.runtime(act.request.namespace)
    progress = _Progress(act, sum(part.size_bytes for part in parts))

    def read(part: Descriptor) -> Iterator[bytes]:
        role = part.annotations.get(ROLE_ANNOTATION, "")
        if role == Role.MEMORY:
            return pack_images(image_directory(host, act))
        if role.startswith(VOLUME_ROLE) or role in OUTPUTS:
            return _file_chunks(volume_file(host, act, role))
        return runtime.content.read(part.digest)

    def send(part: Descriptor) -> int:
        return host.checkpoints.put_blob(part.digest, part.size_bytes, read(part), on_progress=progress.add)

    with ThreadPoolExecutor(PARALLEL_BLOBS) as pool:
        return sum(pool.map(send, sorted(parts, key=lambda part: -part.size_bytes)))


def _seal(host: Host, act: Act, parts: list[Descriptor], index: bytes) -> tuple[str, int]:
    """Seal; send again what another job, which shared it, has taken out of the store since we found it there.

    Returns:
        The digest of the index, and the bytes sent again.

    Raises:
        ResourceBusy: `blob_missing`, again and again.
    """
    workload_id, checkpoint_id, sent_bytes = act.command.workload_id, str(act.command.checkpoint_id), 0
    for _ in range(SENDS_AGAIN):
        try:
            return host.checkpoints.seal(workload_id, checkpoint_id, index), sent_bytes
        except ResourceBusy as error:
            if error.code != "blob_missing":
                raise
        act.check_aborted()
        sent_bytes += _send(host, act, parts)
    return host.checkpoints.seal(workload_id, checkpoint_id, index), sent_bytes


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")


def _index(host: Host, act: Act, parts: list[Descriptor]) -> bytes:
    """Compose the OCI index: the parts by role, the base image, and what a reader wants to know about its origin."""
    command, kernel = act.command, os.uname()
    image = with_role(Descriptor.from_oci(act.facts["image"]["manifest"]), Role.IMAGE)
    facts = {
        FactAnnotation.HOST: host.name,
        FactAnnotation.KERNEL: kernel.release,
        FactAnnotation.ARCHITECTURE: kernel.machine,
        FactAnnotation.CPU_FLAGS: read_cpu_flags(),
        FactAnnotation.CONTAINERD: str(act.facts["source_containerd"]),
        FactAnnotation.CRIU: str(act.facts["source_criu"]),
        FactAnnotation.WORKLOAD: command.workload_id,
        FactAnnotation.EPOCH: str(command.epoch),
        FactAnnotation.NAMESPACE: act.request.namespace,
        FactAnnotation.CONTAINER: str(act.request.container),
        FactAnnotation.JOB: command.job_id,
        FactAnnotation.CREATED: str(act.facts["claimed_at"]),
        FactAnnotation.STDIO: json.dumps(act.facts["stdio"], sort_keys=True),
        FactAnnotation.NETWORK: json.dumps(act.facts.get("network"), sort_keys=True),
        FactAnnotation.SNAPSHOT: json.dumps(act.facts["snapshot"], sort_keys=True),
        FactAnnotation.CRIU_OPTIONS: json.dumps(act.facts.get("criu_options", {}), sort_keys=True),
        FactAnnotation.VOLUMES: json.dumps(act.facts.get("volumes", []), sort_keys=True),
    }
    if act.facts.get(
        RAN_BEFORE
    ):  # what is restored from it has prepared for a freeze, and must be told that it is over
        facts[FactAnnotation.HOOKS] = json.dumps(act.facts[HOOKS], sort_keys=True)
    known = index_annotations(host.runtime(act.request.namespace).containers.get(str(act.request.container)))
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [part.to_oci() for part in (*parts, image)],
        "annotations": {**known, **{name.value: value for name, value in facts.items()}},
    }
    return json.dumps(index, sort_keys=True).encode()
