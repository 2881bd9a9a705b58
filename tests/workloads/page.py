"""The table in `docs/workloads.md`: written from what the tests saw, and read by them as what must be so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "workloads.md"
BEGIN, END = "<!-- begin: written by `make workloads` and `make compare-podman` -->\n", "<!-- end -->\n"
HEAD = "| workload | what it is | migrator | freeze | podman | its pause |\n|---|---|---|---|---|---|\n"
LINE = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.*?) \| (.*?) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One workload; a column that nobody has measured yet is empty."""

    title: str
    result: str = ""
    """`moves`; `refused: CODE`, by preflight; `fails: CODE`, found out in the freeze, and the source went on."""
    freeze: str = ""
    podman: str = ""
    pause: str = ""


@dataclass(frozen=True)
class Table:
    """All rows by workload, and what was used, by column."""

    rows: Mapping[str, Row]
    used: Mapping[str, str]
    reasons: Mapping[str, str]

    def with_row(self, name: str, title: str, **columns: str) -> Table:
        """Return the table with some columns of one row replaced."""
        row = replace(self.rows.get(name, Row(title)), title=title, **columns)
        return replace(self, rows={**self.rows, name: row})

    def only(self, names: list[str]) -> Table:
        """Return the table without the rows of workloads that exist no more, and without reasons that nobody gives."""
        rows = {name: row for name, row in self.rows.items() if name in names}
        given = {match for row in rows.values() for match in re.findall(r"`(\w+)`", row.result)}
        return replace(self, rows=rows, reasons={code: why for code, why in self.reasons.items() if code in given})


def read_table() -> Table:
    """Read the table from the page."""
    text = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = {name: Row(*columns) for name, *columns in LINE.findall(text)}
    used = dict(re.findall(r"^\* ([\w-]+): (.+)$", text, re.MULTILINE))
    return Table(rows, used, dict(re.findall(r"^\* `(\w+)`: (.+)$", text, re.MULTILINE)))


def write_table(table: Table) -> None:
    """Replace the table in the page; what is written around it stays."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    lines = [f"| `{name}` | {' | '.join(vars(row).values())} |\n" for name, row in sorted(table.rows.items())]
    used = [f"* {what}: {versions}\n" for what, versions in sorted(table.used.items())]
    reasons = [f"* `{code}`: {why}\n" for code, why in sorted(table.reasons.items())]
    told = [HEAD, *lines, "\nUsed:\n\n", *used, "\nReasons:\n\n", *reasons]
    PAGE.write_text("".join([before, BEGIN, *told, END, after]))
