"""Which policy a bind mount has, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import IntegrityError
from migrator.models.values import TcpPolicy
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy, made_on_target, read_volumes
from migrator.service.preflight.volumes import examine_places
from migrator.service.steps.criu_options import CONFIG_ANNOTATION, CriuOptions, read_options, with_options
from migrator.service.volumes.declared import Bind, find_declared

SPEC = {
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data/", "type": "bind", "source": "/srv/data", "options": ["rbind"]},
        {"destination": "/cfg", "type": "none", "source": "/srv/cfg", "options": ["bind", "ro"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
    ]
}


def test_a_job_outranks_a_label() -> None:
    labels = {"io.migrator.volume/data": "shared", "io.migrator.volume/cfg": "shared", "io.migrator.volumes": "x"}
    declared = find_declared(SPEC, {"/data": VolumePolicy.COPY}, labels)
    assert declared.policies == {
        Bind("/data", "/srv/data"): VolumePolicy.COPY,
        Bind("/cfg", "/srv/cfg"): VolumePolicy.SHARED,
    }
    assert (declared.undeclared, declared.unknown, declared.bad_labels) == ((), (), ())


def test_what_is_wrong_is_named() -> None:
    declared = find_declared(SPEC, {"/dta": VolumePolicy.COPY}, {"io.migrator.volume/cfg": "move"})
    assert declared.undeclared == ("/data", "/cfg")
    assert declared.unknown == ("/dta",)
    assert declared.bad_labels == ("io.migrator.volume/cfg=move",)


def test_one_source_behind_two_destinations_is_made_once() -> None:
    twice = [Volume(name, "/srv", VolumePolicy.COPY, VolumeKind.DIRECTORY) for name in ("/a", "/b")]
    assert len(made_on_target(twice)) == 1


@pytest.mark.parametrize("source", ["srv", "/srv/../etc", None])
def test_a_stranger_names_no_odd_path(source: str | None) -> None:
    item = Volume("/data", "/srv", VolumePolicy.COPY, VolumeKind.DIRECTORY).to_facts() | {"source": source}
    with pytest.raises(IntegrityError):
        read_volumes([item])


def test_volumes_survive_their_json_form() -> None:
    volumes = (Volume("/data", "/srv", VolumePolicy.COPY, VolumeKind.FILE, 0o640, 1, 2, 3, "volume-0"),)
    assert read_volumes([volume.to_facts() for volume in volumes]) == volumes


def test_places_on_the_target(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    (tmp_path / "empty").mkdir()

    def code(
        name: str, policy: VolumePolicy, kind: VolumeKind = VolumeKind.DIRECTORY, size_bytes: int = 0
    ) -> list[str]:
        item = Volume("/data", str(tmp_path / name), policy, kind, size_bytes=size_bytes)
        return [finding.code for finding in examine_places([item])]

    assert code("empty", VolumePolicy.COPY) == []
    assert code("not/there", VolumePolicy.COPY) == []
    assert code("full", VolumePolicy.COPY) == ["volume_exists"]
    assert code("full", VolumePolicy.EMPTY) == ["volume_exists"]
    assert code("empty", VolumePolicy.COPY, VolumeKind.FILE) == ["volume_exists"]
    assert code("full/file/below", VolumePolicy.COPY) == ["volume_exists"]
    assert code("full", VolumePolicy.SHARED) == []
    assert code("full", VolumePolicy.SHARED, VolumeKind.FILE) == ["volume_missing"]
    assert code("not", VolumePolicy.SHARED) == ["volume_missing"]
    assert code("empty", VolumePolicy.COPY, size_bytes=1 << 60) == ["no_room"]


def test_criu_is_told_again_what_it_was_told(tmp_path: Path) -> None:
    file, own = tmp_path / "criu.conf", tmp_path / "own.conf"
    options = CriuOptions(tcp=TcpPolicy.KEEP, external_unix=True)
    assert read_options({"tcp": "keep", "file_locks": True, "external_unix": True}) == options
    spec = with_options({"annotations": {"a": "b"}}, options, file)
    assert spec["annotations"] == {"a": "b", CONFIG_ANNOTATION: str(file)}
    assert file.read_text() == "tcp-established\nfile-locks\next-unix-sk\n"
    own.write_text("ghost-limit 1M\n")
    with_options({"annotations": {CONFIG_ANNOTATION: str(own)}}, CriuOptions(), file)
    assert file.read_text() == "ghost-limit 1M\nfile-locks\n"
    assert with_options({}, read_options({}), tmp_path / "none") == {}
    assert not (tmp_path / "none").exists()
