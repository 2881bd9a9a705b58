"""What a restore tells CRIU again, and what of a checkpoint is not believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrator.criu import configuration
from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.service.steps.criu_options import CriuOptions, options_to_replay, replayed_options

HELD = {"tcp": "keep", "file_locks": True, "external_unix": False}


def test_only_images_with_a_connection_need_an_option(tmp_path: Path) -> None:
    told = CriuOptions(tcp=TcpPolicy.KEEP)
    assert options_to_replay(told, tmp_path)["tcp"] == "refuse"
    (tmp_path / "tcp-stream-1a.img").touch()
    assert options_to_replay(told, tmp_path) == HELD


@pytest.mark.parametrize(("tcp", "option"), [(TcpPolicy.KEEP, "tcp-established"), (TcpPolicy.CLOSE, "tcp-close")])
def test_connections_go_on_or_are_closed_as_the_job_says(tcp: TcpPolicy, option: str) -> None:
    assert replayed_options(HELD, tcp).lines() == [option, "file-locks"]
    assert replayed_options(HELD | {"tcp": "refuse"}, tcp).lines() == ["file-locks"]


def test_an_older_checkpoint_needs_nothing() -> None:
    assert replayed_options(None, TcpPolicy.KEEP).lines() == []


@pytest.mark.parametrize(
    "said", [["tcp-close"], {"a": True}, {"tcp": "x\naction-script /bin/sh"}, {"file_locks": "yes"}]
)
def test_other_options_of_a_checkpoint_are_refused(said: Any) -> None:
    with pytest.raises(IntegrityError):
        replayed_options(said, TcpPolicy.KEEP)


def test_what_stood_in_the_usual_file_is_kept(tmp_path: Path) -> None:
    usual, made = tmp_path / "runc.conf", tmp_path / "criu.conf"
    usual.write_text("# ours\nghost-limit 10M # big\n")
    configuration.write_options(made, ["tcp-established"], usual)
    assert made.read_text() == "ghost-limit 10M\ntcp-established\n"


def test_without_the_usual_file_there_are_only_the_options(tmp_path: Path) -> None:
    configuration.write_options(tmp_path / "criu.conf", ["tcp-close"], tmp_path / "absent")
    assert (tmp_path / "criu.conf").read_text() == "tcp-close\n"
