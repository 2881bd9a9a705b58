"""CRIU's configuration files as they are read, and the one that a restore gets."""

from __future__ import annotations

from pathlib import Path

from migrator.criu.configuration import option_names, write_options


def test_options_are_named_without_dashes_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "default.conf"
    file.write_text("# ours\ntcp-close\n--ghost-limit 10M # big\n\n")
    found = dict(option_names([str(file), str(tmp_path / "absent")]))
    assert found[str(file)] == {"tcp-close", "ghost-limit"}
    assert str(tmp_path / "absent") not in found


def test_what_stood_in_the_usual_file_is_kept(tmp_path: Path) -> None:
    usual, made = tmp_path / "runc.conf", tmp_path / "criu.conf"
    usual.write_text("ghost-limit 10M\n")
    write_options(made, ["tcp-established"], usual)
    assert made.read_text() == "ghost-limit 10M\ntcp-established\n"


def test_without_the_usual_file_there_are_only_the_options(tmp_path: Path) -> None:
    write_options(tmp_path / "criu.conf", ["tcp-close"], tmp_path / "absent")
    assert (tmp_path / "criu.conf").read_text() == "tcp-close\n"
