"""What CRIU is told beside what runtime and shim tell it; at a restore only a file of CRIU's own can say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
CONFIG_ANNOTATION = "org.criu.config"
"""Of a container's spec: runc hands the file that it names to CRIU; one that is gone is passed over."""


@dataclass(frozen=True, slots=True)
class CriuOptions:
    """The options of a dump, which its restore needs again."""

    tcp: str = "refuse"
    """`refuse`, `keep` or `close` open TCP connections."""
    file_locks: bool = True
    """The processes of a container hold their locks themselves: they are taken along, and where there are none this
    costs nothing."""
    external_unix: bool = False

    def lines(self) -> list[str]:
        """As they stand in CRIU's configuration file (criu(8), CONFIGURATION FILES)."""
        wanted = {
            "tcp-established": self.tcp == "keep",
            "tcp-close": self.tcp == "close",
            "file-locks": self.file_locks,
            "ext-unix-sk": self.external_unix,
        }
        return [option for option, on in wanted.items() if on]


def read_options(told: Mapping[str, Any]) -> CriuOptions:
    """Read what a checkpoint says; one from before says nothing, and had no locks."""
    known = CriuOptions(file_locks=False)
    return CriuOptions(
        tcp=str(told.get("tcp", known.tcp)),
        file_locks=bool(told.get("file_locks", known.file_locks)),
        external_unix=bool(told.get("external_unix", known.external_unix)),
    )


def with_options(spec: Spec, options: CriuOptions, file: Path) -> Spec:
    """Write the options into a file and name it in a spec; what the container's own file says stays in force."""
    annotations = spec.get("annotations") or {}
    lines = [*_lines_of(annotations.get(CONFIG_ANNOTATION)), *options.lines()]
    if not lines:
        return spec
    file.write_text("".join(f"{line}\n" for line in lines))
    return {**spec, "annotations": {**annotations, CONFIG_ANNOTATION: str(file)}}


def _lines_of(file: str | None) -> list[str]:
    try:
        return Path(file).read_text().splitlines() if file else []
    except OSError:
        return []
