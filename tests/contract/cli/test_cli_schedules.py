"""`migrator schedules`: what it asks of the API, what it prints, and what it refuses before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrator.models.drains import DrainOptions
from migrator.models.phase import Phase
from migrator.models.values import ContainerView
from tests.contract.cli.test_cli_json import assert_keys
from tests.contract.cli.test_cli_words import refused
from tests.servers.api import ServedApi
from tests.servers.command_line import Answer

Cli = Callable[..., Answer]
WEB = ("nightly", "checkpoint", "alpha/web", "--cron", "30 2 * * *", "--zone", "Europe/Berlin")


@pytest.fixture(autouse=True)
def containers(api: ServedApi) -> None:
    api.show(
        ContainerView("alpha", "default", "web", "running", labels={"app": "web"}),
        ContainerView("alpha", "default", "db", "running"),
        ContainerView("beta", "default", "cache", "running", labels={"app": "web"}),
    )


def create(cli: Cli, *words: str) -> dict[str, Any]:
    answer = cli("schedules", "create", *words, "--json")
    assert answer.code == 0, answer
    data: dict[str, Any] = answer.data
    return data


def test_a_schedule_from_its_beginning_to_its_end(api: ServedApi, cli: Cli) -> None:
    created = create(cli, *WEB, "--jitter", "5m", "--overlap", "buffer", "--tcp", "close", "--pause-after", "3")
    assert_keys(created, "schedule")
    assert created["job"] == {"tcp": "TCP_POLICY_CLOSE"}
    listed = cli("schedules", "list")
    assert re.search(r"nightly +checkpoint +30 2 \* \* \* Europe/Berlin +alpha/web +in ", listed.out)
    run = cli("schedules", "trigger", "nightly", "--json").data
    assert_keys(run, "run")
    assert_keys(run["acts"][0], "act")
    (job,) = api.plane.list_jobs()
    assert (run["acts"][0]["job_id"], job.request.schedule, job.request.tcp.value) == (job.id, "nightly", "close")
    assert cli("jobs", "show", job.id, "--json").data["schedule"] == "nightly"
    refused(cli("schedules", "trigger", "nightly", "--overlap", "skip"), 5, "schedule 'nightly' still goes on")
    paused = cli("schedules", "pause", "nightly", "--reason", "new disks")
    assert "next: paused" in paused.out
    shown = cli("schedules", "show", "nightly")
    assert "new disks" in shown.out
    assert job.id in shown.out
    assert cli("schedules", "resume", "nightly", "--json").data["paused"] is None
    assert cli("schedules", "delete", "nightly", "--json").data == {"name": "nightly", "deleted": True}
    assert cli("schedules", "list", "--json").data == []
    assert "no schedules" in cli("schedules", "list").out


def test_preview_shows_both_clocks_and_blackouts(cli: Cli) -> None:
    create(cli, *WEB, "--blackout", "2027-03-28..2027-03-29")
    rows = cli("schedules", "preview", "nightly", "-n", "3", "--after", "2027-03-27", "--json").data
    assert [row["local"] for row in rows] == [
        "2027-03-27T02:30:00+01:00",
        "2027-03-28T03:00:00+02:00",
        "2027-03-29T02:30:00+02:00",
    ]
    assert [row["fire_time"] for row in rows][1] == "2027-03-28T01:00:00.000Z"
    assert [row["blackout"] for row in rows] == [None, *["2027-03-28..2027-03-29"] * 2]
    assert_keys(rows[0], "planned run")
    assert "skipped: blackout" in cli("schedules", "preview", "nightly", "--after", "2027-03-27").out


def test_a_dry_run_previews_and_changes_nothing(api: ServedApi, cli: Cli) -> None:
    answer = cli("schedules", "create", *WEB, "--dry-run")
    assert answer.out.count("02:30:00") >= 9
    refused(cli("schedules", "create", "x", "checkpoint", "alpha/no", "--every", "1h", "--dry-run"), 3, "'no'")
    assert api.desk.list() == []


def test_an_update_changes_what_is_given_and_nothing_else(api: ServedApi, cli: Cli) -> None:
    before = create(cli, *WEB, "--jitter", "5m", "--blackout", "Sat,Sun 00:00-24:00", "--end", "2036-01-01")
    answer = cli("schedules", "update", "nightly", "--every", "6h", "--jitter", "", "--end", "", "--json")
    after = answer.data
    changed = {key for key in after if after[key] != before[key]}
    assert changed == {"cron", "every_s", "jitter_s", "end", "next_at", "updated_at"}
    assert (after["every_s"], after["end"]) == (21600, None)
    moved = cli("schedules", "update", "nightly", "-l", "app=web", "--json").data
    assert (moved["selector"], moved["container"]) == ("app=web", None)


def test_targets(api: ServedApi, cli: Cli) -> None:
    assert create(cli, "a", "checkpoint", "-l", "app=web", "--every", "1h")["selector"] == "app=web"
    assert create(cli, "b", "checkpoint", "--all-on", "alpha", "--every", "90m")["every_s"] == 5400
    assert create(cli, "c", "migration", "alpha/web", "--to", "beta", "--at", "2036-12-24 03:00")["target"] == "beta"
    out = cli("schedules", "list").out
    for words in ("app=web", "all on alpha", "alpha/web → beta", "at 2036-12-24T03:00:00+00:00", "every 1h30m"):
        assert words in out
    runs = cli("schedules", "trigger", "a", "--json").data
    assert [f"{act['host']}/{act['container']}" for act in runs["acts"]] == ["alpha/web", "beta/cache"]


def test_a_trigger_of_which_nothing_comes_ends_with_the_failure(api: ServedApi, cli: Cli) -> None:
    create(cli, *WEB)
    api.beat("alpha", age_s=60)
    answer = cli("schedules", "trigger", "nightly")
    assert answer.code == 6
    assert "no live worker" in answer.out


def test_backfill(api: ServedApi, cli: Cli) -> None:
    create(cli, "s", "checkpoint", "alpha/web", "--every", "1h")
    now = datetime.now(UTC)
    first = (now - timedelta(hours=3, minutes=1)).isoformat()
    words = ("schedules", "backfill", "s", "--from", first, "--to", now.isoformat())
    assert [run["state"] for run in cli(*words, "--json").data] == ["waiting"] * 4  # one of them now
    assert "has run already" in cli(*words).out


def test_history_tells_jobs_and_reasons(api: ServedApi, cli: Cli) -> None:
    create(cli, *WEB)
    run = cli("schedules", "trigger", "nightly", "--json").data
    api.move(run["acts"][0]["job_id"], Phase.FAILED, failure={"kind": "NotFound", "message": "it is [gone]"})
    assert cli("schedules", "show", "nightly", "--json").data["runs"][0]["state"] == "running"
    assert run["acts"][0]["job_id"] in cli("schedules", "show", "nightly", "-n", "1").out


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (2, "needs one trigger", ("alpha/web",)),
        (2, "--cron and --every exclude each other", ("alpha/web", "--cron", "@daily", "--every", "1h")),
        (2, "no month that it names has a day 31", ("alpha/web", "--cron", "0 0 31 2 *")),
        (2, "time zone 'Mars/Base' is unknown", ("alpha/web", "--cron", "@daily", "--zone", "Mars/Base")),
        (2, "lies in the past", ("alpha/web", "--at", "2020-01-01 00:00")),
        (2, "'tomorrow' is no date and time", ("alpha/web", "--at", "tomorrow")),
        (2, "does not exist in Europe/Berlin", ("alpha/web", "--at", "2036-03-30 02:30", "--zone", "Europe/Berlin")),
        (2, "before it starts", ("alpha/web", "--every", "1h", "--start", "2036-02-01", "--end", "2036-01-01")),
        (2, "'soon' is no length of time", ("alpha/web", "--every", "soon")),
        (2, "an interval of 1 s is too short", ("alpha/web", "--every", "1s")),
        (2, "longer than the shortest interval", ("alpha/web", "--every", "1m", "--jitter", "2m")),
        (2, "'8-18' is no window of time", ("alpha/web", "--every", "1h", "--blackout", "8-18")),
        (2, "'both' is no policy for overlaps", ("alpha/web", "--every", "1h", "--overlap", "both")),
        (2, "'app web' is no condition on a label", ("-l", "app web", "--every", "1h")),
        (2, "exclude each other", ("alpha/web", "-l", "app=web", "--every", "1h")),
        (2, "takes one container, a selector, or all on a host", ("--every", "1h")),
        (3, "workload 'web' does not exist", ("web", "--every", "1h")),
        (3, "container 'no' does not exist", ("alpha/no", "--every", "1h")),
        (3, "host 'no' is unknown", ("no/web", "--every", "1h")),
        (3, "nothing that runs matches app=no", ("-l", "app=no", "--every", "1h")),
    ],
)
def test_bad_words_change_nothing(api: ServedApi, cli: Cli, code: int, said: str, words: tuple[str, ...]) -> None:
    refused(cli("schedules", "create", "s", "checkpoint", *words), code, said)
    assert api.desk.list() == []


def test_bad_kinds_and_names(api: ServedApi, cli: Cli) -> None:
    refused(cli("schedules", "create", "s", "nonsense", "alpha/web", "--every", "1h"), 2, "'nonsense' is no kind")
    refused(cli("schedules", "create", "s", "preflight", "alpha/web", "--every", "1h"), 2, "cannot be scheduled")
    refused(cli("schedules", "create", "s", "migration", "alpha/web", "--every", "1h"), 2, "needs target")
    refused(cli("schedules", "create", "a b", "checkpoint", "alpha/web", "--every", "1h"), 2, "'a b' cannot be")
    create(cli, *WEB)
    refused(cli("schedules", "create", *WEB), 4, "schedule 'nightly' exists already")
    for command in ("show", "pause", "resume", "trigger", "preview", "delete", "update"):
        refused(cli("schedules", command, "no"), 3, "schedule 'no' does not exist")


def test_kinds_and_their_options(api: ServedApi, cli: Cli) -> None:
    kept = create(cli, *WEB, "--keep-daily", "7", "--keep-within", "2d")["keep"]
    assert kept == {"daily": 7, "within": "2d", "time_zone": "Europe/Berlin"}
    assert cli("schedules", "update", "nightly", "--keep-daily", "3", "--keep-within", "", "--json").data["keep"] == {
        "daily": 3,
        "time_zone": "Europe/Berlin",
    }
    assert cli("schedules", "update", "nightly", "--keep-daily", "0", "--json").data["keep"] is None
    create(cli, "p", "prune", "--every", "1d", "--grace", "2d")
    create(cli, "v", "verification", "--cron", "@weekly", "--read-data-subset", "5%", "--repair")
    create(cli, "f", "forget", "--cron", "@daily", "--keep-last", "3")
    create(cli, "d", "drain", "--all-on", "alpha", "--at", "2036-12-24 03:00")
    create(cli, "r", "return", "--to", "alpha", "--at", "2036-12-24 05:00")
    create(
        cli, "m", "drain", "--all-on", "alpha", "--at", "2036-12-24 03:00", "--to", "beta", "-l", "app=web",
        "--return-after", "2h", "--parallel", "2", "--skip-refused",
    )  # fmt: skip
    create(cli, "h", "backup", "alpha/web", "--every", "1h", "--before", "sync", "--on-hook-failure", "ignore")
    specs = {schedule.name: schedule.spec.job for schedule in api.desk.list()}
    assert specs["p"].prune is not None
    assert specs["p"].prune.grace_s == 172800
    assert specs["v"].verify is not None
    assert (specs["v"].verify.read_data, specs["v"].verify.repair) == ("5%", True)
    assert specs["f"].forget is not None
    assert specs["f"].forget.policy is not None
    assert specs["f"].forget.policy.last == 3
    options = DrainOptions(("beta",), "app=web", parallel=2, return_after_s=7200, skip_refused=True)
    assert specs["m"].drain == options
    assert (specs["h"].hooks.before, specs["h"].hooks.policies) == ("sync", "before=ignore,after=ignore")
    assert cli("schedules", "update", "m", "--return-after", "", "--to", "", "--json").code == 0
    assert api.desk.get("m").spec.job.drain == replace(options, targets=(), return_after_s=None)
    refused(cli("schedules", "create", "g", "drain", "--all-on", "alpha", "--to", "no", "--every", "1h"), 3, "'no'")
    refused(
        cli("schedules", "create", "g", "backup", "alpha/web", "--return-after", "2h", "--every", "1h"),
        2,
        "no options of a drain",
    )
    refused(
        cli("schedules", "create", "g", "migration", "alpha/web", "--to", "a", "--to", "b", "--every", "1h"),
        2,
        "both a and b",
    )
    refused(
        cli("schedules", "create", "g", "drill", "alpha/web", "--to", "beta", "--every", "1d"), 3, "no checkpoints of"
    )
    api.keep_checkpoint()
    drilled = create(cli, "g", "drill", "alpha/web", "--to", "beta", "--probe", "true", "--every", "1d")
    assert (drilled["kind"], drilled["target"], drilled["job"]) == ("drill", "beta", {"probe": {"command": "true"}})
    refused(cli("schedules", "create", "g", "forget", "--every", "1h"), 5, "it would remove every checkpoint")
    refused(cli("schedules", "create", "g", "prune", "alpha/web", "--every", "1h"), 2, "takes no target")
    refused(cli("schedules", "create", "g", "drain", "--every", "1h"), 2, "takes one host")
