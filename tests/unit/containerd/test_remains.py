"""Where the cgroup of a container lies, in all hierarchies."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.containerd import remains


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/default/web", "default/web"),
        ("system.slice:cri:web", "system.slice/cri-web.scope"),
        ("a-b.slice:cri:web", "a.slice/a-b.slice/cri-web.scope"),
    ],
)
def test_a_cgroup_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, place: str) -> None:
    monkeypatch.setattr(remains, "CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    directory = tmp_path / "freezer" / place
    directory.mkdir(parents=True)
    (directory / "cgroup.procs").touch()
    assert list(remains._places(path)) == [directory]
