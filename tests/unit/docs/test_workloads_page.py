"""docs/workloads.md has a row for each workload, and its table survives being read and written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.workloads import WORKLOADS, page


def test_every_workload_has_a_row_and_every_refusal_its_reason() -> None:
    table = page.read_table()
    assert {name: row.title for name, row in table.rows.items()} == {name: w.title for name, w in WORKLOADS.items()}
    assert all(row.result and row.podman for row in table.rows.values())
    named = {row.result.partition("`")[2].rstrip("`") for row in table.rows.values()} - {""}
    assert named == set(table.reasons)


def test_what_is_written_is_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "workloads.md"
    shutil.copy(page.PAGE, copy)
    monkeypatch.setattr(page, "PAGE", copy)
    table = page.read_table()
    page.write_table(table)
    assert page.read_table() == table
    changed = table.with_row("ticker", "It ticks", result="refused: `why`").only(["ticker"])
    page.write_table(changed)
    assert list(page.read_table().rows) == ["ticker"]
    assert page.read_table().rows["ticker"].result == "refused: `why`"
