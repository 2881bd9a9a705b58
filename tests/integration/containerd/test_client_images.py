"""Images: names for content, and what a name keeps."""

import dataclasses
import os
import time

import pytest

from migrator.containerd import Descriptor, Image
from migrator.errors import AlreadyExists, InvalidRequest, NotFound
from tests.integration.containerd.conftest import IMAGE, collect

pytestmark = pytest.mark.real


@pytest.fixture
def target(leased):
    return leased.content.write_bytes(os.urandom(16), media_type="text/plain")


@pytest.fixture
def named(client, target, new_name):
    image = client.images.create(Image(f"images/{new_name()}:1", target, {"a": "1", "b": "2"}))
    yield image
    for found in client.images.list(f"name=={image.name}"):
        client.images.delete(found.name)


def test_create_tells_what_is_kept(client, named, target):
    assert client.images.get(named.name) == named
    assert named.target == target
    assert named.labels == {"a": "1", "b": "2"}
    assert abs(named.created_at.timestamp() - time.time()) < 60
    assert named.updated_at >= named.created_at


def test_an_imported_image_is_one(client, image):
    assert image.name == IMAGE
    assert client.content.exists(image.target.digest)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("name=={name}", True),
        ("name=={name},labels.a==1", True),
        ("name=={name},labels.a==2", False),
        ("target.digest=={digest}", True),
        ('target.mediatype=="text/plain",name=={name}', True),
        ("name~=^images/", True),
        ("name==nobody", False),
    ],
)
def test_list_takes_filters(client, named, wanted, found):
    wanted = wanted.format(name=named.name, digest=named.target.digest)
    assert (named.name in {image.name for image in client.images.list(wanted)}) is found


def test_list_takes_any_of_several_filters(client, named, image):
    found = client.images.list(f"name=={named.name}", f"name=={image.name}")
    assert {one.name for one in found} == {named.name, image.name}
    assert {one.name for one in client.images.list()} >= {named.name, image.name}


def test_update_by_field_leaves_the_others(client, leased, named):
    other = leased.content.write_bytes(os.urandom(16), media_type="text/plain")
    changed = dataclasses.replace(named, target=other, labels={"a": "9", "b": "9"})
    assert client.images.update(changed, "labels.a").labels == {"a": "9", "b": "2"}
    assert client.images.get(named.name).target == named.target
    assert client.images.update(changed, "target").target == other
    assert client.images.get(named.name).labels == {"a": "9", "b": "2"}


def test_update_without_fields_sets_all(client, named):
    changed = client.images.update(dataclasses.replace(named, labels={"c": "3"}))
    assert changed.labels == {"c": "3"}
    assert changed.created_at == named.created_at
    assert changed.updated_at > named.updated_at


def test_a_name_is_taken_once(client, named):
    with pytest.raises(AlreadyExists) as caught:
        client.images.create(named)
    assert caught.value.code == "image_already_exists"
    assert named.name in caught.value.message


def test_what_is_not_there(client, named):
    for ask in (client.images.get, client.images.delete):
        with pytest.raises(NotFound) as caught:
            ask("nobody")
        assert caught.value.code == "image_not_found"
    with pytest.raises(NotFound):
        client.images.update(dataclasses.replace(named, name="nobody"))


@pytest.mark.parametrize("bad", [Descriptor("", "", 0), Descriptor("x/y", "sha256:12", 5)])
def test_a_target_that_is_none_is_refused(client, new_name, bad):
    name = new_name()
    with pytest.raises(InvalidRequest) as caught:
        client.images.create(Image(name, bad))
    assert caught.value.code == "image_invalid"
    assert not client.images.list(f"name=={name}")


def test_a_name_keeps_its_content_and_a_synchronous_delete_drops_it(client, new_name):
    with client.lease() as leased:
        target = leased.content.write_bytes(os.urandom(16), media_type="text/plain")
        name = client.images.create(Image(f"images/{new_name()}:1", target)).name
    collect(client)
    assert client.content.exists(target.digest)
    client.images.delete(name, sync=True)
    assert not client.content.exists(target.digest)
