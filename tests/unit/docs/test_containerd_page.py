"""What docs/containerd.md says is proved has a test of that name."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "containerd.md"
PROOF = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def read_tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        functions = {node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)}
        found.setdefault(file.name, set()).update(functions)
    return found


def test_every_test_that_the_page_names_exists() -> None:
    named = PROOF.findall(PAGE.read_text())
    exist = read_tests()
    assert len(named) > 80
    assert [f"{file}::{test}" for file, test in named if test not in exist.get(file, ())] == []


def test_every_line_of_its_tables_names_one() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "proved by" not in line]
    unproved = [line for line in lines if not PROOF.search(line) and "left out" not in line]
    assert unproved == []
