"""Leases: what they hold survives the collector, and nothing else does."""

import os
import time
from datetime import UTC, datetime

import pytest

from migrator.containerd import Resource
from migrator.errors import AlreadyExists, NotFound
from tests.integration.containerd.conftest import collect

pytestmark = pytest.mark.real


@pytest.fixture
def lease(client, new_name):
    lease = client.leases.create(new_name(), {"app": "test"})
    yield lease
    for found in client.leases.list(f"id=={lease.id}"):
        client.leases.delete(found.id)


def ids(leases):
    return {lease.id for lease in leases}


def some_blob(client):
    return client.content.write_bytes(os.urandom(16), media_type="").digest


def test_create_and_list(client, lease, new_name):
    assert lease.labels == {"app": "test"}
    assert lease.expires_at is None
    assert abs(lease.created_at.timestamp() - time.time()) < 60
    assert client.leases.list(f"id=={lease.id}") == [lease]
    assert lease.id in ids(client.leases.list("labels.app==test"))
    assert lease.id not in ids(client.leases.list("labels.app==other"))
    assert lease.id in ids(client.leases.list())


def test_a_name_is_made_up_when_none_is_given(client):
    one, two = client.leases.create(), client.leases.create()
    assert one.id != two.id
    assert ids([one, two]) <= ids(client.leases.list())
    for lease in (one, two):
        client.leases.delete(lease.id)


def test_an_id_is_taken_once(client, lease):
    with pytest.raises(AlreadyExists) as caught:
        client.leases.create(lease.id)
    assert caught.value.code == "lease_already_exists"


def test_what_is_not_there(client):
    for ask in (
        lambda: client.leases.delete("nobody"),
        lambda: client.leases.list_resources("nobody"),
        lambda: client.leases.add_resource("nobody", Resource("sha256:" + "0" * 64, "content")),
    ):
        with pytest.raises(NotFound) as caught:
            ask()
        assert caught.value.code == "lease_not_found"


def test_calls_under_a_lease_put_what_they_make_into_it(client, lease, new_name):
    leased = client.with_lease(lease.id)
    assert leased.lease_id == lease.id
    digest, key = some_blob(leased), new_name()
    leased.snapshots().prepare(key)
    held = {Resource(digest, "content"), Resource(key, "snapshots/overlayfs")}
    assert set(client.leases.list_resources(lease.id)) == held
    assert client.with_namespace("default").lease_id is None


def test_an_ingest_is_held_too(client, lease, new_name):
    ref = new_name()

    def dies():
        yield os.urandom(1 << 20)
        raise RuntimeError("the writer dies")

    with pytest.raises(RuntimeError):
        client.with_lease(lease.id).content.write(ref, dies(), size_bytes=2 << 20)
    assert Resource(ref, "ingests") in client.leases.list_resources(lease.id)
    client.content.abort(ref)


def test_what_a_lease_holds_survives_the_collector_and_what_none_holds_does_not(client, lease, new_name):
    leased = client.with_lease(lease.id)
    held, key = some_blob(leased), new_name()
    leased.snapshots().prepare(key)
    with client.lease() as another:
        loose = some_blob(another)
    collect(client)
    assert client.content.exists(held)
    assert client.snapshots().stat(key)
    assert not client.content.exists(loose)
    client.leases.delete(lease.id, sync=True)
    assert not client.content.exists(held)
    assert not client.snapshots().list(f"name=={key}")


def test_resources_can_be_added_and_taken_out(client, lease):
    with client.lease() as another:
        one, two = some_blob(another), some_blob(another)
        for digest in (one, two):
            client.leases.add_resource(lease.id, Resource(digest, "content"))
    collect(client)
    assert client.content.exists(one)
    assert client.content.exists(two)
    client.leases.delete_resource(lease.id, Resource(two, "content"))
    assert client.leases.list_resources(lease.id) == (Resource(one, "content"),)
    collect(client)
    assert client.content.exists(one)
    assert not client.content.exists(two)


def test_a_lease_holds_what_its_blobs_refer_to(client, lease):
    with client.lease() as another:
        below = some_blob(another)
        labels = {"containerd.io/gc.ref.content.0": below}
        above = another.content.write_bytes(os.urandom(16), media_type="", labels=labels).digest
        client.leases.add_resource(lease.id, Resource(above, "content"))
    collect(client)
    assert client.content.exists(below)


def test_a_lease_expires(client, new_name):
    before = datetime.now(UTC).timestamp()
    lease = client.leases.create(new_name(), expires_in_s=1.0)
    assert before - 1 < lease.expires_at.timestamp() < before + 2
    digest = some_blob(client.with_lease(lease.id))
    collect(client)
    assert lease.id in ids(client.leases.list())
    assert client.content.exists(digest)
    time.sleep(1.1)
    collect(client)
    assert lease.id not in ids(client.leases.list())
    assert not client.content.exists(digest)


def test_a_block_ends_its_lease_whatever_happens(client):
    with client.lease(labels={"app": "block"}) as leased:
        (found,) = client.leases.list(f"id=={leased.lease_id}")
        assert found.labels["app"] == "block"
        assert 3500 < found.expires_at.timestamp() - time.time() < 3700
    assert leased.lease_id not in ids(client.leases.list())
    with pytest.raises(KeyError), client.lease() as leased:
        raise KeyError("inside")
    assert leased.lease_id not in ids(client.leases.list())
    with client.lease() as leased:
        client.leases.delete(leased.lease_id)  # somebody else did it: nothing is wrong
