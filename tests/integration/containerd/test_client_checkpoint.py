"""Checkpoints of running programs, by CRIU, against the real daemon; and restores of them, ours and ctr's."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from google.protobuf.any_pb2 import Any

from migrator.containerd import (
    CheckpointOptions,
    Container,
    Descriptor,
    Image,
    Platform,
    ProcessState,
    RuncOptions,
    diff_snapshot,
    freeze,
    frozen,
    in_vfork,
    label_tree,
    parts,
    write_spec,
)
from migrator.containerd.mediatypes import CHECKPOINT_MEMORY, CHECKPOINT_SPEC, INDEX, LAYER_GZIP, LAYER_TAR
from migrator.errors import (
    AlreadyExists,
    IntegrityError,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    ResourceBusy,
    WorkloadFailed,
)
from migrator.gen.containerd.services.containers.v1 import containers_pb2
from migrator.models.roles import Role
from tests.integration.containerd.conftest import IMAGE

pytestmark = pytest.mark.real
RUN = "/run/migrator-dumps"


def read_index(client, checkpoint):
    return json.loads(client.content.read_all(checkpoint.index.digest))


def goes_on(workshop, task, before):
    """The program went on from the same memory: its count only grows."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline and workshop.count(task) <= before:
        time.sleep(0.1)
    return workshop.count(task) > before


def stopped(task):
    task.kill(signal.SIGKILL, all=True)
    task.wait(timeout_s=10)
    task.delete()


@pytest.fixture
def counting(workshop):
    task = workshop.task()
    while workshop.count(task) < 5:
        time.sleep(0.02)
    return task


@pytest.fixture
def checkpoint(workshop, counting, new_name):
    return counting.checkpoint(name=f"check/{new_name()}:1")


def test_a_checkpoint_is_an_image_over_an_index_with_every_part_by_role(workshop, counting, checkpoint, image):
    client = workshop.client
    kept = client.images.get(checkpoint.name)
    assert kept.labels["containerd.io/checkpoint"] == "true"
    assert kept.target.digest == checkpoint.index.digest
    assert kept.target.media_type == INDEX
    assert set(checkpoint.parts) == {
        Role.MEMORY, Role.SPEC, Role.RW_DIFF, Role.IMAGE, Role.CONTAINER, Role.RUNTIME_OPTIONS,
    }  # fmt: skip
    index = read_index(client, checkpoint)
    assert index["schemaVersion"] == 2
    assert index["annotations"]["image.name"] == IMAGE
    assert index["annotations"]["org.opencontainers.image.ref.name"] == IMAGE
    assert index["annotations"]["io.containerd.checkpoint.runtime"] == "io.containerd.runc.v2"
    assert index["annotations"]["io.containerd.checkpoint.snapshotter"] == "overlayfs"
    assert checkpoint.parts[Role.MEMORY].media_type == CHECKPOINT_MEMORY
    assert checkpoint.parts[Role.SPEC].media_type == CHECKPOINT_SPEC
    assert checkpoint.parts[Role.RW_DIFF].media_type == LAYER_GZIP
    assert checkpoint.parts[Role.IMAGE].digest == image.target.digest
    for entry in index["manifests"]:
        if entry["annotations"]["io.migrator.role"] != "image":
            assert entry["platform"] == Platform.here().to_oci()
        assert client.content.info(entry["digest"]).size_bytes == entry["size"]


def test_the_index_keeps_its_parts_from_the_collector(workshop, checkpoint):
    client = workshop.client
    labels = client.content.info(checkpoint.index.digest).labels
    entries = read_index(client, checkpoint)["manifests"]
    assert labels == {f"containerd.io/gc.ref.content.{n}": entry["digest"] for n, entry in enumerate(entries)}
    client.leases.delete(client.leases.create().id, sync=True)  # a collection, and no lease is left
    assert not [lease for lease in client.leases.list() if lease.id.startswith("migrator-")]
    for entry in entries:
        assert client.content.exists(entry["digest"])
    client.images.delete(checkpoint.name, sync=True)
    assert not client.content.exists(checkpoint.index.digest)
    assert not client.content.exists(checkpoint.parts[Role.MEMORY].digest)


def test_a_running_task_runs_on_and_a_paused_one_stays_paused(workshop, counting):
    before = workshop.count(counting)
    counting.checkpoint(name="check/running:1")
    assert counting.status().state is ProcessState.RUNNING
    assert goes_on(workshop, counting, before)
    counting.pause()
    held = workshop.count(counting)
    counting.checkpoint(name="check/paused:1")
    assert counting.status().state is ProcessState.PAUSED
    assert not goes_on(workshop, counting, held)


