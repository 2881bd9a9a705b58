"""Every parser that reads from the object store, with a real sample of what it reads.

A target is told bytes and may do one of two things: succeed, or say that they are not what they should be.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from hypothesis import strategies as st

from migrator.containerd.parts import read_record
from migrator.containerd.specs import read_limits
from migrator.criu.images import FILES_LIMIT, unpack_images
from migrator.criu.layers import CannotLayer, unpack_layer
from migrator.criu.lazy.images import read_spans
from migrator.criu.memory_changes import compare_pages
from migrator.criu.memory_map import read_pages
from migrator.criu.mount_points import read_mounts
from migrator.criu.processes import read_processes
from migrator.errors import IntegrityError, MigratorError, NotFound
from migrator.gen.containerd.services.containers.v1 import containers_pb2
from migrator.models.contents import Contents
from migrator.models.descriptors import Descriptor
from migrator.models.streams import log_files, read_stdio
from migrator.models.values import TcpPolicy
from migrator.models.volumes import read_volumes
from migrator.service.network.attachment import read_attachment
from migrator.service.network.packets import pack_packets, read_packets
from migrator.service.records import judge_record, without_foreign
from migrator.service.steps.criu_options import replayed_options
from migrator.service.volumes.archive import unpack_volume
from migrator.storage import layout, oci
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.chunks.coding import PlainCoding
from migrator.storage.chunks.format import (
    ListedChunk,
    Pack,
    StoredChunk,
    pack_head,
    pack_tail,
    read_list,
    read_pack_directory,
    read_pack_index,
    write_list,
    write_pack_index,
)
from migrator.storage.chunks.recipes import ChunkList, Recipe, parse_recipe, part_of
from migrator.storage.layers import list_layer
from migrator.storage.memory import MemoryStore
from migrator.storage.pins import Pins, pin_key
from migrator.storage.tars import TarFiles
from tests.fuzz import targets_of_stores
from tests.fuzz.mutation import mutated, mutated_document
from tests.fuzz.target import Read, Target
from tests.unit.inspection.real import HeldImages, RealCheckpoint
from tests.unit.service.test_packets import PEERS, packet_of
from tests.unit.storage.samples import Sample

REAL = RealCheckpoint()
IMAGES = {name: data for name, data in REAL.images.items() if not name.startswith("pages-")}
SMALL = {name: IMAGES[name] for name in ("core-8.img", "fs-1.img", "pstree.img", "timens-0.img")}
NAMES = ("pstree.img", "core-1.img", "core-8.img", "mm-7.img", "pagemap-7.img", "fdinfo-2.img", "files.img", "ids-6.img",
         "mountpoints-13.img")  # fmt: skip


def nothing() -> None:
    """Somebody waits for the answer."""


class Pages(HeldImages):
    """Real images, one of them changed, and pages that say how long they are and hold nothing."""

    def size_of(self, name: str) -> int:
        return 10752000 if name.startswith("pages-") else super().size_of(name)

    def read_at(self, name: str, offset: int, length: int) -> bytes:
        if name.startswith("pages-"):
            if offset + length > self.size_of(name):
                raise IntegrityError(f"{name} ends before", code="bad_images")
            return bytes(length)
        return super().read_at(name, offset, length)


def _read_image(name: str) -> Read:
    def read(data: bytes, _: Path) -> object:
        images = Pages({**IMAGES, name: data})
        contents = Contents(read_processes(images), read_mounts(images), (), {}, 0)
        from migrator.api.inspection import contents_message

        return contents_message(contents).SerializeToString()

    return read


def _compare(data: bytes, _: Path) -> object:
    before, after = Pages({**IMAGES, "pagemap-7.img": data}), Pages(dict(IMAGES))
    pages = read_pages(before, "pagemap-7.img"), read_pages(after, "pagemap-7.img")
    return compare_pages((before, pages[0]), (after, pages[1]), nothing)


def _judge_record(data: bytes, _: Path) -> object:
    record = read_record(data)
    return list(judge_record(record, (), "")), without_foreign(record)


def _read_index(data: bytes, _: Path) -> object:
    index = oci.parse_index(data)
    for fact in oci.FactAnnotation:
        index.annotations.get(fact)
    return [index.part(role) for role in ("memory", "rw-diff", "image")]


def _reachable(data: bytes, _: Path) -> object:
    store = CheckpointStore(MemoryStore(), parallel_looks=1)
    Sample().upload(store)
    return store.seal("w", "c", data)


def _children(media_type: str) -> Read:
    part = Descriptor(media_type, "sha256:" + "0" * 64, 1)
    return lambda data, _: oci.children(part, data)


def _of_fact(read: Callable[[object], object]) -> Read:
    """A reader of one JSON annotation of the index."""

    def parse(data: bytes, _: Path) -> object:
        text = data.decode(errors="replace")
        index = oci.CheckpointIndex("", (), {oci.FactAnnotation.SNAPSHOT: text, oci.FactAnnotation.STDIO: text})
        return read(index.told(oci.FactAnnotation.STDIO))

    return parse


def _read_snapshot(data: bytes, _: Path) -> object:
    return oci.CheckpointIndex("", (), {oci.FactAnnotation.SNAPSHOT: data.decode(errors="replace")}).snapshot()


def _unpack_layer(data: bytes, place: Path) -> object:
    """As it comes from the store: in chunks, of which the target has some already."""
    pieces = [data[start : start + 1000] for start in range(0, len(data), 1000)]
    names = [b"%32d" % number for number in range(len(pieces))]
    told = [([name], [len(piece)], {name: piece}, len(piece), None) for name, piece in zip(names, pieces, strict=True)]
    return unpack_layer(told, place / "inside", None)


def _spans(name: str) -> Read:
    """Find the pages of a lazy restore; one of the two images that tell of them is what is tried."""

    def read(data: bytes, place: Path) -> object:
        inside = place / "inside"
        inside.mkdir()
        for file in ("pagemap-7.img", "mm-7.img"):
            (inside / file).write_bytes(data if file == name else IMAGES[file])
        pages = os.open(inside / "pages", os.O_RDWR | os.O_CREAT)
        os.truncate(pages, 1 << 40)
        try:
            return read_spans(inside, 7, lambda _: pages)
        finally:
            os.close(pages)

    return read


def _layer(media_type: str) -> Read:
    return lambda data, _: list_layer(io.BytesIO(data), media_type, nothing)


def _tar(members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


LONG = "a" * 150
MEMORY = _tar(SMALL)
LAYER = _tar({"etc/motd": b"hello", "etc/.wh.hosts": b"", f"{LONG}/é": b"x" * 700, "c/.wh..wh..opq": b""})
GNU = _tar({"./a": b"hello", f"./{LONG}": b"x"}, tarfile.GNU_FORMAT)
INDEX = Sample().index
MANIFEST = next(data for data in Sample().blobs.values() if b"layers" in data)
RECORD = containers_pb2.Container(
    id="web", image="web:1", snapshotter="overlayfs", snapshot_key="web", labels={"a": "b"},
    runtime=containers_pb2.Container.Runtime(name="io.containerd.runc.v2"),
)  # fmt: skip
RECORD.spec.ParseFromString(REAL.spec)
VOLUMES = json.dumps(
    [{"destination": "/data", "source": "/srv/data", "policy": "copy", "kind": "directory", "mode": 488, "role": "volume-0"}]
).encode()  # fmt: skip
NETWORK = json.dumps(
    {
        "plugin": "cni", "network": "web", "container_id": "web", "interface": "eth0", "mac": "02:00:00:00:00:01",
        "addresses": ["10.0.0.2/24"], "routes": [{"destination": "0.0.0.0/0", "gateway": "10.0.0.1"}],
        "ports": [{"hostPort": 80, "containerPort": 80}],
    }
).encode()  # fmt: skip
OPTIONS = b'{"external_unix": false, "file_locks": true, "tcp": "keep"}'
STDIO = b'{"stderr": "", "stdin": "", "stdout": "file:///var/log/web", "terminal": false}'
SNAPSHOT = b'{"key": "web", "parent": "sha256:59", "snapshotter": "overlayfs"}'


ITEMS = (b"one chunk of a program's memory" * 40, b"another", bytes(3000))
CODING = PlainCoding()
STORED = [CODING.encode(item) for item in ITEMS]
CHUNKS = [
    StoredChunk(CODING.name(item), codec, len(stored), len(item))
    for item, (codec, stored) in zip(ITEMS, STORED, strict=True)
]
PACK = pack_head() + b"".join(stored for _, stored in STORED) + pack_tail(CHUNKS)
PACK_INDEX = write_pack_index([Pack(sha256(PACK).hexdigest(), len(PACK), tuple(CHUNKS))])
PACKETS = pack_packets([packet_of(*peers) for peers in PEERS])
LIST = write_list([ListedChunk(chunk.name, chunk.size_bytes) for chunk in CHUNKS])
COVERED = sum(map(len, ITEMS))
RECIPE = Recipe("application/x-tar", "sha256:" + "1" * 64, COVERED, (ChunkList(CODING.name(LIST), COVERED),)).to_bytes()
RECIPE_2 = Recipe("application/x-tar", "", COVERED, (ChunkList(CODING.name(LIST), COVERED),)).to_bytes()
BOMB = bytes.fromhex("28b52ffde0") + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
"""A frame that claims to hold a terabyte."""


def _named(read: Callable[[str, bytes], object]) -> Read:
    """A reader of what is named by its digest: whoever changes it can name it anew."""
    return lambda data, _: read(sha256(data).hexdigest(), data)


def _decode(data: bytes, _: Path) -> object:
    return CODING.decode(CHUNKS[0].name, 1, data, CHUNKS[0].size_bytes)


def _read_chunked_descriptor(data: bytes, _: Path) -> object:
    return part_of(Descriptor.from_oci(oci.parse_document(data)))


def _read_pin(data: bytes, _: Path) -> object:
    """A pin that cannot be read still holds."""
    objects = MemoryStore()
    objects.put(pin_key("ck-1"), data)
    found = Pins(objects).read("ck-1")
    assert found is not None
    return found


def _both(sample: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(mutated(sample), mutated_document(sample))


DESCRIPTOR = json.dumps(
    {
        "mediaType": "application/vnd.migrator.recipe.v1+json", "digest": "sha256:" + "2" * 64, "size": 300,
        "annotations": {
            "io.migrator.role": "memory", "io.migrator.part.media-type": "application/x-tar",
            "io.migrator.part.digest": "sha256:" + "1" * 64, "io.migrator.part.size": "4000",
        },
    }
).encode()  # fmt: skip
TARGETS = (
    Target("recipe", lambda data, _: parse_recipe(data), st.one_of(_both(RECIPE), _both(RECIPE_2))),
    Target("descriptor of a recipe", _read_chunked_descriptor, _both(DESCRIPTOR)),
    Target("packets", lambda data, _: read_packets(data), mutated(PACKETS)),
    Target("pack", _named(read_pack_directory), mutated(PACK)),
    Target("pack index", _named(read_pack_index), mutated(PACK_INDEX)),
    Target("list of chunks", lambda data, _: read_list(data), mutated(LIST)),
    Target("chunk", _decode, st.one_of(mutated(STORED[0][1]), mutated(BOMB))),
    Target("pin", _read_pin, _both(b'{"at": "2026-11-20T03:00:00+00:00", "reason": "before the upgrade"}'), ()),
    Target("index", _read_index, _both(INDEX)),
    Target("index and what it names", _reachable, _both(INDEX), (IntegrityError, NotFound, MigratorError)),
    Target("manifest", _children(oci.MANIFEST_TYPES[0]), _both(MANIFEST)),
    Target("nested index", _children(oci.INDEX_TYPES[0]), _both(INDEX)),
    Target("key of an index", lambda data, _: layout.parse_index_key(data.decode(errors="replace")),
           mutated(b"checkpoints/web-1/ck-1/index.json")),
    Target("snapshot", _read_snapshot, _both(SNAPSHOT)),
    Target("volumes", _of_fact(lambda told: read_volumes(told or [])), _both(VOLUMES)),
    Target("network", _of_fact(read_attachment), _both(NETWORK)),
    Target("options of CRIU", _of_fact(lambda told: replayed_options(told, TcpPolicy.KEEP)), _both(OPTIONS)),
    Target("stdio", _of_fact(lambda told: log_files(read_stdio(told))), _both(STDIO)),
    Target("container record", _judge_record, mutated(RECORD.SerializeToString())),
    Target("spec", lambda data, _: read_limits(data), mutated(REAL.spec)),
    Target("tar of images", lambda data, place: unpack_images([data], place / "inside"), mutated(MEMORY)),
    Target("tar of images in GNU's form", lambda data, place: unpack_images([data], place / "inside"), mutated(GNU)),
    Target("images over others", _unpack_layer, mutated(MEMORY), (IntegrityError, CannotLayer)),
    Target("list of images", lambda data, _: TarFiles(io.BytesIO(data), "it", code="bad_images", limit=FILES_LIMIT).names(),
           mutated(MEMORY)),
    Target("layer", _layer("application/vnd.oci.image.layer.v1.tar"), mutated(LAYER)),
    Target("layer in GNU's form", _layer("application/vnd.oci.image.layer.v1.tar"), mutated(GNU)),
    Target("compressed layer", _layer("application/vnd.oci.image.layer.v1.tar+gzip"), mutated(REAL.layer)),
    Target("pages that come later", _spans("pagemap-7.img"), mutated(IMAGES["pagemap-7.img"])),
    Target("mappings of pages that come later", _spans("mm-7.img"), mutated(IMAGES["mm-7.img"])),
    Target("comparison of pages", _compare, mutated(IMAGES["pagemap-7.img"])),
    *(Target(name, _read_image(name), mutated(IMAGES[name])) for name in NAMES),
    *targets_of_stores.TARGETS,
)  # fmt: skip
VOLUME = Target("volume", lambda data, place: _unpack_volume(data, place), mutated(GNU), wide=True)


def _unpack_volume(data: bytes, place: Path) -> None:
    (place / "inside").mkdir()
    unpack_volume([data], place / "inside")
