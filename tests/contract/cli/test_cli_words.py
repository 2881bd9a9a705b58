"""What people read: answers on standard output, errors with what to do next on standard error, and the exit code."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.cli import connection, render
from migrator.errors import KINDS, MigratorError
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.models.phase import Phase
from migrator.models.values import ContainerView
from tests.servers.api import CALL_S, ServedApi
from tests.servers.command_line import Answer, run_migrator

Cli = Callable[..., Answer]
LEAVES = [kind for kind in KINDS.values() if not kind.__subclasses__()]
LONG = "a-container-with-a-rather-long-name-for-testing-eighty-columns-0123456789ab"


def refused(answer: Answer, code: int, *said: str) -> None:
    """Nothing on standard output, no stack trace, the words said, and what to do next."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert answer.err.startswith("Error: ")
    assert "  → " in answer.err
    assert "Traceback" not in answer.err
    for words in said:
        assert words in answer.err


# ---- exit codes


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_the_exit_code_of_an_error_that_the_server_tells(
    api: ServedApi, cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: type[MigratorError]
) -> None:
    def fail(_: str) -> None:
        raise kind("job 'mig-1' is not as it should be", host="alpha", remedy="do something")

    monkeypatch.setattr(api.plane, "get_job", fail)
    answer = cli("jobs", "show", "mig-1")
    refused(answer, kind.exit_code, "job 'mig-1' is not as it should be (host alpha)", "  → do something")


@pytest.mark.parametrize("kind", LEAVES, ids=lambda kind: kind.__name__)
def test_the_exit_code_of_a_job_that_failed(api: ServedApi, cli: Cli, kind: type[MigratorError]) -> None:
    job = api.migrate()
    failure = kind("it [broke]", host="alpha", remedy="mend it").to_dict()
    api.move(job.id, Phase.FAILED, failure=failure)
    answer = cli("jobs", "watch", job.id)
    assert answer.code == kind.exit_code
    assert answer.err.splitlines()[-2:] == ["Error: it [broke] (host alpha)", "  → mend it"]
    assert "it [broke]" in cli("jobs", "show", job.id).out


def test_a_job_that_stopped_for_an_operator_without_a_word(api: ServedApi, cli: Cli) -> None:
    job = api.migrate()
    api.move(job.id, Phase.NEEDS_OPERATOR)
    answer = cli("jobs", "watch", job.id)
    assert answer.code == 1
    assert f"job {job.id} needs_operator" in answer.err