def test_the_default_name_is_container_and_time(counting):
    assert re.fullmatch(
        rf"containerd\.io/checkpoint/{counting.id}:\d\d-\d\d-\d{{4}}-\d\d:\d\d:\d\d", counting.checkpoint().name
    )


def test_a_name_that_is_taken_is_an_error_and_the_task_runs_on(workshop, counting, checkpoint):
    with pytest.raises(AlreadyExists) as caught:
        counting.checkpoint(name=checkpoint.name)
    assert caught.value.code == "image_already_exists"
    assert goes_on(workshop, counting, workshop.count(counting))


def test_annotations_extra_parts_and_a_parent_are_taken(workshop, counting):
    client = workshop.client
    with client.lease() as leased:
        extra = parts.with_role(leased.content.write_bytes(b"facts", media_type="text/plain"), "facts")
        done = leased.task(counting.id).checkpoint(
            name="check/extra:1", parent="sha256:" + "0" * 64, annotations={"io.migrator.epoch": "3"}, extra=[extra]
        )
    assert done.parts["facts"].digest == extra.digest
    assert read_index(client, done)["annotations"]["io.migrator.epoch"] == "3"
    assert client.content.read_all(extra.digest) == b"facts"


def test_the_record_and_its_options_are_in_their_parts(workshop, counting, checkpoint):
    client = workshop.client
    record = client.containers.get(counting.id)
    wire = containers_pb2.Container.FromString(client.content.read_all(checkpoint.parts[Role.CONTAINER].digest))
    assert Container.from_wire(wire).spec_json() == record.spec_json()
    packed = Any.FromString(client.content.read_all(checkpoint.parts[Role.RUNTIME_OPTIONS].digest))
    assert packed == record.runtime_options
    assert Any.FromString(client.content.read_all(checkpoint.parts[Role.SPEC].digest)) == record.spec


def test_our_spec_part_is_the_daemons_byte_for_byte(workshop, counting, checkpoint):
    with workshop.client.lease() as leased:
        ours = write_spec(leased, leased.containers.get(counting.id))
    assert ours.digest == checkpoint.parts[Role.SPEC].digest


def restored(workshop, checkpoint, *, kill=None, parent, **more):
    """Make a new container from a checkpoint's parts and start it from the memory part."""
    client = workshop.client
    if kill is not None:
        stopped(kill)
        client.containers.delete(kill.id)
        client.snapshots().remove(kill.id)
    wire = containers_pb2.Container.FromString(client.content.read_all(checkpoint.parts[Role.CONTAINER].digest))
    record = Container.from_wire(wire)
    with client.lease() as leased:
        mounts = leased.snapshots().prepare(record.id, parent)
        leased.diffs.apply(checkpoint.parts[Role.RW_DIFF], mounts)
        leased.containers.create(record)
    task = client.create_task(record.id, rootfs=mounts, checkpoint=checkpoint.parts[Role.MEMORY], **more)
    task.start()
    return task


def test_a_restore_goes_on_from_the_same_memory(workshop, counting, checkpoint, parent):
    reached = workshop.count(counting)
    task = restored(workshop, checkpoint, kill=counting, parent=parent)
    assert task.status().state is ProcessState.RUNNING
    time.sleep(0.1)
    first = workshop.count(task)
    assert 5 <= first <= reached + 50
    assert goes_on(workshop, task, first)


def test_ctr_restores_what_we_made(workshop, counting, checkpoint):
    host, client = workshop.host, workshop.client
    reached = workshop.count(counting)
    stopped(counting)
    client.containers.delete(counting.id)
    client.snapshots().remove(counting.id)
    done = host.exec(["ctr", "container", "restore", "--rw", "--live", counting.id, checkpoint.name])
    assert done.returncode == 0, done.stderr
    task = client.task(counting.id)
    assert task.status().state is ProcessState.RUNNING
    first = workshop.count(task)
    assert 5 <= first <= reached + 50
    assert goes_on(workshop, task, first)


def test_ctr_restores_a_container_without_runtime_options(workshop):
    task = workshop.task(runtime_options=None)
    workshop.count(task)
    done = task.checkpoint(name="check/plain:1")
    assert Role.RUNTIME_OPTIONS not in done.parts
    stopped(task)
    workshop.client.containers.delete(task.id)
    workshop.client.snapshots().remove(task.id)
    answer = workshop.host.exec(["ctr", "container", "restore", "--rw", "--live", task.id, done.name])
    assert answer.returncode == 0, answer.stderr
    again = workshop.client.task(task.id)
    assert goes_on(workshop, again, workshop.count(again))


