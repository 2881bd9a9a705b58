"""What a spec gets before a restore."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from migrator.service.steps.restored_spec import LOOPBACK_UP, renamed, with_loopback, with_sysctls

OWN: dict[str, Any] = {"linux": {"namespaces": [{"type": "network"}, {"type": "pid"}], "cgroupsPath": "/default/web"}}


def test_a_copy_under_a_new_name_gets_a_cgroup_of_its_own() -> None:
    assert renamed(OWN, "web", "copy")["linux"]["cgroupsPath"] == "/default/copy"
    assert OWN["linux"]["cgroupsPath"] == "/default/web", "the original is left alone"


def test_a_cgroup_of_another_name_is_left_alone() -> None:
    spec = {"linux": {"cgroupsPath": "/system.slice/other"}}
    assert renamed(spec, "web", "copy") == spec
    assert renamed(OWN, "web", "web") == OWN


def test_a_network_of_its_own_gets_its_loopback_up_after_the_hooks_it_had() -> None:
    spec = {**OWN, "hooks": {"createRuntime": [{"path": "/bin/first"}], "poststop": [{"path": "/bin/last"}]}}
    hooks = with_loopback(spec)["hooks"]
    assert [hook["path"] for hook in hooks["createRuntime"]] == ["/bin/first", "/bin/sh"]
    assert hooks["poststop"] == [{"path": "/bin/last"}]


def test_a_network_of_somebody_else_is_left_alone() -> None:
    for namespaces in ([{"type": "network", "path": "/run/netns/x"}], [{"type": "pid"}]):
        spec = {"linux": {"namespaces": namespaces}}
        assert with_loopback(spec) == spec


def test_the_hook_reads_the_pid_from_the_state() -> None:
    state = json.dumps({"ociVersion": "1.2.0", "id": "web", "status": "created", "pid": 4711, "bundle": "/b"})
    script = f'nsenter() {{ echo "$1"; }}; {LOOPBACK_UP}'
    for text in (state, state.replace(" ", "")):
        told = subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True, check=True)
        assert told.stdout == "--net=/proc/4711/ns/net\n"


def test_settings_of_the_network_are_made_again_and_others_travel(tmp_path: Path) -> None:
    spec = {**OWN, "linux": {**OWN["linux"], "sysctl": {"net.core.somaxconn": "12 34", "kernel.msgmax": "9"}}}
    [hook] = with_sysctls(spec)["hooks"]["createRuntime"]
    assert hook["args"][-1].count("printf") == 1
    log = tmp_path / "log"
    script = f'nsenter() {{ printf "%s|" "$@" > {log}; }}; {hook["args"][-1]}'
    subprocess.run(["sh", "-c", script], input='{"pid": 4711}', text=True, check=True)
    inside = "printf %s '12 34' > /proc/sys/net/core/somaxconn"
    assert log.read_text() == f"--net=/proc/4711/ns/net|sh|-c|{inside}|"


def test_a_host_has_its_own_settings() -> None:
    spec = {"linux": {"namespaces": [{"type": "pid"}], "sysctl": {"net.core.somaxconn": "1"}}}
    assert with_sysctls(spec) == spec
    assert with_sysctls(OWN) == OWN
