from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed
from migrator.lab.mirror import find_mirror, parse_lines, parse_stanzas


def test_one_line_sources() -> None:
    text = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://options.example/debian bookworm main # a remark
deb-src http://source.example/debian bookworm main
deb http://plain.example/debian bookworm main
deb
"""
    assert parse_lines(text) == ["http://options.example/debian", "http://plain.example/debian"]


def test_options_with_blanks() -> None:
    assert parse_lines("deb [ arch=amd64 ] http://a.example/debian s main") == ["http://a.example/debian"]


def test_deb822_sources() -> None:
    text = """\
Types: deb
# a remark within
URIs: http://first.example/debian
 http://second.example/debian
Suites: bookworm

Types: deb-src
URIs: http://source.example/debian

Enabled: no
Types: deb
URIs: http://disabled.example/debian

types: deb deb-src
uris: http://third.example/debian-security
"""
    assert parse_stanzas(text) == [
        "http://first.example/debian",
        "http://second.example/debian",
        "http://third.example/debian-security",
    ]


def write_sources(apt: Path, **files: str) -> None:
    (apt / "sources.list.d").mkdir()
    for name, text in files.items():
        (apt / "sources.list.d" / name.replace("_", ".")).write_text(text)


def test_the_main_archive_is_chosen_whatever_stands_before_it(tmp_path: Path) -> None:
    write_sources(
        tmp_path,
        a_list="deb http://other.example/node nodistro main\n",
        b_sources="Types: deb\nURIs: http://m.example/debian-security\n\nTypes: deb\nURIs: http://m.example/debian/\n",
    )
    assert find_mirror(tmp_path) == "http://m.example/debian"


def test_files_of_other_endings_are_ignored_as_apt_does(tmp_path: Path) -> None:
    write_sources(tmp_path, a_disabled="deb http://m.example/debian s main\n")
    with pytest.raises(PreconditionFailed, match="no Debian archive") as failure:
        find_mirror(tmp_path)
    assert failure.value.remedy
