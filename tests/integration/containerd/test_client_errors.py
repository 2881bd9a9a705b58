"""Every kind of refusal becomes the error that it means, with the thing's name in its words."""

import dataclasses
import os

import grpc
import pytest

from migrator.containerd import Container, Descriptor, Image, Resource
from migrator.containerd.mediatypes import LAYER_TAR
from migrator.errors import (
    AlreadyExists,
    InvalidRequest,
    MigratorError,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    ResourceBusy,
    ResourceExhausted,
    Unavailable,
)

pytestmark = pytest.mark.real
NOWHERE = "sha256:" + "0" * 64
INGESTS = "/var/lib/containerd/io.containerd.content.v1.content/ingest"

REFUSALS = {
    "container_not_found": (NotFound, lambda client: client.containers.get("nobody")),
    "image_not_found": (NotFound, lambda client: client.images.get("nobody")),
    "content_not_found": (NotFound, lambda client: client.content.info(NOWHERE)),
    "ingest_not_found": (NotFound, lambda client: client.content.status("nobody")),
    "snapshot_not_found": (NotFound, lambda client: client.snapshots().stat("nobody")),
    "layer_not_found": (NotFound, lambda client: client.diffs.apply(Descriptor(LAYER_TAR, NOWHERE, 1), [])),
    "lease_not_found": (NotFound, lambda client: client.leases.add_resource("nobody", Resource(NOWHERE, "content"))),
    "namespace_not_found": (NotFound, lambda client: client.namespaces.delete("nobody")),
    "image_already_exists": (AlreadyExists, lambda client: client.images.create(client.images.list()[0])),
    "namespace_already_exists": (AlreadyExists, lambda client: client.namespaces.create("default")),
    "namespace_precondition_failed": (PreconditionFailed, lambda client: client.namespaces.delete("default")),
    "containerd_unsupported": (
        PreconditionFailed,
        lambda client: client.diffs.create([], [], ref="x", media_type="text/plain"),
    ),
    "container_invalid": (InvalidRequest, lambda client: client.containers.create(Container("no id!"))),
    "image_invalid": (InvalidRequest, lambda client: client.images.list("name=")),
    "snapshot_invalid": (InvalidRequest, lambda client: client.snapshots("nobody").stat("x")),
    "event_invalid": (InvalidRequest, lambda client: client.events.publish("no slash", Container("x").to_wire())),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_has_its_kind_and_code(client, image, code):
    kind, ask = REFUSALS[code]
    with pytest.raises(MigratorError) as caught:
        ask(client)
    assert (type(caught.value), caught.value.code) == (kind, code)


def test_an_error_names_the_thing_the_act_and_the_place_and_keeps_the_cause(client):
    with pytest.raises(NotFound) as caught:
        client.with_namespace("elsewhere").containers.delete("nobody")
    assert caught.value.message.startswith("cannot delete container nobody in namespace elsewhere: ")
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_a_request_that_is_too_long_is_refused(client, image, new_name):
    huge = dataclasses.replace(image, name=new_name(), labels={"x": "y" * (17 << 20)})
    with pytest.raises(ResourceExhausted) as caught:
        client.images.create(huge)
    assert caught.value.code == "containerd_resource_exhausted"


def test_a_full_disk_is_told_as_one_and_leaves_nothing(host, client, leased, new_name):
    data = os.urandom(4 << 20)
    assert host.exec(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", INGESTS]).returncode == 0
    try:
        with pytest.raises(ResourceExhausted) as caught:
            leased.content.write(new_name(), [data], size_bytes=len(data))
        assert caught.value.code == "disk_full"
        assert not client.content.ingests()
    finally:
        host.exec(["umount", INGESTS])


@pytest.mark.parametrize("kind", [Unavailable, ResourceBusy])
def test_what_may_work_later_says_how_soon(kind):
    assert 0 < kind("later").delay_s < 60
    assert not hasattr(OutcomeUnknown("who knows"), "delay_s")


def test_an_image_over_content_that_is_not_there_is_taken_by_the_daemon(client, new_name):
    """The daemon does not look; who restores must. A test, so that we notice should this ever change."""
    made = client.images.create(Image(new_name(), Descriptor("x/y", NOWHERE, 1)))
    client.images.delete(made.name)
    assert made.target.digest == NOWHERE
