"""What the daemon says about itself."""

import pytest

from migrator.errors import InvalidRequest

pytestmark = pytest.mark.real


def test_version_is_the_programs_own(host, client):
    found = client.version()
    words = host.exec(["containerd", "--version"]).stdout.split()
    assert found.version in words
    assert found.version.startswith(("1.", "2.", "v1.", "v2."))


def test_plugins_are_listed_by_filter(client):
    found = client.introspection.plugins("type==io.containerd.snapshotter.v1,id==overlayfs")
    assert [(plugin.type, plugin.id) for plugin in found] == [("io.containerd.snapshotter.v1", "overlayfs")]
    assert found[0].exports["root"].endswith("overlayfs")
    assert found[0].problem == ""
    either = client.introspection.plugins("id==overlayfs", "type==io.containerd.content.v1")
    assert {plugin.type for plugin in either} == {"io.containerd.snapshotter.v1", "io.containerd.content.v1"}
    assert client.introspection.plugins("id==nobody") == []


def test_all_services_that_we_call_are_there(client):
    ready = {(plugin.type, plugin.id) for plugin in client.introspection.plugins() if not plugin.problem}
    called = {"containers", "content", "diff", "events", "images", "introspection", "leases", "namespaces", "snapshots"}
    assert {("io.containerd.grpc.v1", name) for name in called | {"tasks", "version"}} <= ready


def test_a_filter_must_make_sense(client):
    with pytest.raises(InvalidRequest) as caught:
        client.introspection.plugins("type=io")
    assert caught.value.code == "plugin_invalid"


def test_server_is_the_daemons_process(host, client):
    found = client.introspection.server()
    assert found.pid == host.containerd_pid
    assert len(found.uuid) == 36
    assert found == client.introspection.server()