def test_a_checkpoint_survives_export_and_import_by_ctr(workshop, counting, checkpoint):
    host, client = workshop.host, workshop.client
    done = host.exec(["ctr", "image", "export", "--skip-manifest-json", "/run/checkpoint.tar", checkpoint.name])
    assert done.returncode == 0, done.stderr
    client.images.delete(checkpoint.name, sync=True)
    assert not client.content.exists(checkpoint.index.digest)
    host.exec(["ctr", "image", "import", "/run/checkpoint.tar"])
    assert client.images.get(checkpoint.name).target.digest == checkpoint.index.digest


def test_an_uncompressed_diff_when_asked_for(workshop, counting):
    done = counting.checkpoint(name="check/tar:1", compress_rw=False)
    assert done.parts[Role.RW_DIFF].media_type == LAYER_TAR


def test_with_an_image_path_only_the_dump_is_made(workshop, counting, parent):
    client, place = workshop.client, workshop.host.root / RUN.lstrip("/")
    images, logs = f"{RUN}/{counting.id}/images", f"{RUN}/{counting.id}/logs"
    for path in (images, logs):
        (workshop.host.root / path.lstrip("/")).mkdir(parents=True)
    names = {found.name for found in client.images.list()}
    done = counting.checkpoint(options=CheckpointOptions(image_path=images, work_path=logs))
    assert (done.name, done.index, dict(done.parts)) == (None, None, {})
    assert {found.name for found in client.images.list()} == names
    assert counting.status().state is ProcessState.RUNNING
    files = {path.name for path in (place / counting.id / "images").iterdir()}
    assert "inventory.img" in files
    assert "dump.log" in {path.name for path in (place / counting.id / "logs").iterdir()}
    counting.pause()
    with client.lease() as leased:
        assert leased.task(counting.id).checkpoint_memory(CheckpointOptions(image_path=images)) == []
        layer = diff_snapshot(leased, "overlayfs", counting.id)
        assert layer.media_type == LAYER_TAR
        held = workshop.count(counting)
        stopped(counting)
        leased.snapshots().remove(counting.id)
        mounts = leased.snapshots().prepare(counting.id, parent)
        leased.diffs.apply(layer, mounts)
    options = RuncOptions(binary_name="runc", criu_image_path=images, criu_work_path=logs)
    task = client.create_task(counting.id, rootfs=mounts, options=options)
    task.start()
    assert goes_on(workshop, task, held)
    assert workshop.count(task) < held + 500


def test_exit_ends_the_task_after_the_dump(workshop, counting):
    done = counting.checkpoint(name="check/exit:1", options=CheckpointOptions(exit=True))
    assert done.parts[Role.CHECKPOINT_OPTIONS]
    assert counting.wait(timeout_s=10).code == 137
    assert counting.status().state is ProcessState.STOPPED


