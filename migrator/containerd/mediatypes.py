"""Names that are fixed on the wire: media types, type URLs, labels and annotations of containerd and OCI."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({INDEX, DOCKER_LIST})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})

CHECKPOINT_MEMORY = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
CHECKPOINT_SPEC = "application/vnd.containerd.container.checkpoint.config.v1+proto"
CHECKPOINT_OPTIONS = "application/vnd.containerd.container.checkpoint.options.v1+proto"
CHECKPOINT_RUNTIME_OPTIONS = "application/vnd.containerd.container.checkpoint.runtime.options+proto"
VOLUME = "application/vnd.migrator.volume.v1.tar"
CONTAINER_RECORD = "application/vnd.migrator.container.v1+proto"
"""Ours: the whole container record, labels and extensions included."""

SPEC_URL = "types.containerd.io/opencontainers/runtime-spec/1/Spec"
PROCESS_URL = "types.containerd.io/opencontainers/runtime-spec/1/Process"
RESOURCES_URL = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources"

IMAGE_NAME = "image.name"
REF_NAME = "org.opencontainers.image.ref.name"
RUNTIME_NAME = "io.containerd.checkpoint.runtime"
SNAPSHOTTER_NAME = "io.containerd.checkpoint.snapshotter"

CHECKPOINT_LABEL = "containerd.io/checkpoint"
GC_CONTENT = "containerd.io/gc.ref.content"
GC_SNAPSHOT = "containerd.io/gc.ref.snapshot"
GC_EXPIRE = "containerd.io/gc.expire"
UNCOMPRESSED = "containerd.io/uncompressed"
SNAPSHOT_REF = "containerd.io/snapshot.ref"
