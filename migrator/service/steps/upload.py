"""Upload the parts of a checkpoint, then seal it: blobs first, index last."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

from migrator.containerd import ContainerdClient, Resource, compress_layer, index_annotations
from migrator.containerd.mediatypes import INDEX, UNCOMPRESSED
from migrator.errors import NotFound, ResourceBusy
from migrator.models.descriptors import Descriptor
from migrator.models.hooks import HOOKS, RAN_BEFORE
from migrator.models.roles import ROLE_ANNOTATION, Role
from migrator.models.values import Facts
from migrator.service.catalogue import SOURCE_GONE, last_copy
from migrator.service.host import Act, Host, HostStep
from migrator.service.preflight.traits import read_cpu_flags
from migrator.service.steps.chunked import PACK_INDEXES, PARALLEL_BLOBS, Sent, send_chunked, travels_chunked
from migrator.service.steps.dump import describe_images
from migrator.service.steps.restarting import allow_restarts
from migrator.service.steps.sources import Progress, read_source
from migrator.service.steps.work import image_directory, store_of
from migrator.storage.chunks import part_of
from migrator.storage.oci import FactAnnotation, with_role
from migrator.storage.own import OwnContent

CONTENT = "content"
"""The type of a blob that a lease holds (containerd's leases API, Resource)."""
TRIES = 4
"""Another job, or a prune, may take out of the store what is shared while we rely on it: it is sent again."""


class Upload(HostStep):
    """Send what the store lacks and write the index."""

    name = "upload"

    def run(self, host: Host, act: Act) -> Facts:
        """Return the index's digest, the bytes really sent and the size of the whole checkpoint.

        Raises:
            Unavailable: `store_unavailable`, the store does not answer.
            ResourceBusy: `blob_missing`, what it shares with other checkpoints is being removed.
        """
        workload_id, checkpoint_id, sent_bytes = act.command.workload_id, str(act.command.checkpoint_id), 0
        for tries_left in reversed(range(TRIES)):
            sent = (send_chunked if travels_chunked(act) else _send_whole)(host, act)
            sent_bytes += sent.added_bytes
            index = _index(host, act, sent.parts)
            act.check_aborted()
            try:
                digest = store_of(host, act).seal(
                    workload_id,
                    checkpoint_id,
                    index,
                    packs=sent.packs,
                    own=sent.pack_indexes,
                    sent_just_now=True,
                )
                break
            except ResourceBusy as error:
                host.checkpoints.chunks.forget(act.command.job_id)  # it may rely on what is being removed
                if error.code != "blob_missing" or not tries_left:
                    raise
        host.checkpoints.chunks.forget(act.command.job_id)  # it writes no more
        return {
            "index_digest": digest,
            "uploaded_bytes": sent_bytes,
            "stored_bytes": sent_bytes + len(index),
            "checkpoint_bytes": sum(part_of(part).size_bytes for part in sent.parts) + int(act.facts["image_bytes"]),
            PACK_INDEXES: list(sent.pack_indexes),
        }

    def undo(self, host: Host, act: Act) -> Facts:
        """Take the checkpoint out of the store again, sealed or half-way.

        A sealed one stays if its program is no more: it is the last copy, and the job's end tells of it.
        """
        workload_id, checkpoint_id = act.command.workload_id, str(act.command.checkpoint_id)
        if act.facts.get(SOURCE_GONE):
            job_id, image_bytes = act.command.job_id, int(act.facts["image_bytes"])
            kept = last_copy(host.checkpoints, job_id, workload_id, checkpoint_id, image_bytes)
            if kept is not None:
                return kept
            allow_restarts(host.runtime(act.request.namespace), str(act.request.container))
        parts = _parts_of(host, act)
        OwnContent(host.checkpoints, act.command.job_id).withdraw(workload_id, checkpoint_id, parts)
        return {}


def _parts_of(host: Host, act: Act) -> list[Descriptor]:
    """What an upload may have sent, whole or compressed.

    Where the answer of the dump, which is in the same message, was lost, nobody knows but the job's lease and images.
    """
    runtime = host.runtime(act.request.namespace)
    if "parts" not in act.facts:
        images, held = image_directory(host, act), tuple[Resource, ...]()
        with suppress(NotFound):
            held = runtime.leases.list_resources(act.lease_id)
        memory = [] if travels_chunked(act) or not images.is_dir() else [describe_images(images)]
        return [*memory, *(Descriptor("", resource.id, 0) for resource in held if resource.type == CONTENT)]
    parts = [Descriptor.from_oci(part) for part in act.facts["parts"]]
    return parts + [packed for part in parts for packed in _packed_forms(runtime, part)]


def _packed_forms(runtime: ContainerdClient, part: Descriptor) -> list[Descriptor]:
    """The compressed forms of a part that the content store still has."""
    found = runtime.content.list(f'labels."{UNCOMPRESSED}"=={part.digest}')
    return [replace(part, digest=info.digest, size_bytes=info.size_bytes) for info in found]


def _send_whole(host: Host, act: Act) -> Sent:
    """Send the parts as they are: every tool can read such a checkpoint."""
    runtime = host.runtime(act.request.namespace).with_lease(act.lease_id)
    parts = [_packed(runtime, Descriptor.from_oci(part)) for part in act.facts["parts"]]
    store, progress = store_of(host, act), Progress(act, sum(part.size_bytes for part in parts))

    def send(part: Descriptor) -> int:
        chunks = read_source(host, act, part)
        return store.put_blob(part.digest, part.size_bytes, chunks, on_progress=progress.add)

    with ThreadPoolExecutor(PARALLEL_BLOBS) as pool:
        sent_bytes = sum(pool.map(send, sorted(parts, key=lambda part: -part.size_bytes)))
    return Sent(parts, sent_bytes, frozenset(), ())


def _packed(runtime: ContainerdClient, part: Descriptor) -> Descriptor:
    """Changed files are compressed where nobody waits for it: `ctr container restore --rw` knows them by gzip alone."""
    return compress_layer(runtime, part) if part.annotations.get(ROLE_ANNOTATION) == Role.RW_DIFF else part


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
    if act.request.schedule:
        facts[FactAnnotation.SCHEDULE] = act.request.schedule
    known = index_annotations(host.runtime(act.request.namespace).containers.get(str(act.request.container)))
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [part.to_oci() for part in (*parts, image)],
        "annotations": {**known, **{name.value: value for name, value in facts.items()}},
    }
    return json.dumps(index, sort_keys=True).encode()