def test_wrong_options_end_with_2(cli: Cli) -> None:
    for words in (("jobs", "list", "--no-such-option"), ("migrate",), ("jobs", "list", "-n", "0"), ("nonsense",)):
        answer = cli(*words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err


# ---- bad words


@pytest.mark.parametrize("reference", ["web", "alpha/", "/web", "", "alpha/web/2", "//"])
def test_a_bad_reference(api: ServedApi, cli: Cli, reference: str) -> None:
    refused(cli("migrate", reference, "beta"), 2, f"'{reference}' does not name a container", "alpha/web")
    refused(cli("checkpoints", "create", reference), 2, f"'{reference}'")
    assert not api.plane.list_jobs()


def test_an_unknown_policy_for_connections(api: ServedApi, cli: Cli) -> None:
    for words in (
        ["migrate", "alpha/web", "beta"],
        ["restore", "ck-1", "beta"],
        ["checkpoints", "create", "alpha/web"],
    ):
        refused(cli(*words, "--tcp", "drop"), 2, "'drop' is no policy for TCP connections", "keep, close, refuse")
    assert not api.plane.list_jobs()


def test_an_unknown_state(cli: Cli) -> None:
    refused(cli("jobs", "list", "--state", "done"), 2, "'done' is no state of a job", "succeeded, failed")
    refused(cli("jobs", "list", "--state", "unspecified"), 2, "'unspecified'")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (2, "'a b' cannot be the name of a namespace", ("migrate", "alpha/web", "beta", "--namespace", "a b")),
        (2, "the namespace is empty", ("migrate", "alpha/web", "beta", "--namespace", "")),
        (2, "cannot be the name of a container", ("migrate", "alpha/we b", "beta")),
        (2, "target equals source", ("migrate", "alpha/web", "alpha")),
        (3, "host 'nowhere' is unknown", ("migrate", "alpha/web", "nowhere")),
        (3, "host 'nowhere' is unknown", ("containers", "list", "nowhere")),
        (3, "job 'mig-none' does not exist", ("jobs", "show", "mig-none")),
        (3, "job 'mig-none' does not exist", ("jobs", "watch", "mig-none")),
        (3, "job 'mig-none' does not exist", ("jobs", "cancel", "mig-none")),
        (3, "checkpoint 'ck-none' does not exist", ("checkpoints", "show", "ck-none")),
        (3, "checkpoint 'ck-none' does not exist", ("restore", "ck-none", "beta")),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(cli: Cli, code: int, said: str, words: tuple[str, ...]) -> None:
    refused(cli(*words), code, said)


def test_a_key_that_belongs_to_another_request(cli: Cli, api: ServedApi) -> None:
    job = api.migrate(idempotency_key="again")
    answer = cli("migrate", "alpha/other", "beta", "--idempotency-key", "again")
    refused(answer, 4, "idempotency key 'again'", job.id)


# ---- where the server is


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a server and without labs; gives the directory of labs."""
    monkeypatch.delenv("MIGRATOR_API", raising=False)
    monkeypatch.delenv("MIGRATOR_LAB", raising=False)
    monkeypatch.setattr(connection, "DEFAULT_API_SOCKET", tmp_path / "none.sock")
    monkeypatch.setattr(connection, "LAB_RUN_DIR", tmp_path / "labs")
    return tmp_path / "labs"


def lab_socket(labs: Path, name: str, api: ServedApi | None = None) -> None:
    directory = labs / name / "api"
    directory.mkdir(parents=True)
    (directory / "api.sock").symlink_to(api.socket if api else "/nonexistent")
    if api is None:
        (directory / "api.sock").unlink()
        (directory / "api.sock").touch()


def test_no_server(elsewhere: Path) -> None:
    refused(run_migrator("hosts", "list"), 6, "no migrator server on this machine", "MIGRATOR_API")


def test_the_only_lab_is_found(elsewhere: Path, api: ServedApi) -> None:
    lab_socket(elsewhere, "mine", api)
    assert "alpha" in run_migrator("hosts", "list").out


def test_the_lab_called_lab_comes_first(elsewhere: Path, api: ServedApi) -> None:
    lab_socket(elsewhere, "another")
    lab_socket(elsewhere, "lab", api)
    assert "alpha" in run_migrator("hosts", "list").out


def test_several_labs(elsewhere: Path, api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    lab_socket(elsewhere, "mine", api)
    lab_socket(elsewhere, "yours")
    refused(run_migrator("hosts", "list"), 2, "several labs run (mine, yours)", "--api unix://")
    assert "alpha" in run_migrator("hosts", "list", "--api", api.address).out
    monkeypatch.setenv("MIGRATOR_LAB", "mine")
    assert "alpha" in run_migrator("hosts", "list").out


@pytest.mark.parametrize("address", ["unix:///no/such/api.sock", "127.0.0.1:1", "nonsense:", "no.such.host.invalid:1"])
def test_a_server_that_is_not_there(elsewhere: Path, address: str) -> None:
    began = time.monotonic()
    refused(run_migrator("hosts", "list", "--api", address), 6, address, "migrator server")
    assert time.monotonic() - began < 14


def test_a_dead_server(api: ServedApi, cli: Cli) -> None:
    api.stop()
    refused(cli("jobs", "list"), 6, api.address, "migrator server")
    refused(cli("migrate", "alpha/web", "beta"), 6, api.address)


def test_a_server_that_says_nothing(api: ServedApi, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CALL_S", 0.3)
    monkeypatch.setattr(api.plane, "list_hosts", lambda: time.sleep(1.0) or [])
    refused(cli("hosts", "list"), 12, "did not answer in time", "migrator jobs list")


def test_a_server_that_dies_under_a_watch(api: ServedApi, cli: Cli) -> None:
    job = api.migrate()
    threading.Timer(0.3, api.stop).start()
    answer = cli("jobs", "watch", job.id)
    assert answer.code == 6
    assert f"job {job.id} may go on: `migrator jobs watch {job.id}`" in answer.err


def test_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIGRATOR_LOG_LEVEL", "loud")
    refused(run_migrator("hosts", "list"), 2, "log_level")


def test_an_interrupt_names_the_job_and_ends_with_130(api: ServedApi) -> None:
    job = api.migrate()
    watching = subprocess.Popen(
        [sys.executable, "-m", "migrator", "jobs", "watch", job.id, "--api", api.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=10)
    assert (watching.returncode, out) == (130, "")
    assert f"job {job.id} goes on; `migrator jobs cancel {job.id}` takes it back" in err
    assert "Traceback" not in err


def test_a_reader_that_has_seen_enough(api: ServedApi, cli: Cli) -> None:
    command = f"{sys.executable} -m migrator jobs list --json --api {api.address}"
    for _ in range(40):
        api.migrate()
    done = subprocess.run(["sh", "-c", f"{command} | head -c 10"], capture_output=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (b"[\n  {\n    ", b"")


# ---- export


def test_an_export_replaces_nothing_unless_told(api: ServedApi, cli: Cli, tmp_path: Path) -> None:
    api.keep_checkpoint()
    file = tmp_path / "out" / "web.tar"
    file.parent.mkdir()
    file.write_text("mine")
    refused(cli("checkpoints", "export", "ck-1", str(file)), 4, f"{file} exists already", "--force")
    assert file.read_text() == "mine"
    assert cli("checkpoints", "export", "ck-1", str(file), "--force").code == 0
    assert file.read_bytes()[257:262] == b"ustar"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600, "it holds the memory of a program"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("fault", ["corrupt", "unavailable"])
def test_an_export_that_fails_leaves_no_file(api: ServedApi, cli: Cli, tmp_path: Path, fault: str) -> None:
    api.keep_checkpoint()
    setattr(api.objects.faults, fault, True)
    (tmp_path / "out").mkdir()
    answer = cli("checkpoints", "export", "ck-1", str(tmp_path / "out" / "web.tar"))
    refused(answer, 10 if fault == "corrupt" else 6)
    assert not list((tmp_path / "out").iterdir())


def test_an_export_of_nothing_leaves_no_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    refused(cli("checkpoints", "export", "ck-none", str(tmp_path / "out" / "web.tar")), 3, "ck-none")
    assert not list((tmp_path / "out").iterdir())


def test_an_export_to_where_no_file_can_be(api: ServedApi, cli: Cli, tmp_path: Path) -> None:
    api.keep_checkpoint()
    refused(cli("checkpoints", "export", "ck-1", str(tmp_path / "none" / "web.tar")), 2, "No such file or directory")
    refused(cli("checkpoints", "export", "ck-1", str(tmp_path), "--force"), 2, "Is a directory")
    refused(cli("checkpoints", "export", "ck-1", "/dev/full/web.tar"), 2, "Not a directory")


def test_an_export_to_standard_output_is_the_archive_alone(api: ServedApi, cli: Cli) -> None:
    api.keep_checkpoint()
    answer = cli("checkpoints", "export", "ck-1", "-")
    assert answer.raw == b"".join(api.plane.export_checkpoint("ck-1"))
    assert answer.err.startswith("-: ")
    refused_twice = cli("checkpoints", "export", "ck-1", "-", "--json")
    assert (refused_twice.code, refused_twice.data["error"]["code"]) == (2, "bad_output")


# ---- looks


def test_nothing_is_cut_off_for_another_program(api: ServedApi, cli: Cli) -> None:
    image = "registry.invalid/a/rather/long/name/of/an/image/" + "x" * 80 + ":1"
    api.show(ContainerView("alpha", "default", LONG, "running", image, 42, 80_000_000))
    (row,) = cli("containers", "list").out.splitlines()[1:]
    assert row.split() == ["alpha", "default", LONG, "running", "80.0", "MB", image]
    api.migrate(container=LONG)
    assert f"alpha/{LONG}" in cli("jobs", "list").out


def test_brackets_mean_nothing(api: ServedApi, cli: Cli) -> None:
    api.show(ContainerView("alpha", "default", "web", "running", "[red]local[/]/[/x]web"))
    assert "[red]local[/]/[/x]web" in cli("containers", "list").out


def test_a_watch_shows_phases_on_standard_error(api: ServedApi, cli: Cli) -> None:
    job = api.migrate()
    phases = (Phase.PREFLIGHT, Phase.UPLOADING, Phase.SUCCEEDED)

    def drive() -> None:
        for phase in phases:
            time.sleep(0.4)
            api.move(job.id, phase)

    driver = threading.Thread(target=drive)
    driver.start()
    answer = cli("jobs", "watch", job.id)
    driver.join()
    assert answer.err.splitlines() == [f"{job.id}: {phase}" for phase in ("accepted", *phases)]
    assert answer.out.startswith("succeeded in ")


def test_a_watch_on_a_terminal_shows_steps_and_bytes(api: ServedApi) -> None:
    job = api.migrate()
    api.move(job.id, Phase.UPLOADING, start="upload")
    api.report(job.id, "upload", 8_000_000, 76_000_000)
    threading.Timer(2.5, lambda: api.move(job.id, Phase.SUCCEEDED)).start()
    command = f"{sys.executable} -m migrator jobs watch {job.id} --api {api.address}"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "30"},
    )
    assert done.returncode == 0, done
    for words in (f"job {job.id}: uploading", "8.0 MB of 76.0 MB", "release-target", "succeeded"):
        assert words in done.stdout


def test_words_for_people(api: ServedApi, cli: Cli) -> None:
    api.keep_checkpoint()
    api.beat("beta", age_s=60)
    assert cli("hosts", "list").out.splitlines()[2].split()[:4] == ["beta", "silent", "1m", "2.1.9"]
    assert cli("checkpoints", "list").out.splitlines()[1].split()[:4] == ["ck-1", "default", "web", "alpha"]
    assert "rw-diff" in cli("checkpoints", "show", "ck-1").out
    api.beat("beta")
    job = api.migrate()
    assert cli("jobs", "cancel", job.id).out == f"job {job.id} is being taken back\n"
    shown = cli("jobs", "show", job.id).out
    assert shown.splitlines()[0] == f"{job.id}  migration  alpha/web → beta  queued"
    assert "inspect-source" in shown


def test_a_very_long_fact_is_cut_short_for_people_alone(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("id", "namespace", "container", "host", "image")
    flags = "flag " * 200
    shown = dict.fromkeys(names, "x") | {"size_bytes": 1, "parts": [], "facts": {"io.migrator.cpu-flags": flags}}
    shown |= {"proven_at": None, "drill_failure": "", "pinned_at": None, "verified_at": None}
    render.checkpoint(shown)
    (line,) = capsys.readouterr().out.splitlines()[2:]
    assert line.endswith("… (see --json)")
    assert len(line) < 250


def test_a_checkpoint_that_was_taken_is_named(api: ServedApi, cli: Cli) -> None:
    request = pb.CreateJobRequest(kind=pb.JOB_KIND_CHECKPOINT, source="alpha", container="web")
    job = api.jobs.CreateJob(request, timeout=CALL_S).job
    api.move(job.id, Phase.SUCCEEDED)
    assert cli("jobs", "watch", job.id).out.endswith(f"; checkpoint {job.checkpoint_id}\n")
