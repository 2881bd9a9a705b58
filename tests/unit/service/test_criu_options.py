"""What a restore tells CRIU again, and what of a checkpoint is not believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.service.preflight import criu_configuration
from migrator.service.preflight.criu_configuration import contradictions
from migrator.service.steps.criu_options import options_to_replay, replayed_options
from migrator.service.steps.restored_spec import with_criu_config
from migrator.storage.oci import CheckpointIndex


def index(annotations: dict[str, str]) -> CheckpointIndex:
    return CheckpointIndex("sha256:0", (), annotations)


SAID = "io.migrator.criu-options"


def test_only_images_with_a_connection_need_an_option(tmp_path: Path) -> None:
    assert options_to_replay(tmp_path) == []
    (tmp_path / "tcp-stream-1a.img").touch()
    assert options_to_replay(tmp_path) == ["tcp-established"]


@pytest.mark.parametrize(("tcp", "option"), [(TcpPolicy.KEEP, "tcp-established"), (TcpPolicy.CLOSE, "tcp-close")])
def test_connections_go_on_or_are_closed_as_the_job_says(tcp: TcpPolicy, option: str) -> None:
    assert replayed_options(index({SAID: '["tcp-established"]'}), tcp) == [option]


def test_an_older_checkpoint_needs_nothing() -> None:
    assert replayed_options(index({}), TcpPolicy.KEEP) == []


@pytest.mark.parametrize("said", ['["action-script /bin/sh"]', '{"a": 1}', '"tcp-established"', "["])
def test_other_options_of_a_checkpoint_are_refused(said: str) -> None:
    with pytest.raises(IntegrityError):
        replayed_options(index({SAID: said}), TcpPolicy.KEEP)


def test_a_spec_keeps_its_annotations() -> None:
    spec = with_criu_config({"annotations": {"a": "b"}}, Path("/w/criu.conf"))
    assert spec["annotations"] == {"a": "b", "org.criu.config": "/w/criu.conf"}


def test_a_hosts_file_that_contradicts_the_job_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [("/etc/criu/default.conf", frozenset({"tcp-close", "ghost-limit"}))]
    monkeypatch.setattr(criu_configuration, "option_names", lambda: iter(files))
    [found] = contradictions(TcpPolicy.KEEP)
    assert found.code == "criu_configuration"
    assert "/etc/criu/default.conf says tcp-close" in found.message
    assert list(contradictions(TcpPolicy.CLOSE)) == []
