"""What a restore tells CRIU again, and what of a checkpoint is not believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from migrator.criu import configuration
from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.service.steps import criu_options
from migrator.service.steps.criu_options import CriuOptions, options_to_replay, replayed_options, usual_file_counts

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


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's parent stands for a shim, and the bundle names a file of a job that is over."""
    named = tmp_path / "criu" / "job-1" / "criu.conf"
    monkeypatch.setattr(criu_options, "_file_of_restore", lambda _: named)
    return named


def test_while_a_restored_task_is_dumped_the_usual_file_counts(restored: Path, tmp_path: Path) -> None:
    usual = tmp_path / "runc.conf"
    usual.write_text("ghost-limit 10M\n")
    spec = {"annotations": {"org.criu.config": str(usual)}}
    with usual_file_counts(1, spec, tmp_path / "criu"):
        assert restored.read_text() == "ghost-limit 10M\n"
    assert not restored.parent.exists()


def test_no_file_is_written_elsewhere(restored: Path, tmp_path: Path) -> None:
    with usual_file_counts(1, {}, tmp_path / "elsewhere"):
        assert not restored.exists()


def test_the_file_of_a_job_that_is_not_over_is_left_alone(restored: Path, tmp_path: Path) -> None:
    restored.parent.mkdir(parents=True)
    restored.write_text("tcp-established\n")
    with usual_file_counts(1, {}, tmp_path / "criu"):
        pass
    assert restored.read_text() == "tcp-established\n"
