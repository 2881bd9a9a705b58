"""What the lab says when the machine cannot carry it: each refusal is provoked at the place where it is found out."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import PermissionDenied, PreconditionFailed, ResourceExhausted
from migrator.lab import machine


@pytest.fixture
def tools_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`unshare` of our own that refuses as the kernel would, first on PATH."""
    tool = tmp_path / "bin" / "unshare"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'unshare: unshare failed: Operation not permitted' >&2\nexit 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "CACHE_DIR", tmp_path / "cache")


def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PermissionDenied, match="needs root") as failure:
        machine.check_root()
    assert "sudo" in str(failure.value.remedy)


def test_a_missing_tool_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PreconditionFailed, match="program ip ") as failure:
        machine.check_tools()
    assert failure.value.remedy == "apt-get install iproute2"


@pytest.mark.usefixtures("tools_that_fail")
def test_no_network_namespaces() -> None:
    with pytest.raises(PreconditionFailed, match=r"network namespace: .*Operation not permitted"):
        machine.check_namespaces()


@pytest.mark.usefixtures("tools_that_fail")
def test_no_overlayfs() -> None:
    with pytest.raises(PreconditionFailed, match="overlayfs does not work") as failure:
        machine.check_overlayfs()
    assert "overlay" in str(failure.value.remedy)


def test_a_probe_that_hangs_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **__: Any) -> None:
        raise subprocess.TimeoutExpired("unshare", 20)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(PreconditionFailed, match="timed out"):
        machine.check_namespaces()


def test_no_checkpoint_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def prctl(*_: Any) -> int:
            return -1  # EINVAL: what a kernel without the option answers

    monkeypatch.setattr(ctypes, "CDLL", lambda *_: Refusing)
    with pytest.raises(PreconditionFailed, match="CONFIG_CHECKPOINT_RESTORE"):
        machine.check_checkpoint_restore()


def test_little_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine, "CACHE_DIR", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10 << 30, 9 << 30, 1 << 30))
    with pytest.raises(ResourceExhausted, match=r"only 1\.0 GiB free"):
        machine.check_disk()


def test_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(PreconditionFailed, match="darwin"):
        machine.check_linux()
