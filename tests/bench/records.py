"""Figures of one run: medians with minimum and maximum, kept as a list of records, compared as ratios."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from tests.bench.load import Load
from tests.bench.systems import Sample, System

Row = TypeVar("Row")
FIGURES = ("freeze_ms", "total_ms", "bytes_moved", "cpu_s", "peak_rss_mib", "client_gap_ms")
FILE = Path(__file__).parents[2] / "docs/benchmarks.json"
FILE_OF_GROWTH = FILE.with_name("benchmarks-growth.json")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure over several moves."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure | None:
        """None when there was nothing to measure."""
        return cls(median(values), min(values), max(values)) if values else None


@dataclass(frozen=True, slots=True)
class Record:
    """How one system moved one load."""

    system: str
    mode: str
    memory_mib: int
    rewrite_mib_s: int
    place: str
    figures: dict[str, Figure | None]
    moves: int

    @classmethod
    def of(cls, system: System, load: Load, samples: Sequence[Sample]) -> Record:
        """Put the moves of one system together."""
        figures = {
            name: Figure.of([value for sample in samples if (value := getattr(sample, name)) is not None])
            for name in FIGURES
        }
        return cls(system.name, system.mode, load.memory_mib, load.rewrite_mib_s, load.place, figures, len(samples))

    @property
    def load(self) -> Load:
        """What was moved."""
        return Load(self.memory_mib, self.rewrite_mib_s, self.place)

    @property
    def freeze_ms(self) -> float:
        """The median freeze."""
        figure = self.figures["freeze_ms"]
        assert figure is not None
        return figure.median

    def to_json(self) -> dict[str, Any]:
        """One record of docs/benchmarks.json."""
        told = {
            name: figure and {part: getattr(figure, part) for part in Figure.__slots__}
            for name, figure in self.figures.items()
        }
        known = {"system": self.system, "mode": self.mode, "memory_mib": self.memory_mib}
        load = {"rewrite_mib_s": self.rewrite_mib_s, "place": self.place}
        return {**known, **load, "moves": self.moves, **told}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """Read one back."""
        figures = {name: Figure(**data[name]) if data.get(name) else None for name in FIGURES}
        return cls(
            data["system"], data["mode"], data["memory_mib"], data["rewrite_mib_s"], data.get("place", "memory"),
            figures, data.get("moves", 0),
        )  # fmt: skip


def write_records(records: Iterable[Record], file: Path = FILE) -> None:
    """Write them all, a record a line, by what was moved."""
    by_load = sorted(records, key=lambda record: (record.place, record.memory_mib, record.rewrite_mib_s))
    lines = ",\n".join(json.dumps(record.to_json()) for record in by_load)
    file.write_text(f"[\n{lines}\n]\n")


def read_records(file: Path = FILE) -> list[Record]:
    """Read what was written; nothing if there is no file yet."""
    return [Record.from_json(data) for data in json.loads(file.read_text())] if file.exists() else []


def write_rows(rows: Iterable[Any], file: Path) -> None:
    """Write dataclasses of one kind, with plain fields, as a list."""
    file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read_rows(kind: type[Row], file: Path) -> list[Row]:
    """Read what `write_rows` wrote; nothing if there is no file yet."""
    return [kind(**data) for data in json.loads(file.read_text())] if file.exists() else []


def ratio(record: Record, records: Iterable[Record], system: str) -> float | None:
    """A record's freeze as a multiple of another system's with the same load; None when that was not measured."""
    for other in records:
        if other.load == record.load and other.system == system:
            return record.freeze_ms / other.freeze_ms
    return None
