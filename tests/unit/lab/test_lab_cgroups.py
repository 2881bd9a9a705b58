from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed
from migrator.lab.cgroups import hierarchies

HYBRID = """\
30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw,nsdelegate
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,clone_children
33 25 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
34 25 0:29 / /elsewhere/systemd rw - cgroup cgroup rw,xattr,name=systemd
35 25 0:30 / /proc rw - proc proc rw
"""


def test_each_hierarchy_is_found_once_with_what_mounts_it_again() -> None:
    found = {str(h.mount): (h.unified, h.options, h.key) for h in hierarchies(HYBRID)}
    assert found == {
        "/sys/fs/cgroup/unified": (True, "", ""),
        "/sys/fs/cgroup/cpu,cpuacct": (False, "cpu,cpuacct", "cpu,cpuacct"),
        "/sys/fs/cgroup/cpuset": (False, "cpuset", "cpuset"),
        "/sys/fs/cgroup/systemd": (False, "none,name=systemd", "name=systemd"),
    }


def test_a_machine_with_version_two_alone() -> None:
    (only,) = hierarchies("30 25 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
    assert (only.mount, only.unified) == (Path("/sys/fs/cgroup"), True)


def test_a_machine_without_any_is_refused() -> None:
    with pytest.raises(PreconditionFailed, match="no cgroup hierarchy"):
        hierarchies("35 25 0:30 / /proc rw - proc proc rw\n")
