"""What a checkpoint's record may ask for, and what not."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from migrator.containerd import Container, RuncOptions, pack_message
from migrator.errors import IntegrityError
from migrator.models.preflight import Grade
from migrator.service.records import judge_record, without_foreign

NAMESPACES = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network")]
HARMLESS: dict[str, Any] = {
    "annotations": {"team": "web"},
    "linux": {"namespaces": NAMESPACES},
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "size=65536k"]},
        {"destination": "/data/", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw"]},
    ],
}


def record(change: Callable[[dict[str, Any]], object] = lambda _: None, **values: Any) -> Container:
    spec = deepcopy(HARMLESS)
    change(spec)
    return Container("web", spec=Container.pack_spec(spec), **values)


def codes(container: Container, namespace_path: str = "", grade: Grade = Grade.FAIL) -> list[str]:
    return [found.code for found in judge_record(container, {"/data"}, namespace_path) if found.grade is grade]


def test_what_a_checkpoint_of_ours_asks_for_is_granted() -> None:
    assert list(judge_record(record(), {"/data"}, "")) == []
    assert without_foreign(record()) == record()


def mount(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["mounts"].append({"destination": "/host", **values})


def namespace(**values: Any) -> Callable[[dict[str, Any]], object]:
    others = [each for each in NAMESPACES if each["type"] != values["type"]]
    return lambda spec: spec["linux"].update(namespaces=[*others, values])


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("runtime_hook", lambda spec: spec.update(hooks={"poststop": [{"path": "/bin/sh"}]})),
        ("bind_mounts", mount(type="bind", source="/", options=["rbind"])),
        ("bind_mounts", mount(type="none", source="/", options=["bind"])),
        ("bind_mounts", mount(source="/etc", options=["rbind"])),
        ("unknown_mount", mount(type="ext4", source="/dev/sda1")),
        ("unknown_mount", mount(type="overlay", source="x", options=["lowerdir=/"])),
        ("joined_namespace", namespace(type="pid", path="/proc/1/ns/pid")),
        ("joined_namespace", namespace(type="network", path="/proc/1/ns/net")),
        ("host_interface", lambda spec: spec["linux"].update(netDevices={"eth0": {}})),
    ],
)
def test_what_no_source_lets_through_is_refused(code: str, change: Callable[[dict[str, Any]], object]) -> None:
    assert codes(record(change)) == [code]


def test_namespaces_of_its_own_are_no_matter_of_taste() -> None:
    assert codes(record(lambda spec: spec["linux"].update(namespaces=[]))) == ["joined_namespace"] * 2


def test_a_namespace_that_the_restore_makes_may_be_joined() -> None:
    named = record(namespace(type="network", path="/run/netns/web"))
    assert codes(named, "/run/netns/web") == []
    assert codes(named, "/run/netns/other") == ["joined_namespace"]


def test_another_runtime_is_refused() -> None:
    assert codes(record(runtime_name="/tmp/shim")) == ["unsupported_runtime"]


def test_programs_and_files_of_the_source_are_left_out() -> None:
    options = pack_message(RuncOptions(binary_name="/tmp/runc", root="/tmp", systemd_cgroup=True))
    found = record(lambda spec: spec["annotations"].update({"org.criu.config": "/tmp/c"}), runtime_options=options)
    assert codes(found, grade=Grade.WARN) == ["left_out"]
    rest = without_foreign(found)
    assert rest.runtime_options is not None
    assert RuncOptions.FromString(rest.runtime_options.value) == RuncOptions(systemd_cgroup=True)
    assert rest.spec_json()["annotations"] == {"team": "web"}
    assert codes(rest, grade=Grade.WARN) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.update(mounts={"destination": "/"}),
        lambda spec: spec.update(mounts=["/"]),
        mount(type="bind", options=[["bind"]]),
        lambda spec: spec["linux"].update(namespaces="pid"),
    ],
)
def test_nonsense_is_told(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(IntegrityError):
        codes(record(change))
