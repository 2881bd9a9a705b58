"""What is inside of a real checkpoint, and how two of one program differ."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from google.protobuf.any_pb2 import Any

from migrator.api.inspection import contents_message
from migrator.criu.processes import read_processes
from migrator.errors import Cancelled, IntegrityError
from migrator.models.contents import Contents, FileChange, OpenFile, Process, ProcessState, Thread
from migrator.service.comparing import compare
from migrator.service.contents import Opened
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from tests.unit.inspection.real import HeldImages, RealCheckpoint

PAGE = 4096


def nothing() -> None:
    """Somebody waits."""


def opened(checkpoint: RealCheckpoint, check: Callable[[], None] = nothing) -> Opened:
    store = CheckpointStore(MemoryStore())
    return Opened(store, checkpoint.upload(store), check)


@pytest.fixture(scope="module")
def contents() -> Contents:
    return opened(RealCheckpoint()).contents()


@pytest.fixture
def first(contents: Contents) -> Process:
    return contents.processes[0]


def test_the_tree_of_processes(contents: Contents) -> None:
    tree = [(process.pid, process.parent, process.session, process.name) for process in contents.processes]
    assert tree == [(1, 0, 1, "python3"), (6, 1, 1, "python3"), (7, 6, 7, "python3")]
    assert {process.program for process in contents.processes} == {"/usr/bin/python3.14"}
    assert {process.state for process in contents.processes} == {ProcessState.ALIVE}


def test_threads_have_their_names(first: Process) -> None:
    assert first.threads == (Thread(1, "python3"), Thread(8, "Thread-1 (forev"), Thread(9, "Thread-2 (forev"))


def test_open_files_and_sockets(first: Process) -> None:
    files = {file.descriptor: file for file in first.files}
    assert files[0].kind == "pipe"
    assert files[3] == OpenFile(3, "tcp", "127.0.0.1:8080", "listening")
    assert files[4] == OpenFile(4, "unix", "stream /run/app.sock", "listening")
    assert files[5] == OpenFile(5, "udp", "127.0.0.1:5353", "unconnected")
    assert files[10] == OpenFile(10, "file", "/state/log")
    assert (files[11].state, files[11].name.split(" → ")[1]) == ("established", "127.0.0.1:8080")
    assert files[8].name == files[9].name, "both ends of a pipe have its number"
    assert sum(file.is_socket for file in first.files) == 7


def test_the_map_of_memory_adds_up(contents: Contents, first: Process) -> None:
    assert sum(item.stored_bytes for item in first.memory) == first.stored_bytes == 10752000
    assert contents.memory_bytes == sum(process.stored_bytes for process in contents.processes)
    assert contents.shared_bytes == 0
    kinds = {item.kind for item in first.memory}
    assert {"heap", "stack", "file", "anonymous", "vdso", "guard"} <= kinds
    program = [item for item in first.memory if item.name == "/usr/bin/python3.14"]
    assert [item.access for item in program][:2] == ["r--p", "r-xp"]
    starts = [item.start for item in first.memory]
    assert starts == sorted(starts)


def test_limits_of_process_and_container(contents: Contents, first: Process) -> None:
    assert first.limits["nofile"] == "1024"
    assert first.limits["stack"] == "8388608:unlimited"
    assert contents.limits["memory.limit"] == "104857600"


def test_mounts(contents: Contents) -> None:
    mounts = {mount.destination: mount for mount in contents.mounts}
    assert mounts["/"].filesystem == "overlay"
    assert mounts["/sys"].read_only
    assert not mounts["/run"].read_only


def test_changed_files(contents: Contents) -> None:
    changed = {file.path: (file.change, file.size_bytes) for file in contents.files}
    assert changed == {"/etc/motd.new": (FileChange.WRITTEN, 600), "/state/log": (FileChange.WRITTEN, 287)}


def test_nothing_secret_is_told(contents: Contents) -> None:
    """Arguments and environment are in the spec and in memory; neither is part of what is shown."""
    checkpoint = RealCheckpoint()
    assert b"srv.listen" in checkpoint.spec
    told = repr(contents)
    assert "srv.listen" not in told
    assert "PATH=" not in told


def test_pages_are_not_read_for_the_tree() -> None:
    read: list[str] = []

    class Watched(MemoryStore):
        def get_range(self, key: str, offset: int, length: int) -> bytes:
            read.append(f"{offset}+{length}")
            return super().get_range(key, offset, length)

    store = CheckpointStore(Watched())
    checkpoint = RealCheckpoint()
    index = checkpoint.upload(store)
    Opened(store, index, nothing).contents()
    read_bytes, all_bytes = sum(int(item.split("+")[1]) for item in read), len(checkpoint.memory)
    assert read_bytes < 3_000_000 < 29_000_000 < all_bytes


def test_two_checkpoints_differ() -> None:
    before, after = RealCheckpoint("first"), RealCheckpoint("second")
    after.touch(1, 7, b"x" * PAGE * 2)
    after.touch(6, 0, b"y")
    found = compare(opened(before), opened(after), same_workload=True, with_pages=True, check=nothing)
    assert (found.started, found.ended, found.processes, found.sockets, found.limits) == ((), (), (), (), ())
    (file,) = found.files
    assert file.path == "/state/log"
    assert file.before is not None
    assert file.after is not None
    assert (file.before.size_bytes, file.after.size_bytes) == (287, 695)
    assert [(item.pid, item.changed_bytes, item.added_bytes, item.removed_bytes) for item in found.memory] == [
        (1, 2 * PAGE, 0, 0), (6, PAGE, 0, 0), (7, 0, 0, 0),
    ]  # fmt: skip
    assert found.memory[0].fresh_share == pytest.approx(2 * PAGE / 10752000)


def test_without_pages_contents_are_unknown() -> None:
    before, after = RealCheckpoint("first"), RealCheckpoint("second")
    found = compare(opened(before), opened(after), same_workload=True, with_pages=False, check=nothing)
    assert {item.changed_bytes for item in found.memory} == {None}
    assert {item.fresh_share for item in found.memory} == {None}


def test_a_process_that_ended_and_a_limit_that_changed() -> None:
    before, after = RealCheckpoint(), RealCheckpoint()
    spec = Any.FromString(after.spec)
    document = json.loads(spec.value)
    document["linux"]["resources"]["memory"]["limit"] = 1
    after.spec = Any(type_url=spec.type_url, value=json.dumps(document).encode()).SerializeToString()
    after.images["pstree.img"] = after.images["pstree.img"][:-14]  # the last entry
    found = compare(opened(before), opened(after), same_workload=True, with_pages=True, check=nothing)
    assert [process.pid for process in found.ended] == [7]
    assert [(item.name, item.before, item.after) for item in found.limits] == [("memory.limit", "104857600", "1")]
    gone = found.memory[2]
    assert (gone.pid, gone.after_bytes, gone.removed_bytes) == (7, 0, 9134080)
    assert found.sockets, "the child's copies of the sockets are fewer"


def test_a_question_that_nobody_waits_for_ends() -> None:
    def leave() -> None:
        raise Cancelled("gone")

    with pytest.raises(Cancelled):
        compare(opened(RealCheckpoint()), opened(RealCheckpoint()), same_workload=True, with_pages=True, check=leave)


@pytest.mark.parametrize(
    ("image", "data", "why"),
    [
        ("pstree.img", b"", "mark"),
        ("pstree.img", b"\x19CVT00'P\xff\xff\xff\x7f", "claims 2147483647 bytes"),
        ("core-6.img", b"\x19CVTG8\x05U", "no entry"),
        ("mm-1.img", b"\x19CVT (IW\x04\x00\x00\x00\xff\xff\xff\xff", "not what belongs there"),
        ("pagemap-1.img", b"\x19CVT%@\x08V", "where its pages are"),
        ("pages-1.img", bytes(4096), "more pages than pages-1.img"),
    ],
)  # fmt: skip
def test_a_malformed_image_is_named(image: str, data: bytes, why: str) -> None:
    images = HeldImages({**RealCheckpoint().images, image: data})
    with pytest.raises(IntegrityError, match=why) as caught:
        read_processes(images)
    assert caught.value.code == "bad_images"
    assert image.split("-")[0].removesuffix(".img") in str(caught.value)


@pytest.mark.parametrize("image", ["pstree.img", "core-9.img", "pagemap-7.img", "pages-2.img"])
def test_a_missing_image_is_named(image: str) -> None:
    images = HeldImages(RealCheckpoint().images)
    del images.held[image]
    with pytest.raises(IntegrityError, match=image) as caught:
        read_processes(images)
    assert caught.value.code == "bad_images"


def test_processes_that_are_each_others_parents_are_refused() -> None:
    images = HeldImages(RealCheckpoint().images)
    circle = b"\x08\x01\x10\x02", b"\x08\x02\x10\x01"
    entries = b"".join(b"\x04\x00\x00\x00" + entry for entry in circle)
    images.held["pstree.img"] = images.held["pstree.img"][:8] + entries
    with pytest.raises(IntegrityError, match="each other's parents"):
        read_processes(images)


def test_a_value_that_no_message_holds_stays_whole() -> None:
    huge = Process(2**32 - 1, 2**32 - 1, 0, 0, "x", ProcessState.ALIVE, uid=2**32 - 1, stored_bytes=2**63 - 1)
    message = contents_message(Contents((huge,), (), (), {}, 2**63 - 1))
    assert message.processes[0].pid == message.processes[0].uid == 2**32 - 1