def test_two_checkpoints_at_once_do_not_disturb_each_other(workshop):
    tasks = [workshop.task(), workshop.task()]
    for task in tasks:
        workshop.count(task)
    done = []
    threads = [
        threading.Thread(target=lambda t=task: done.append(t.checkpoint(name=f"check/{t.id}:1"))) for task in tasks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({found.index.digest for found in done}) == 2


def test_the_task_runs_again_before_anything_is_compressed_or_indexed(workshop, counting, monkeypatch):
    seen = []

    def looking(real):
        def look(*args, **more):
            seen.append((real.__name__, counting.status().state))
            return real(*args, **more)

        return look

    for name in ("diff_snapshot", "compress_layer", "write_index"):
        monkeypatch.setattr(parts, name, looking(getattr(parts, name)))
    counting.checkpoint(name="check/early:1")
    assert seen == [
        ("diff_snapshot", ProcessState.PAUSED),
        ("compress_layer", ProcessState.RUNNING),
        ("write_index", ProcessState.RUNNING),
    ]


def test_a_container_without_image_and_snapshot_has_no_such_parts(workshop, counting):
    client = workshop.client
    record = client.containers.get(counting.id)
    bare = dataclasses.replace(record, image="", snapshot_key="")
    client.containers.update(bare, "image", "snapshotkey")
    done = counting.checkpoint(name="check/bare:1")
    client.containers.update(record, "image", "snapshotkey")
    assert not {Role.IMAGE, Role.RW_DIFF} & set(done.parts)
    assert "image.name" not in read_index(client, done)["annotations"]


def test_an_image_that_is_not_there_is_told_and_the_task_runs_on(workshop, counting):
    client = workshop.client
    record = client.containers.get(counting.id)
    client.containers.update(dataclasses.replace(record, image="nobody:1"), "image")
    with pytest.raises(NotFound) as caught:
        counting.checkpoint(name="check/nobody:1")
    assert caught.value.code == "image_not_found"
    assert not client.images.list("name==check/nobody:1")
    assert goes_on(workshop, counting, workshop.count(counting))


def test_two_checkpoints_of_one_task_one_after_the_other_share_no_ref(workshop, counting):
    first = counting.checkpoint(name="check/first:1")
    second = counting.checkpoint(name="check/second:1")
    assert first.index.digest != second.index.digest
    assert not workshop.client.content.ingests()


def test_a_restore_that_was_never_started_can_be_deleted(workshop, counting, checkpoint):
    client = workshop.client
    stopped(counting)
    mounts = client.snapshots().mounts(counting.id)
    task = client.create_task(counting.id, rootfs=mounts, checkpoint=checkpoint.parts[Role.MEMORY])
    assert (task.status().state, task.pid) == (ProcessState.CREATED, 0)
    task.delete()
    with pytest.raises(NotFound):
        client.task(counting.id)


class Odd:
    """Something no message can be made of."""


@pytest.mark.parametrize("options", [CheckpointOptions(image_path=3), CheckpointOptions(exit="x"), Odd(), "exit"])
def test_options_that_cannot_be_marshalled_are_an_error_before_anything_is_touched(workshop, counting, options):
    before = len(workshop.client.leases.list())
    with pytest.raises(InvalidRequest) as caught:
        counting.checkpoint(options=options)
    assert caught.value.code == "bad_checkpoint_options"
    assert len(workshop.client.leases.list()) == before
    assert counting.status().state is ProcessState.RUNNING


def test_a_task_that_does_not_run_is_refused(workshop):
    task = workshop.task(["/bin/true"])
    task.wait(timeout_s=10)
    with pytest.raises(PreconditionFailed) as caught:
        task.checkpoint()
    assert caught.value.code == "task_not_running"


def test_a_dump_that_fails_is_told_and_the_task_runs_on(workshop):
    task = workshop.task()
    workshop.count(task)
    with pytest.raises(WorkloadFailed) as caught:
        task.checkpoint(options=CheckpointOptions(image_path="/proc/nowhere"))
    assert caught.value.code == "task_checkpoint_failed"
    assert task.status().state is ProcessState.RUNNING
    assert goes_on(workshop, task, workshop.count(task))


def test_two_parts_of_one_role_are_refused(workshop, counting):
    again = Descriptor("x", "sha256:" + "1" * 64, 1, {"io.migrator.role": "memory"})
    with pytest.raises(IntegrityError) as caught:
        counting.checkpoint(name="check/twice:1", extra=[again])
    assert caught.value.code == "ambiguous_checkpoint"


# ---- the pause that always ends


def test_the_block_resumes_also_after_an_error(workshop, counting):
    def fail():
        with frozen(counting):
            assert counting.status().state is ProcessState.PAUSED
            raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"):
        fail()
    assert counting.status().state is ProcessState.RUNNING


FREEZER = """
import sys, time
from migrator.containerd import ContainerdClient, frozen
client = ContainerdClient(sys.argv[1])
with frozen(client.task(sys.argv[2])):
    print("frozen", flush=True)
    time.sleep(60)
"""


def test_the_death_of_the_caller_does_not_lose_the_resume(workshop, counting):
    command = [sys.executable, "-c", FREEZER, workshop.client.socket, counting.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout.readline() == b"frozen\n"
        assert counting.status().state is ProcessState.PAUSED
        caller.send_signal(signal.SIGKILL)
        caller.wait(10)
    deadline = time.monotonic() + 5
    while counting.status().state is not ProcessState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.02)
    assert goes_on(workshop, counting, workshop.count(counting))


def test_the_watcher_leaves_alone_what_was_paused_before(workshop, counting):
    counting.pause()
    command = [sys.executable, "-c", FREEZER, workshop.client.socket, counting.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout.readline() == b"frozen\n"
        caller.send_signal(signal.SIGKILL)
    time.sleep(1)
    assert counting.status().state is ProcessState.PAUSED


def test_a_resume_is_tried_again(workshop, counting, monkeypatch):
    failures = iter([OutcomeUnknown("no answer"), OutcomeUnknown("no answer")])
    real = type(counting).resume

    def resume(task, **more):
        for failure in failures:
            raise failure
        real(task, **more)

    monkeypatch.setattr(type(counting), "resume", resume)
    with frozen(counting):
        pass
    assert counting.status().state is ProcessState.RUNNING


def test_a_resume_that_never_works_is_told_loudly(workshop, counting, monkeypatch):
    def resume(task, **more):
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(freeze, "RESUME_DELAY_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(type(counting), "resume", resume)
        with pytest.raises(OutcomeUnknown) as caught, frozen(counting):
            raise KeyError("the first trouble")
    assert caught.value.code == "task_left_frozen"
    assert counting.id in caught.value.message
    assert "the first trouble" in caught.value.message
    assert "tasks resume" in caught.value.remedy
    assert counting.status().state is ProcessState.RUNNING  # the watcher was not dismissed and did it


def test_a_lost_answer_to_pause_still_ends_in_a_resume(workshop, counting, monkeypatch):
    real = type(counting).pause

    def pause(task, **more):
        real(task, **more)
        raise OutcomeUnknown("no answer")

    monkeypatch.setattr(type(counting), "pause", pause)
    with pytest.raises(OutcomeUnknown), frozen(counting):
        raise AssertionError("never here")
    assert counting.status().state is ProcessState.RUNNING


# ---- the pause that can be dumped

FORKING = ["/bin/sh", "-c", "while :; do /bin/true; echo $((n=n+1)) > /count; done"]


def test_a_pause_never_stands_in_a_vfork(workshop):
    task = workshop.task(FORKING)
    workshop.count(task)
    caught = 0
    for _ in range(40):
        task.pause(settled=False)
        caught += in_vfork(task) is not None
        task.resume()
        task.pause()
        assert in_vfork(task) is None
        task.resume()
    assert caught, "the program was never caught in a vfork, so this test proves nothing"


def test_a_task_that_was_paused_in_a_vfork_is_refused_at_once(workshop):
    task = workshop.task(FORKING)
    workshop.count(task)
    task.pause(settled=False)
    while in_vfork(task) is None:
        task.resume()
        task.pause(settled=False)
    began = time.monotonic()
    with pytest.raises(PreconditionFailed) as caught:
        task.checkpoint()
    assert caught.value.code == "task_in_vfork"
    assert time.monotonic() - began < 5
    assert task.status().state is ProcessState.PAUSED


def test_a_program_that_always_stands_in_a_vfork_runs_on(workshop, counting, monkeypatch):
    monkeypatch.setattr("migrator.containerd.vfork.in_vfork", lambda task: 1)
    with pytest.raises(ResourceBusy) as caught:
        counting.checkpoint()
    assert caught.value.code == "task_in_vfork"
    assert counting.status().state is ProcessState.RUNNING


def test_a_program_that_starts_others_all_the_time_is_dumped_every_time(workshop):
    task = workshop.task(FORKING)
    workshop.count(task)
    for number in range(8):
        path = f"{RUN}/{task.id}-{number}"
        (workshop.host.root / path.lstrip("/")).mkdir(parents=True)
        task.pause()
        task.checkpoint_memory(CheckpointOptions(image_path=path))
        task.resume()
    assert goes_on(workshop, task, workshop.count(task))


# ---- layers


def test_a_diff_holds_what_was_changed_and_leaves_no_view(workshop, counting):
    client = workshop.client
    before = {found.name for found in client.snapshots().list()}
    with client.lease() as leased:
        first = diff_snapshot(leased, "overlayfs", counting.id)
        second = diff_snapshot(leased, "overlayfs", counting.id, media_type=LAYER_GZIP)
        assert b"count" in client.content.read_all(first.digest)
        assert second.media_type == LAYER_GZIP
        assert client.content.info(second.digest).labels["containerd.io/uncompressed"].startswith("sha256:")
    assert {found.name for found in client.snapshots().list()} == before
    assert not client.content.ingests()


def test_compress_layer_keeps_the_bytes_inside(workshop, counting, parent):
    client = workshop.client
    counting.pause()
    with client.lease() as leased:
        plain = diff_snapshot(leased, "overlayfs", counting.id)
        squeezed = parts.compress_layer(leased, plain)
        assert squeezed.annotations == plain.annotations
        mounts = leased.snapshots().prepare("squeezed", parent)
        applied = leased.diffs.apply(squeezed, mounts)
        leased.snapshots().remove("squeezed")
    assert applied.digest == plain.digest


def test_label_tree_keeps_a_whole_image(workshop, image, new_name):
    client = workshop.client
    found = label_tree(client, image.target)
    assert found[-1].digest == image.target.digest
    assert all(client.content.exists(part.digest) for part in found)
    labels = client.content.info(image.target.digest).labels
    assert labels["containerd.io/gc.ref.content.config"] in {part.digest for part in found}
    name = f"label/{new_name()}:1"
    client.images.create(Image(name, image.target))
    client.images.delete(name, sync=True)
    assert all(client.content.exists(part.digest) for part in found)
