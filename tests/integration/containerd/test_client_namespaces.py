"""Namespaces of one daemon."""

import os

import pytest

from migrator.containerd import Image
from migrator.errors import AlreadyExists, InvalidRequest, NotFound, PreconditionFailed

pytestmark = pytest.mark.real


@pytest.fixture
def namespace(client, new_name):
    name = new_name()
    client.namespaces.create(name, {"a": "1"})
    yield name
    if name in {found.name for found in client.namespaces.list()}:
        client.namespaces.delete(name)


def test_create_get_and_list(client, namespace):
    found = client.namespaces.get(namespace)
    assert (found.name, found.labels) == (namespace, {"a": "1"})
    assert found in client.namespaces.list()


def test_labels_are_set_one_by_one(client, namespace):
    assert client.namespaces.update(namespace, {"b": "2"}).labels == {"a": "1", "b": "2"}
    client.namespaces.update(namespace, {"a": "", "b": "3"})
    assert client.namespaces.get(namespace).labels == {"b": "3"}


def test_a_name_is_taken_once(client, namespace):
    with pytest.raises(AlreadyExists) as caught:
        client.namespaces.create(namespace)
    assert caught.value.code == "namespace_already_exists"


def test_delete_takes_an_empty_one_alone(client, namespace):
    other = client.with_namespace(namespace)
    with other.lease() as there:
        blob = there.content.write_bytes(os.urandom(16), media_type="text/plain")
        there.images.create(Image("kept", blob))
    with pytest.raises(PreconditionFailed) as caught:
        client.namespaces.delete(namespace)
    assert caught.value.code == "namespace_precondition_failed"
    other.images.delete("kept", sync=True)
    client.namespaces.delete(namespace)
    for ask in (client.namespaces.get, client.namespaces.delete):
        with pytest.raises(NotFound) as caught:
            ask(namespace)
        assert caught.value.code == "namespace_not_found"
        assert namespace in caught.value.message


def test_a_name_must_be_one(client):
    with pytest.raises(InvalidRequest) as caught:
        client.namespaces.create("not a name!")
    assert caught.value.code == "namespace_invalid"


def test_what_is_in_one_is_not_seen_in_another(client, image, namespace):
    other = client.with_namespace(namespace)
    assert (other.namespace, other.socket) == (namespace, client.socket)
    assert other.images.list() == other.containers.list() == []
    assert other.content.list() == other.snapshots().list() == other.leases.list() == []
    with pytest.raises(NotFound) as caught:
        other.images.get(image.name)
    assert f"in namespace {namespace}" in caught.value.message
