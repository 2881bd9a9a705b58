"""The schema revisions are one chain: two that were written at the same time must not follow the same one."""

from __future__ import annotations

import re
from pathlib import Path

from migrator.models.revisions import versions

FILES = sorted(Path(versions.__path__[0]).glob("r*.py"))


def told(file: Path, name: str) -> str | None:
    found = re.search(rf'^{name} = (?:"(\d+)"|None)$', file.read_text(), re.MULTILINE)
    assert found, f"{file.name} has no {name}"
    return found[1]


def test_each_revision_follows_the_one_before() -> None:
    numbers = [f"{number:04}" for number in range(1, len(FILES) + 1)]
    assert [file.name[1:5] for file in FILES] == numbers
    assert [told(file, "revision") for file in FILES] == numbers
    assert [told(file, "down_revision") for file in FILES] == [None, *numbers[:-1]]
