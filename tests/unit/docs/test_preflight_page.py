"""docs/preflight.md names every check, every code that a check can give, and every rule about CRIU's log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migrator.criu.log import RULES
from migrator.service import preflight
from migrator.service.preflight.checks import SOURCE_CHECKS, TARGET_CHECKS, name_of
from migrator.service.preflight.files import UNKNOWN_TO_CRIU
from migrator.service.preflight.versions import KNOWN_BAD

PAGE = (Path(__file__).parents[3] / "docs" / "preflight.md").read_text()
SOURCE, TARGET = (PAGE.split("\n## ")[number] for number in (1, 2))


@pytest.mark.parametrize("name", [name_of(check) for check in SOURCE_CHECKS])
def test_every_check_on_the_source_is_explained(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| ", SOURCE, re.MULTILINE)


@pytest.mark.parametrize("name", [name_of(check) for check in TARGET_CHECKS])
def test_every_check_on_the_target_is_explained(name: str) -> None:
    assert f"`{name}`" in TARGET


def test_no_check_is_explained_that_is_not_made() -> None:
    told = re.findall(r"^\| `([\w-]+)` \| ", SOURCE + TARGET, re.MULTILINE)
    assert set(told) <= {name_of(check) for check in (*SOURCE_CHECKS, *TARGET_CHECKS)}


def given_codes() -> set[str]:
    """The codes that stand in the checks' source: in refusals, in findings, and in errors that they raise."""
    text = "".join(file.read_text() for file in sorted(Path(preflight.__path__[0]).glob("*.py")))
    patterns = (r'refusal\(\s*"[\w-]+",\s*"(\w+)"', r'Finding\([^()]*?,\s*[^"()]+,\s*"([a-z]+_\w+)"', r'code="(\w+)"')
    return {code for pattern in patterns for code in re.findall(pattern, text)}


def test_every_code_is_explained() -> None:
    codes = given_codes() | {code for code, _ in UNKNOWN_TO_CRIU.values()} | {entry.code for entry in KNOWN_BAD}
    assert len(codes) > 40
    assert [code for code in sorted(codes) if f"`{code}`" not in PAGE] == []


@pytest.mark.parametrize("code", [f"criu_{rule.code}" for rule in RULES])
def test_every_rule_about_the_log_is_listed(code: str) -> None:
    assert f"| `{code}` | " in PAGE
