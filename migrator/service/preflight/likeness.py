"""Is the target enough like the source for a program that was started there?"""

from __future__ import annotations

from collections.abc import Iterator

from migrator.criu.program import parse_version
from migrator.models.preflight import Finding, Grade
from migrator.service.preflight.arrival import Arrival
from migrator.service.preflight.traits import Traits

FOR_PROGRAMS = [
    "mmx",
    "3dnow",
    "sse",
    "ssse",
    "sse4",
    "avx",
    "fma",
    "f16c",
    "bmi",
    "aes",
    "vaes",
    "pclmul",
    "vpclmul",
    "gfni",
    "sha",
    "sm3",
    "sm4",
    "amx",
    "movbe",
    "movdir",
    "popcnt",
    "abm",
    "rdrand",
    "rdseed",
    "adx",
    "xop",
    "tbm",
    "xsave",
    "fsgsbase",
    "rdpid",
    "rdtscp",
    "clflush",
    "clwb",
    "cldemote",
    "cx8",
    "cx16",
    "cmov",
    "lahf_lm",
    "rtm",
    "hle",
    "serialize",
    "waitpkg",
    "enqcmd",
    "pku",
    "ospke",
    "user_shstk",
    "pni",
]
"""Beginnings of the x86 flags of instructions that a program may execute; the others are the kernel's own affair."""
SHOWN = 8


def check_processor(arrival: Arrival) -> Iterator[Finding]:
    """The target must have every processor feature of the source: the program may have chosen code for it."""
    if (source := _source(arrival)) is not None and arrival.traits:
        yield from compare_processors(source, arrival.traits)


def check_kernel(arrival: Arrival) -> Iterator[Finding]:
    """An older kernel may lack what the program or its images use."""
    if (source := _source(arrival)) is not None and arrival.traits:
        yield from compare_kernels(source.kernel, arrival.traits.kernel)


def check_cgroups(arrival: Arrival) -> Iterator[Finding]:
    """Limits of one kind of cgroup hierarchy cannot be restored in the other."""
    if (source := _source(arrival)) is not None and arrival.traits:
        yield from compare_cgroups(source.cgroups, arrival.traits.cgroups)


def check_criu_images(arrival: Arrival) -> Iterator[Finding]:
    """CRIU reads images of its own version and of older ones."""
    if (source := _source(arrival)) is not None and arrival.traits:
        yield from compare_criu(source.criu, arrival.traits.criu)


def compare_processors(source: Traits, target: Traits) -> Iterator[Finding]:
    """Architecture and features."""
    if source.architecture and source.architecture != target.architecture:
        fault = f"the source's processor is a {source.architecture}, the target's a {target.architecture}"
        yield Finding(
            "processor", Grade.FAIL, fault, "other_architecture", f"choose a target with {source.architecture}"
        )
        return
    missing = sorted(set(source.cpu_flags.split()) - set(target.cpu_flags.split()))
    needed = [flag for flag in missing if not source.architecture.startswith("x86") or _is_for_programs(flag)]
    if needed:
        fault = f"the target's processor lacks what the source's has: {_some(needed)}"
        remedy = "choose a target whose processor has all of them, or let both be virtual machines of one CPU model"
        yield Finding("processor", Grade.FAIL, fault, "cpu_features", remedy)
    elif missing:
        fault = f"the processors differ in what only kernels use: {_some(missing)}"
        yield Finding("processor", Grade.WARN, fault, "cpu_features_differ", "nothing, if both kernels are meant so")
    elif source.cpu_flags:
        yield Finding("processor", Grade.PASS, f"{target.architecture}, all {len(source.cpu_flags.split())} features")


def compare_kernels(source: str, target: str) -> Iterator[Finding]:
    """Warn of an older one: nobody can say what a program uses."""
    if parse_version(target)[:2] < parse_version(source)[:2]:
        fault = f"the target's kernel {target} is older than the source's {source}"
        yield Finding(
            "kernel", Grade.WARN, fault, "older_kernel", "bring the target's kernel up to the source's version"
        )
    else:
        yield Finding("kernel", Grade.PASS, f"kernel {target}")


def compare_cgroups(source: str, target: str) -> Iterator[Finding]:
    """Version 1 and version 2."""
    if source and target and source != target:
        fault = f"the source has cgroups {source}, the target {target}"
        remedy = "boot both with the same: systemd.unified_cgroup_hierarchy=1 (or 0) on the kernel's command line"
        yield Finding("cgroups", Grade.FAIL, fault, "cgroup_mode", remedy)
    elif target:
        yield Finding("cgroups", Grade.PASS, f"cgroups {target}")


def compare_criu(source: str, target: str) -> Iterator[Finding]:
    """Warn of an older reader."""
    if source and target and parse_version(target)[:2] < parse_version(source)[:2]:
        fault = f"the target's CRIU {target} is older than the {source} that writes the images"
        yield Finding("criu-images", Grade.WARN, fault, "older_criu", "install the source's version on the target")


def _source(arrival: Arrival) -> Traits | None:
    known = arrival.facts.get("source_traits")
    return Traits.from_facts(known) if known else None


def _is_for_programs(flag: str) -> bool:
    return flag.startswith(tuple(FOR_PROGRAMS))


def _some(flags: list[str]) -> str:
    more = f" and {len(flags) - SHOWN} more" if len(flags) > SHOWN else ""
    return ", ".join(flags[:SHOWN]) + more
