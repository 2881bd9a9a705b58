"""What preflight says of two hosts: likeness, versions, CRIU's own configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from migrator.criu.configuration import GHOST_LIMIT_BYTES, ghost_limit_bytes, read_options, searched_directories
from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.arrival import compare_memory, free_huge_bytes
from migrator.service.preflight.host import judge_options
from migrator.service.preflight.likeness import compare_cgroups, compare_criu, compare_kernels, compare_processors
from migrator.service.preflight.traits import Traits, find_cgroups, read_cpu_flags
from migrator.service.preflight.versions import KNOWN_BAD, judge_versions

HOST = Traits("x86_64", "6.18.44", "avx2 fpu pti sse4_2", "v2", "4.2.1", "1.3.7", "2.1.9")


def graded(found: list[Finding]) -> list[tuple[Grade, str]]:
    assert all(finding.remedy for finding in found if finding.grade is not Grade.PASS)
    return [(finding.grade, finding.code) for finding in found]


@pytest.mark.parametrize(
    ("flags", "grade", "code"),
    [
        ("avx2 avx512f fpu pti sse4_2", Grade.PASS, ""),
        ("fpu pti sse4_2", Grade.FAIL, "cpu_features"),
        ("avx2 fpu sse4_2", Grade.WARN, "cpu_features_differ"),
    ],
)
def test_processor_features(flags: str, grade: Grade, code: str) -> None:
    assert graded(list(compare_processors(HOST, replace(HOST, cpu_flags=flags)))) == [(grade, code)]


def test_another_architecture() -> None:
    arm = replace(HOST, architecture="aarch64", cpu_flags="fp asimd")
    assert graded(list(compare_processors(HOST, arm))) == [(Grade.FAIL, "other_architecture")]
    lacking = list(compare_processors(arm, replace(arm, cpu_flags="fp")))
    assert graded(lacking) == [(Grade.FAIL, "cpu_features")], "on ARM every listed feature is for programs"


@pytest.mark.parametrize(
    ("target", "code"),
    [("6.18.44", ""), ("6.19.0", ""), ("6.18.1", ""), ("6.17.9", "older_kernel"), ("5.20", "older_kernel")],
)
def test_kernels(target: str, code: str) -> None:
    assert [finding.code for finding in compare_kernels("6.18.44", target)] == [code]


def test_cgroups_and_criu() -> None:
    assert graded(list(compare_cgroups("v1", "v2"))) == [(Grade.FAIL, "cgroup_mode")]
    assert graded(list(compare_cgroups("v2", "v2"))) == [(Grade.PASS, "")]
    assert graded(list(compare_cgroups("", "v2"))) == [(Grade.PASS, "")], "a checkpoint does not tell"
    assert graded(list(compare_criu("4.2.1", "4.1.1"))) == [(Grade.WARN, "older_criu")]
    assert list(compare_criu("4.1.1", "4.2.1")) == []


@pytest.mark.parametrize(
    ("mounts", "mode"),
    [
        ("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "v2"),
        ("tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n", "v1"),
        ("proc /proc proc rw 0 0\n", ""),
    ],
)
def test_which_cgroups(mounts: str, mode: str) -> None:
    assert find_cgroups(mounts) == mode


def test_this_machine_has_processor_features() -> None:
    assert len(read_cpu_flags().split()) > 5


def test_traits_travel() -> None:
    assert Traits.from_facts(HOST.to_facts()) == HOST
    assert Traits.from_facts({"kernel": "6.1", "newer": 1}) == Traits(kernel="6.1")


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({}, [(Grade.PASS, "")]),
        ({"runc": "1.3.6+ds1"}, [(Grade.WARN, "cve_2026_119101")]),
        ({"runc": "1.1.15"}, [(Grade.WARN, "cve_2026_119101")]),
        ({"runc": "1.4.4"}, [(Grade.PASS, "")]),
        ({"runc": "1.6.0"}, [(Grade.PASS, "")]),
        ({"runc": "1.0.3"}, [(Grade.FAIL, "runc_too_old"), (Grade.WARN, "cve_2026_119101")]),
        ({"runc": ""}, [(Grade.FAIL, "runc_missing")]),
        ({"containerd": "1.6.20"}, [(Grade.FAIL, "containerd_too_old"), (Grade.WARN, "cve_2026_53488")]),
        ({"containerd": "1.7.24"}, [(Grade.WARN, "cve_2026_53488")]),
        ({"criu": "3.16"}, [(Grade.FAIL, "criu_too_old")]),
        ({"criu": ""}, [(Grade.PASS, "")]),
    ],
)
def test_known_bad_versions(versions: dict[str, str], found: list[tuple[Grade, str]]) -> None:
    assert graded(list(judge_versions(replace(HOST, **versions)))) == found


def test_every_known_fault_says_what_to_install() -> None:
    assert all("install" in entry.remedy and entry.fault for entry in KNOWN_BAD)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, []),
        ({"ghost-limit": "10M", "irmap-scan-path": "/data"}, []),
        ({"tcp-established": ""}, [(Grade.WARN, "criu_options")]),
        ({"tcp-close": ""}, [(Grade.FAIL, "criu_configuration")]),
        ({"images-dir": "/elsewhere", "tcp-close": ""}, [(Grade.FAIL, "criu_configuration")]),
    ],
)
def test_criu_configuration(options: dict[str, str], found: list[tuple[Grade, str]]) -> None:
    assert graded(list(judge_options(options))) == found


def test_configuration_files_are_read_as_criu_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    first, last = tmp_path / "default.conf", tmp_path / "runc.conf"
    assert ghost_limit_bytes([str(first), str(last)]) == GHOST_LIMIT_BYTES
    first.write_text("ghost-limit 2M  # twice the usual\ntcp-close\nirmap-scan-path /a\n\n# nothing\n")
    last.write_text("--ghost-limit=3k\nirmap-scan-path /b\n")
    both = [str(first), str(last)]
    assert read_options(both) == {"ghost-limit": "3k", "tcp-close": "", "irmap-scan-path": "/b"}
    assert ghost_limit_bytes(both) == 3 << 10
    assert searched_directories(both) == ("/a", "/b")


@pytest.mark.parametrize(
    ("own", "resident", "found"),
    [
        (100, 100, [(Grade.PASS, "")]),
        (400, 700, [(Grade.WARN, "tight_memory")]),
        (1001, 1001, [(Grade.FAIL, "no_memory")]),
        (100, 5000, [(Grade.WARN, "tight_memory")]),
    ],
)
def test_memory(own: int, resident: int, found: list[tuple[Grade, str]]) -> None:
    assert graded(list(compare_memory(own, resident, 1000))) == found


def test_huge_pages() -> None:
    assert free_huge_bytes("HugePages_Total:  8\nHugePages_Free:  3\nHugepagesize:  2048 kB\n") == 3 * (2 << 20)
    assert free_huge_bytes("MemTotal: 1 kB\n") == 0
