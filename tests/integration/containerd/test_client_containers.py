"""Container records."""

import dataclasses
import time

import pytest

from migrator.containerd import Container, RuncOptions, pack_message
from migrator.errors import AlreadyExists, IntegrityError, InvalidRequest, NotFound
from tests.integration.containerd.conftest import runtime_spec

pytestmark = pytest.mark.real


@pytest.fixture
def record(client, new_name):
    name = new_name()
    made = client.containers.create(
        Container(
            name,
            image="some/image:1",
            spec=Container.pack_spec(runtime_spec(name, ["/bin/true"])),
            runtime_options=pack_message(RuncOptions(binary_name="runc", systemd_cgroup=False)),
            snapshotter="overlayfs",
            snapshot_key=name,
            labels={"app": name, "a": "1", "b": "2"},
            extensions={"io.migrator.test": pack_message(RuncOptions(root="/somewhere"))},
        )
    )
    yield made
    for found in client.containers.list(f"id=={name}"):
        client.containers.delete(found.id)


def test_a_record_comes_back_as_it_was_written(client, record):
    found = client.containers.get(record.id)
    assert found == record
    assert (found.image, found.snapshotter, found.snapshot_key) == ("some/image:1", "overlayfs", record.id)
    assert found.runtime_name == "io.containerd.runc.v2"
    assert RuncOptions.FromString(found.runtime_options.value).binary_name == "runc"
    assert RuncOptions.FromString(found.extensions["io.migrator.test"].value).root == "/somewhere"
    assert found.spec_json() == runtime_spec(record.id, ["/bin/true"])
    assert abs(found.created_at.timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("id=={id}", True),
        ("labels.app=={id}", True),
        ("id=={id},labels.a==1", True),
        ("id=={id},labels.a==2", False),
        ("id=={id},labels.nothing", False),
        ('image=="some/image:1"', True),
        ("runtime.name==io.containerd.runc.v2,id=={id}", True),
        ("id==nobody", False),
    ],
)
def test_list_takes_filters(client, record, wanted, found):
    listed = client.containers.list(wanted.format(id=record.id))
    assert (record.id in {one.id for one in listed}) is found


def test_list_takes_any_of_several_filters(client, workshop, record):
    other = workshop.container()
    found = client.containers.list(f"id=={record.id}", f"id=={other}")
    assert {one.id for one in found} == {record.id, other}
    assert {one.id for one in client.containers.list()} >= {record.id, other}


def test_update_by_field_leaves_the_others(client, record):
    changed = dataclasses.replace(record, image="other:2", labels={"a": "9", "b": "9"})
    after = client.containers.update(changed, "labels.a")
    assert after.labels == {"app": record.id, "a": "9", "b": "2"}
    assert after.image == record.image
    assert client.containers.update(changed, "image").image == "other:2"
    assert client.containers.update(changed, "labels").labels == {"a": "9", "b": "9"}
    assert client.containers.get(record.id).spec == record.spec


def test_update_of_spec_and_extensions(client, record):
    spec = Container.pack_spec(record.spec_json() | {"hostname": "other"})
    changed = dataclasses.replace(record, spec=spec, extensions={"x": pack_message(RuncOptions(root="/x"))})
    assert client.containers.update(changed, "spec", "extensions.x").spec_json()["hostname"] == "other"
    assert set(client.containers.get(record.id).extensions) == {"io.migrator.test", "x"}


def test_update_without_fields_sets_all(client, record):
    changed = client.containers.update(dataclasses.replace(record, labels={"c": "3"}, image="other:2"))
    assert (changed.labels, changed.image) == ({"c": "3"}, "other:2")
    assert changed.created_at == record.created_at
    assert changed.updated_at > record.updated_at


def test_what_may_not_change_is_refused(client, record):
    for field in ({"runtime_name": "other.v1"}, {"snapshotter": "native"}):
        with pytest.raises(InvalidRequest) as caught:
            client.containers.update(dataclasses.replace(record, **field))
        assert caught.value.code == "container_invalid"
    with pytest.raises(InvalidRequest):
        client.containers.update(record, "runtime.name")
    assert client.containers.get(record.id) == record


def test_delete_forgets_it(client, record):
    client.containers.delete(record.id)
    for ask in (client.containers.get, client.containers.delete):
        with pytest.raises(NotFound) as caught:
            ask(record.id)
        assert caught.value.code == "container_not_found"
        assert record.id in caught.value.message
    with pytest.raises(NotFound):
        client.containers.update(record, "labels.a")


def test_an_id_is_taken_once(client, record):
    with pytest.raises(AlreadyExists) as caught:
        client.containers.create(record)
    assert caught.value.code == "container_already_exists"


@pytest.mark.parametrize("change", [{"id": "not an id!"}, {"id": "x" * 100}, {"runtime_name": ""}])
def test_a_record_that_is_none_is_refused(client, record, new_name, change):
    broken = dataclasses.replace(record, **{"id": new_name(), **change})
    with pytest.raises(InvalidRequest) as caught:
        client.containers.create(broken)
    assert caught.value.code == "container_invalid"
    assert broken.id not in {one.id for one in client.containers.list()}


def test_a_spec_that_is_no_json_is_told(client, record):
    broken = dataclasses.replace(record, spec=pack_message(RuncOptions(root="/")))
    client.containers.update(broken, "spec")
    with pytest.raises(IntegrityError) as caught:
        client.containers.get(record.id).spec_json()
    assert caught.value.code == "bad_spec"
