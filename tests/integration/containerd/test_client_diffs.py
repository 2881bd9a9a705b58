"""Layers made from snapshots and applied to others."""

import hashlib
import os
import stat
import threading
import zlib

import pytest

from migrator.containerd import Descriptor, diff_snapshot
from migrator.containerd.mediatypes import LAYER_GZIP, LAYER_TAR
from migrator.errors import MigratorError, NotFound, PreconditionFailed
from tests.integration.containerd.test_client_snapshots import top

pytestmark = pytest.mark.real


@pytest.fixture
def lower(host, leased, new_name):
    """A committed layer, and a view of it."""
    snapshots, key, name = leased.snapshots(), new_name(), new_name()
    place = top(host, snapshots.prepare(key))
    (place / "kept").write_text("kept")
    (place / "changed").write_text("before")
    (place / "deleted").write_text("soon gone")
    (place / "directory").mkdir()
    (place / "directory/inside").write_text("soon gone")
    snapshots.commit(name, key)
    return name


@pytest.fixture
def upper(host, leased, lower, new_name):
    """A snapshot over it in which every kind of change was made."""
    key = new_name()
    (mount,) = leased.snapshots().prepare(key, lower)
    script = """
    d=$(mktemp -d) && mount -t overlay -o "$1" overlay $d && cd $d || exit 1
    echo after > changed; rm deleted; rm -r directory
    echo "$2" > new; chown 12:34 new; chmod 4751 new; ln -s new link; ln new hard; mkdir -p a/b; mkfifo a/b/pipe
    cd /; umount $d; rmdir $d
    """
    done = host.exec(["sh", "-c", script, "sh", ",".join(mount.options), key])
    assert done.returncode == 0, done.stderr
    return key


def make(leased, lower, upper, new_name, **more):
    snapshots, view = leased.snapshots(), new_name()
    below = snapshots.view(view, lower)
    made = leased.diffs.create(below, snapshots.mounts(upper), ref=new_name(), **more)
    snapshots.remove(view)
    return made


def shown(host, leased, key):
    """What is to be seen in a mounted snapshot, by its own `find`."""
    (mount,) = leased.snapshots().mounts(key)
    script = """
    d=$(mktemp -d) && mount -t overlay -o "$1" overlay $d && cd $d || exit 1
    find . -mindepth 1 -printf '%P %y %m %U:%G %l\\n' | sort; cat changed
    cd /; umount $d; rmdir $d
    """
    done = host.exec(["sh", "-c", script, "sh", ",".join(mount.options)])
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_layer_carries_every_change_to_another_snapshot(host, leased, lower, upper, new_name):
    layer = make(leased, lower, upper, new_name)
    again = new_name()
    applied = leased.diffs.apply(layer, leased.snapshots().prepare(again, lower))
    assert applied.digest == layer.digest
    seen = shown(host, leased, again)
    assert seen == shown(host, leased, upper)
    assert seen[-1] == "after"
    assert "new f 4751 12:34 " in seen
    assert "link l 777 0:0 new" in seen
    assert "a/b/pipe p 644 0:0 " in seen
    assert not [line for line in seen if line.startswith(("deleted", "directory"))]


def test_a_layer_is_content_with_its_labels(leased, lower, upper, new_name):
    layer = make(leased, lower, upper, new_name, labels={"made": "here"})
    assert layer.media_type == LAYER_TAR
    info = leased.content.info(layer.digest)
    assert info.labels["made"] == "here"
    assert info.size_bytes == layer.size_bytes
    assert not leased.content.ingests()


def test_a_compressed_layer_is_the_same_inside(leased, lower, upper, new_name):
    plain = make(leased, lower, upper, new_name)
    layer = make(leased, lower, upper, new_name, media_type=LAYER_GZIP)
    assert layer.media_type == LAYER_GZIP
    inside = zlib.decompress(leased.content.read_all(layer.digest), 31)
    assert f"sha256:{hashlib.sha256(inside).hexdigest()}" == plain.digest
    applied = leased.diffs.apply(layer, leased.snapshots().prepare(new_name(), lower), sync_fs=True)
    assert applied.digest == plain.digest


def test_two_diffs_of_one_snapshot_at_once(leased, upper):
    done = []
    threads = [
        threading.Thread(target=lambda: done.append(diff_snapshot(leased, "overlayfs", upper))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 4
    assert len({layer.digest for layer in done}) == 1


def test_a_layer_without_parent_holds_everything(host, leased, new_name):
    key = new_name()
    (top(host, leased.snapshots().prepare(key)) / "all").write_text("of it")
    layer = diff_snapshot(leased, "overlayfs", key)
    assert b"of it" in leased.content.read_all(layer.digest)


def test_a_diff_of_a_committed_snapshot(leased, upper, lower, new_name):
    name = new_name()
    before = diff_snapshot(leased, "overlayfs", upper)
    leased.snapshots().commit(name, upper)
    assert diff_snapshot(leased, "overlayfs", name).digest == before.digest


def test_a_media_type_that_the_daemon_cannot_make(leased, lower, upper, new_name):
    with pytest.raises(PreconditionFailed) as caught:
        make(leased, lower, upper, new_name, media_type="text/plain")
    assert caught.value.code == "containerd_unsupported"


def test_a_layer_that_is_not_there_is_not_applied(leased, lower, new_name):
    mounts = leased.snapshots().prepare(new_name(), lower)
    with pytest.raises(NotFound) as caught:
        leased.diffs.apply(Descriptor(LAYER_TAR, "sha256:" + "0" * 64, 10), mounts)
    assert caught.value.code == "layer_not_found"


def test_what_is_no_layer_is_not_applied(host, leased, lower, new_name):
    noise = leased.content.write_bytes(os.urandom(4096), media_type=LAYER_GZIP)
    key = new_name()
    mounts = leased.snapshots().prepare(key, lower)
    with pytest.raises(MigratorError) as caught:
        leased.diffs.apply(noise, mounts)
    assert caught.value.code == "layer_apply_failed"
    assert noise.digest in caught.value.message
    place = top(host, mounts)
    assert list(place.iterdir()) == []
    assert stat.S_ISDIR(place.stat().st_mode)
