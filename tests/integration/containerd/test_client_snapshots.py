"""Snapshots: layers of file systems over each other."""

import time

import pytest

from migrator.containerd import SnapshotKind
from migrator.errors import AlreadyExists, InvalidRequest, NotFound, PreconditionFailed
from tests.integration.containerd.conftest import collect

pytestmark = pytest.mark.real


def top(host, mounts):
    """The directory in which the files of the topmost layer lie."""
    options = dict(option.partition("=")[::2] for option in mounts[0].options)
    return host.root / options.get("upperdir", mounts[0].source).lstrip("/")


@pytest.fixture
def snapshots(leased):
    return leased.snapshots()


@pytest.fixture
def base(host, snapshots, new_name):
    """A committed layer with one file of 100 kB."""
    key, name = new_name(), new_name()
    (top(host, snapshots.prepare(key)) / "below").write_bytes(b"x" * 100_000)
    snapshots.commit(name, key, {"app": name})
    return name


def test_a_first_layer_is_bound_and_writable(snapshots, new_name):
    key = new_name()
    (mount,) = snapshots.prepare(key)
    assert mount.type == "bind"
    assert "rw" in mount.options
    assert snapshots.mounts(key) == [mount]
    found = snapshots.stat(key)
    assert (found.name, found.parent, found.kind) == (key, "", SnapshotKind.ACTIVE)
    assert abs(found.created_at.timestamp() - time.time()) < 60


def test_a_layer_over_another_shows_both_when_mounted(host, snapshots, base, new_name):
    key = new_name()
    (mount,) = mounts = snapshots.prepare(key, base)
    assert mount.type == "overlay"
    (top(host, mounts) / "above").write_text("y")
    script = 'd=$(mktemp -d) && mount -t overlay -o "$1" overlay $d && ls $d; umount $d; rmdir $d'
    done = host.exec(["sh", "-c", script, "sh", ",".join(mount.options)])
    assert done.stdout.split() == ["above", "below"], done.stderr


def test_a_view_is_read_only_and_cannot_be_committed(snapshots, base, new_name):
    key = new_name()
    (mount,) = snapshots.view(key, base)
    assert "ro" in mount.options or not any(option.startswith("upperdir") for option in mount.options)
    assert snapshots.mounts(key) == [mount]
    assert snapshots.stat(key).kind is SnapshotKind.VIEW
    with pytest.raises(PreconditionFailed) as caught:
        snapshots.commit(new_name(), key)
    assert caught.value.code == "snapshot_precondition_failed"


def test_commit_seals_a_layer_under_its_name(snapshots, new_name):
    key, name = new_name(), new_name()
    snapshots.prepare(key, labels={"of": "the key"})
    snapshots.commit(name, key, {"of": "the name"})
    found = snapshots.stat(name)
    assert found.kind is SnapshotKind.COMMITTED
    assert found.labels == {"of": "the name"}
    for gone in (snapshots.stat, snapshots.mounts):
        with pytest.raises(NotFound) as caught:
            gone(key)
        assert caught.value.code == "snapshot_not_found"


def test_what_is_committed_has_no_mounts(snapshots, base):
    with pytest.raises(PreconditionFailed):
        snapshots.mounts(base)


def test_usage_counts_one_layer_alone(host, snapshots, base, new_name):
    assert 100_000 <= snapshots.usage(base).size_bytes < 200_000
    assert snapshots.usage(base).inodes == 2
    key = new_name()
    mounts = snapshots.prepare(key, base)
    before = snapshots.usage(key)
    assert before.size_bytes < 50_000
    (top(host, mounts) / "more").write_bytes(b"y" * 200_000)
    after = snapshots.usage(key)
    assert after.size_bytes - before.size_bytes >= 200_000
    assert after.inodes == before.inodes + 1


def test_list_takes_filters(snapshots, base, new_name):
    above, view = new_name(), new_name()
    snapshots.prepare(above, base)
    snapshots.view(view, base)
    assert {found.name for found in snapshots.list(f"parent=={base}")} == {above, view}
    assert {found.name for found in snapshots.list(f"parent=={base},kind==view")} == {view}
    assert {found.name for found in snapshots.list(f"labels.app=={base}", f"name=={above}")} == {base, above}
    assert {base, above, view} <= {found.name for found in snapshots.list()}
    assert snapshots.list("name==nobody") == []


def test_labels_are_set_one_by_one(snapshots, base):
    assert snapshots.update_labels(base, {"more": "1"}).labels == {"app": base, "more": "1"}
    assert snapshots.update_labels(base, {"app": ""}).labels == {"more": "1"}
    assert snapshots.stat(base).labels == {"more": "1"}


def test_remove_takes_what_has_no_children(snapshots, base, new_name):
    above = new_name()
    snapshots.prepare(above, base)
    with pytest.raises(PreconditionFailed) as caught:
        snapshots.remove(base)
    assert caught.value.code == "snapshot_precondition_failed"
    snapshots.remove(above)
    snapshots.remove(base)
    assert not snapshots.list(f"name=={base}", f"name=={above}")
    with pytest.raises(NotFound) as caught:
        snapshots.remove(base)
    assert caught.value.code == "snapshot_not_found"


def test_a_key_and_a_name_are_taken_once(snapshots, base, new_name):
    key = new_name()
    snapshots.prepare(key, base)
    for again in (snapshots.prepare, snapshots.view):
        with pytest.raises(AlreadyExists) as caught:
            again(key, base)
        assert caught.value.code == "snapshot_already_exists"
    with pytest.raises(AlreadyExists):
        snapshots.commit(base, key)
    assert snapshots.stat(key).kind is SnapshotKind.ACTIVE


def test_what_is_not_there(snapshots, new_name):
    for ask in (
        lambda: snapshots.prepare(new_name(), "nobody"),
        lambda: snapshots.view(new_name(), "nobody"),
        lambda: snapshots.commit(new_name(), "nobody"),
        lambda: snapshots.usage("nobody"),
        lambda: snapshots.update_labels("nobody", {"a": "b"}),
    ):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.code == "snapshot_not_found"


def test_a_parent_must_be_committed(snapshots, new_name):
    key = new_name()
    snapshots.prepare(key)
    with pytest.raises((PreconditionFailed, InvalidRequest)):
        snapshots.prepare(new_name(), key)


def test_a_snapshotter_that_the_daemon_has_not(leased):
    with pytest.raises(InvalidRequest) as caught:
        leased.snapshots("nobody").list()
    assert "nobody" in caught.value.message


def test_a_snapshot_that_nothing_holds_is_collected(client, new_name):
    held, loose = new_name(), new_name()
    with client.lease() as leased:
        leased.snapshots().prepare(held)
        with client.lease() as shorter:
            shorter.snapshots().prepare(loose)
        collect(client)
        found = {one.name for one in client.snapshots().list()}
        assert held in found
        assert loose not in found
    collect(client)
    assert not client.snapshots().list(f"name=={held}")
