"""`--json`: every command prints one value with the keys that docs/cli.md names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import PreconditionFailed, WorkloadFailed
from migrator.models.drains import Passage, PassageStatus
from migrator.models.phase import Phase
from migrator.models.values import ContainerView
from migrator.service.control import engine
from migrator.service.drains.rounds import told
from tests.servers.api import ServedApi
from tests.servers.command_line import Answer

Cli = Callable[..., Answer]
DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"


def documented(name: str) -> set[str]:
    """The keys that the table of docs/cli.md gives for a value."""
    (row,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {name} |")]
    return {word.strip().strip("`") for word in row.split("|")[2].split(",")}


def assert_keys(value: dict[str, Any], name: str) -> None:
    assert set(value) == documented(name)


@contextmanager
def once_there(api: ServedApi, act: Callable[[str], object]) -> Iterator[None]:
    """Do something as soon as there is a job."""

    def wait() -> None:
        while not (jobs := api.plane.list_jobs()):
            time.sleep(0.02)
        time.sleep(0.3)  # the watch has begun
        act(jobs[0].id)

    waiting = threading.Thread(target=wait)
    waiting.start()
    yield
    waiting.join()


@pytest.fixture
def job_id(api: ServedApi) -> str:
    return api.migrate().id


def test_hosts_list(cli: Cli) -> None:
    answer = cli("hosts", "list", "--json")
    assert [host["name"] for host in answer.data] == ["alpha", "beta"]
    assert {"name", "alive", "seen_at", "kernel", "criu", "containerd", "cpus"} <= set(answer.data[0])
    others = {"memory_bytes", "memory_free_bytes", "disk_free_bytes", "migrator"}
    assert documented("host") <= set(answer.data[0]) | others


def test_hosts_cordon_and_uncordon(cli: Cli) -> None:
    answer = cli("hosts", "cordon", "beta", "--reason", "new disks", "--json")
    assert_keys(answer.data["cordon"], "cordon")
    assert answer.data["cordon"]["reason"] == "new disks"
    assert ", cordoned" in cli("hosts", "list").out
    refused = cli("migrate", "alpha/web", "beta", "--json")
    assert (refused.code, refused.data["error"]["code"]) == (5, "host_cordoned")
    assert cli("hosts", "uncordon", "beta", "--json").data["cordon"] is None
    assert cli("hosts", "cordon", "nowhere").code == 3


def test_drain(api: ServedApi, cli: Cli) -> None:
    refused = cli("drain", "alpha", "--json")
    assert (refused.code, refused.data["error"]["code"]) == (2, "not_confirmed"), "nobody can be asked"
    assert api.plane.list_jobs() == []
    for words in (("-l", "a b"), ("--return-after", "soon"), ("--to", "alpha"), ("--return", "--to", "beta")):
        assert cli("drain", "alpha", "--yes", *words).code == 2
    words = ("--to", "beta", "-l", "app=web", "--return-after", "1h30m")
    with once_there(api, lambda job_id: end_drain(api, job_id)):
        answer = cli("drain", "alpha", "--yes", *words, "--json", "--wait")
    assert_keys(answer.data["drain"], "drain")
    assert answer.data["drain"]["return_after_s"] == 5400
    (stays,) = answer.data["drain"]["containers"]
    assert_keys(stays, "drained container")
    assert (stays["status"], stays["reason"]["code"], answer.code) == ("refused", "io_uring", 5)
    shown = cli("jobs", "show", answer.data["id"]).out
    assert "default/web" in shown
    assert "it uses io_uring" in shown


def end_drain(api: ServedApi, job_id: str) -> None:
    reason = PreconditionFailed("it uses io_uring", code="io_uring").to_dict()
    passage = Passage("default", "web", "alpha", PassageStatus.REFUSED, reason=reason)
    with api.database.transaction() as tx:
        job = tx.jobs.get(job_id)
        tx.jobs.save(job, engine.hold(job, job.steps[0], told([passage]), job.updated_at))
    api.move(job_id, Phase.FAILED, failure=PreconditionFailed("one stays", code="drain_incomplete").to_dict())


def test_hosts_remove(api: ServedApi, cli: Cli, job_id: str) -> None:
    api.beat("beta", age_s=60)
    assert cli("hosts", "remove", "beta", "--json").code == 2, "nobody removes a host by a slip"
    assert cli("hosts", "remove", "beta", "--gone", "--json").data == {"host": "beta", "jobs": [job_id]}
    assert cli("hosts", "remove", "alpha", "--gone").code == 5


def test_containers_list(api: ServedApi, cli: Cli) -> None:
    api.show(ContainerView("alpha", "default", "web", "running", "local/web:1", 42, 80, {"tier": "front"}))
    answer = cli("containers", "list", "alpha", "--json")
    assert_keys(answer.data[0], "container")
    assert (answer.data[0]["name"], answer.data[0]["labels"], answer.code) == ("web", {"tier": "front"}, 0)


def test_containers_list_with_a_silent_host(api: ServedApi, cli: Cli) -> None:
    api.show(ContainerView("alpha", "default", "web", "running"))
    api.beat("beta", age_s=60)
    answer = cli("containers", "list", "--json")
    assert [item["name"] for item in answer.data] == ["web"]
    assert answer.code == 6
    assert "host 'beta' has no live worker" in answer.err
    assert "migrator worker --host beta" in answer.err


def test_jobs_list_and_show(api: ServedApi, cli: Cli, job_id: str) -> None:
    (listed,) = cli("jobs", "list", "--json").data
    shown = cli("jobs", "show", job_id, "--json").data
    assert listed == shown
    assert_keys(shown, "job")
    assert_keys(shown["steps"][0], "step")
    assert_keys(shown["measures"], "measures")
    assert (shown["id"], shown["kind"], shown["state"], shown["phase"]) == (job_id, "migration", "queued", "accepted")


@pytest.mark.parametrize("option", ["--wait", "--watch"])
@pytest.mark.parametrize(
    "words",
    [
        ("migrate", "alpha/web", "beta"),
        ("checkpoints", "create", "alpha/web"),
        ("restore", "ck-1", "beta", "--name", "web-2"),
    ],
    ids=lambda words: words[0],
)
def test_a_job_that_is_waited_for(api: ServedApi, cli: Cli, words: tuple[str, ...], option: str) -> None:
    api.keep_checkpoint()
    with once_there(api, lambda job_id: api.move(job_id, Phase.SUCCEEDED)):
        answer = cli(*words, option, "--json")
    assert_keys(answer.data, "job")
    assert (answer.data["state"], answer.code, answer.err) == ("succeeded", 0, "")


def test_a_job_that_is_not_waited_for(api: ServedApi, cli: Cli) -> None:
    with once_there(api, lambda job_id: api.move(job_id, Phase.PREPARING)):
        answer = cli("migrate", "alpha/web", "beta", "--json")
    assert (answer.data["state"], answer.code) == ("running", 0)


def test_a_job_that_fails(api: ServedApi, cli: Cli, job_id: str) -> None:
    failure = WorkloadFailed("CRIU cannot dump [it]", host="alpha", remedy="close it").to_dict()
    api.move(job_id, Phase.FAILED, failure=failure)
    answer = cli("jobs", "watch", job_id, "--json")
    assert_keys(answer.data["failure"], "failure")
    assert (answer.data["failure"]["message"], answer.code, answer.err) == ("CRIU cannot dump [it]", 9, "")


def test_jobs_cancel(api: ServedApi, cli: Cli, job_id: str) -> None:
    answer = cli("jobs", "cancel", job_id, "--json")
    assert_keys(answer.data, "job")
    assert answer.data["cancel_requested"] is True


def test_checkpoints_list_and_show(api: ServedApi, cli: Cli) -> None:
    api.keep_checkpoint()
    (listed,) = cli("checkpoints", "list", "--json").data
    assert_keys(listed, "checkpoint")
    shown = cli("checkpoints", "show", "ck-1", "--json").data
    assert set(shown) == documented("checkpoint") | {"parts", "facts", "inside", "inside_failure"}
    assert_keys(shown["parts"][0], "part")


def test_checkpoints_export(api: ServedApi, cli: Cli, tmp_path: Path) -> None:
    api.keep_checkpoint()
    file = tmp_path / "web.tar"
    answer = cli("checkpoints", "export", "ck-1", str(file), "--json")
    assert_keys(answer.data, "export")
    assert answer.data == {"id": "ck-1", "file": str(file), "size_bytes": file.stat().st_size}


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (("jobs", "show", "mig-none"), "NotFound", 3),
        (("migrate", "web", "beta"), "InvalidRequest", 2),
        (("migrate", "alpha/web", "alpha"), "InvalidRequest", 2),
        (("migrate", "nowhere/web", "beta"), "NotFound", 3),
    ],
    ids=str,
)
def test_errors_are_json_too(cli: Cli, words: tuple[str, ...], kind: str, code: int) -> None:
    answer = cli(*words, "--json")
    assert_keys(answer.data["error"], "failure")
    assert (answer.data["error"]["kind"], answer.code, answer.err) == (kind, code, "")


def test_a_server_that_goes_away_leaves_the_name_of_the_job(api: ServedApi, cli: Cli) -> None:
    with once_there(api, lambda _: api.stop()):
        answer = cli("migrate", "alpha/web", "beta", "--wait", "--json")
    (job,) = api.plane.list_jobs()
    assert (answer.data["error"]["kind"], answer.code) == ("Unavailable", 6)
    assert f"migrator jobs watch {job.id}" in answer.data["error"]["remedy"]


def test_nothing_is_nothing(api: ServedApi, cli: Cli) -> None:
    with api.database.transaction() as tx:
        for name in ("alpha", "beta"):
            tx.hosts.forget(name)
    for words in (("hosts", "list"), ("containers", "list"), ("jobs", "list"), ("checkpoints", "list")):
        began = time.monotonic()
        assert (cli(*words, "--json").data, cli(*words).code) == ([], 0)
        assert time.monotonic() - began < 2
