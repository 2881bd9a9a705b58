"""A rewind: two halves of one job on one host, what it may be asked, what it refuses, and what is said of its end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.cli.restores import replaced_words
from migrator.errors import InvalidRequest, NotFound, PreconditionFailed, WorkloadFailed
from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.preflight import Finding
from migrator.models.values import Checkpoint, Facts, Job, JobRequest, Keep, Resolution, StepAction, StepCommand
from migrator.models.values import Host as KnownHost
from migrator.models.volumes import Volume, VolumeKind, VolumePolicy
from migrator.service.catalogue import LAST_COPY, NOT_BROUGHT_BACK, SOURCE_GONE, keep_last_copy
from migrator.service.control import engine
from migrator.service.control.control_steps import control_steps
from migrator.service.control.resolving import resolve
from migrator.service.control_plane import ControlPlane
from migrator.service.host import Act, Host
from migrator.service.identifiers import find_job, new_id
from migrator.service.job_making import KIND_PREFIX, new_job
from migrator.service.network.attachment import Attachment, pack_attachment
from migrator.service.plans import steps_for
from migrator.service.preflight.arrival import Arrival, check_name, moved_bytes
from migrator.service.preflight.network import check_attachment
from migrator.service.preflight.volumes import check_places
from migrator.service.requests import check_request
from migrator.service.rewinding import REPLACED, REWOUND, as_seen, as_told
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.memory import MemoryStore
from migrator.storage.pins import Pins
from tests.unit.service.test_engine import walk

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
JOB = "rwd-2222222222"
ASKED = JobRequest(JobKind.REWIND, source_host="alpha", container="web", checkpoint_id="ck-old")
REQUEST = replace(ASKED, target_host="alpha")
ADDRESS = Attachment("cni", "net", "default-web", "eth0", "02:00:00:00:00:01", ("10.1.0.2/24",), host_link="veth1")
OLD = Checkpoint("ck-old", "w", None, "alpha", "team", "web", "web:1", "sha256:0", 1000, NOW)


def command(step: str, facts: Facts) -> StepCommand:
    return StepCommand(JOB, step, 0, StepAction.RUN, 1, 4, "w", REQUEST, "ck-new", facts)


def test_each_half_sees_what_is_its_own() -> None:
    facts = {"snapshot": {"key": "web"}, REWOUND: {"snapshot": {"key": f"web-{JOB}"}}}
    source = as_seen(Act(command("displace", facts), lambda *_: None))
    assert (source.command.job_id, source.command.checkpoint_id, source.facts) == (JOB, "ck-new", facts)
    act = Act(command("restore", facts), lambda *_: None)
    target = as_seen(act)
    assert (target.command.job_id, target.lease_id) == (f"{JOB}-rewind", f"migrator-{JOB}-rewind")
    assert target.command.checkpoint_id == "ck-old"
    assert target.facts == {"snapshot": {"key": f"web-{JOB}"}, REPLACED: {"snapshot": {"key": "web"}}}
    act.aborted.set()
    assert target.aborted.is_set(), "a job that turns back stops both"


def test_what_each_half_tells_lies_where_it_looks() -> None:
    facts = {"pid": 1, REWOUND: {"index_digest": "sha256:1"}}
    assert as_told(command("dump", facts), {"parts": []}) == {"parts": []}
    told = as_told(command("fetch", facts), {"downloaded_bytes": 7})
    assert told == {"downloaded_bytes": 7, REWOUND: {"index_digest": "sha256:1", "downloaded_bytes": 7}}
    move = replace(command("fetch", facts), request=replace(REQUEST, kind=JobKind.MIGRATION))
    assert as_told(move, {"downloaded_bytes": 7}) == {"downloaded_bytes": 7}


def test_a_rewind_has_a_checkpoint_of_its_own() -> None:
    job = new_job(ASKED, NOW, None)
    assert job.checkpoint_id not in (None, "ck-old")
    assert (job.request.checkpoint_id, job.request.target_host) == ("ck-old", "alpha")
    assert {step.host for step in job.steps} == {"alpha", None}


@pytest.mark.parametrize("prefix", KIND_PREFIX.values())
def test_what_any_kind_of_job_leaves_is_known_by_its_name(prefix: str) -> None:
    job = new_id(prefix)
    for name in (job, f"migrator-{job}", f"migrator-{job}-rewind", f"{job}-rewind", f"{job}-displaced"):
        assert find_job(name) == job
    assert find_job(f"{job}x") is None


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (replace(ASKED, checkpoint_id=None), "incomplete_request"),
        (replace(ASKED, source_host=None), "incomplete_request"),
        (replace(ASKED, target_host="beta"), "contradictory_request"),
        (replace(ASKED, new_name="other"), "contradictory_request"),
        (replace(ASKED, volumes_at="/srv"), "contradictory_request"),
    ],
)
def test_what_a_rewind_cannot_be_asked(wrong: JobRequest, code: str) -> None:
    check_request(ASKED, None)
    with pytest.raises(InvalidRequest) as caught:
        check_request(wrong, None)
    assert caught.value.code == code


def test_without_a_name_it_is_the_container_of_the_checkpoint() -> None:
    database = MemoryDatabase()
    plane = ControlPlane(database, cast(Any, None), CheckpointStore(MemoryStore()), host_silent_s=4.0, now=lambda: NOW)
    with database.transaction() as tx:
        tx.hosts.record(KnownHost("alpha", NOW))
        tx.checkpoints.add(OLD)
        job = plane.accept_job(tx, replace(ASKED, container=None), "key")
        again = plane.accept_job(tx, replace(ASKED, container=None), "key")
    assert (job.request.container, job.request.namespace) == ("web", "team")
    assert again == job


@pytest.mark.parametrize(
    ("hosts", "names", "count"),
    [(["alpha", "beta"], [], None), (["alpha"], ["a", "b"], None), (["alpha"], [], 2), (["alpha"], ["web-{n}"], None)],
)
def test_one_container_is_replaced_at_a_time(hosts: list[str], names: list[str], count: int | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        replaced_words(hosts, names, count)
    assert caught.value.code == "bad_clones"
    assert replaced_words(["alpha"], ["web"], None) == {
        "kind": "JOB_KIND_REWIND",
        "source": "alpha",
        "container": "web",
    }


# ---- preflight


def arrival(rewound: Facts, running: Facts) -> Arrival:
    runtime = SimpleNamespace(
        containers=SimpleNamespace(list=lambda *_: ["web"]), snapshots=lambda _: SimpleNamespace(stat=_absent)
    )
    facts = {"snapshot": {"snapshotter": "overlayfs", "key": f"web-{JOB}"}, **rewound, REPLACED: running}
    host = SimpleNamespace(settings=SimpleNamespace(state_dir=Path("/var/lib/migrator")))
    return Arrival(cast(Host, host), REQUEST, cast(Any, runtime), facts)


def _absent(key: str) -> None:
    raise NotFound(key)


def codes(findings: Any) -> list[str]:
    found: list[Finding] = list(findings)
    return [finding.code for finding in found if finding.code]


def test_the_name_is_given_away_by_who_has_it() -> None:
    assert codes(check_name(arrival({}, {}))) == []


@pytest.mark.parametrize(
    ("running", "refused"),
    [
        (replace(ADDRESS, host_link="veth9"), False),
        (replace(ADDRESS, addresses=("10.1.0.3/24",)), True),
        (replace(ADDRESS, mac="02:00:00:00:00:02"), True),
        (replace(ADDRESS, network="other"), True),
        (None, True),
    ],
)
def test_its_place_in_the_network_is_that_of_what_runs(running: Attachment | None, refused: bool) -> None:
    asked = arrival({"network": pack_attachment(ADDRESS)}, {"network": pack_attachment(running)})
    assert codes(check_attachment(asked)) == ["address_changed"] * refused
    back = arrival({"network": pack_attachment(running)}, {"network": pack_attachment(ADDRESS)})
    assert codes(check_attachment(back)) == ["address_changed"] * refused
    assert codes(check_attachment(arrival({"network": None}, {}))) == []


@pytest.mark.parametrize("policy", [VolumePolicy.COPY, VolumePolicy.EMPTY])
def test_volumes_stay_as_they_are(policy: VolumePolicy, tmp_path: Path) -> None:
    made = Volume(
        "/data", str(tmp_path), policy, VolumeKind.DIRECTORY, role="volume-0" if policy is VolumePolicy.COPY else ""
    )
    shared = replace(made, policy=VolumePolicy.SHARED, role="")
    for rewound, running in ((made, shared), (shared, made)):
        found = list(check_places(arrival({"volumes": [rewound.to_facts()]}, {"volumes": [running.to_facts()]})))
        assert [finding.code for finding in found] == ["volume_in_place"]
        assert "--volume /data=shared" in found[0].remedy
    assert codes(check_places(arrival({"volumes": [shared.to_facts()]}, {"volumes": [shared.to_facts()]}))) == []


def test_both_containers_count_for_how_long_it_may_take() -> None:
    assert moved_bytes(arrival({"estimate_bytes": 3}, {"estimate_bytes": 4})) == {"estimate_bytes": 7}


# ---- its end


def sealed(facts: Facts, phase: Phase) -> Job:
    steps = steps_for(REQUEST)
    known = {
        "image": {"name": "web:1"}, "index_digest": "sha256:2", "checkpoint_bytes": 9, "claimed_at": NOW.isoformat(),
    }  # fmt: skip
    first = replace(steps[0], facts={**known, **facts})
    request = replace(REQUEST, namespace="team")
    return Job(JOB, request, phase, 1, NOW, NOW, workload_id="w", checkpoint_id="ck-new", steps=(first, *steps[1:]))


def test_what_ran_before_is_kept_and_pinned() -> None:
    database, store = MemoryDatabase(), CheckpointStore(MemoryStore())
    settle = control_steps(database, store)["settle"]
    for _ in range(2):
        settle.run(sealed({}, Phase.REMOVING))
    with database.transaction() as tx:
        kept = tx.checkpoints.get("ck-new")
    assert (kept.container, kept.namespace, kept.pinned_at) == ("web", "team", NOW)
    assert "ck-old" in kept.pin_reason
    assert Pins(store.objects).read("ck-new") is not None


def test_the_last_copy_is_named_with_what_kept_the_program_from_coming_back() -> None:
    database = MemoryDatabase()
    facts = {SOURCE_GONE: True, LAST_COPY: True, NOT_BROUGHT_BACK: "its images are gone, as after a reboot"}
    with database.transaction() as tx:
        ended = keep_last_copy(tx, sealed(facts, Phase.FAILED))
        assert tx.checkpoints.get("ck-new").job_id == JOB
    assert ended.failure is not None
    assert "its images are gone" in ended.failure["message"]
    assert "migrator restore ck-new" in ended.failure["remedy"]


def test_an_operator_learns_which_copy_is_which() -> None:
    job = replace(new_job(ASKED, NOW, None), workload_id="w")
    stopped, _ = walk(job, until="prove", error=WorkloadFailed("ended"))
    assert stopped.phase is Phase.NEEDS_OPERATOR
    assert f"source is what ran before (sealed: {job.checkpoint_id})" in (stopped.failure or {})["remedy"]
    back, trail = walk(resolve(stopped, Resolution(NOW, Keep.SOURCE, "ann")))
    assert (back.phase, trail[:4]) == (Phase.FAILED, ["undo restore", "undo displace", "undo commit", "undo freeze"])
    on, trail = walk(resolve(stopped, Resolution(NOW, Keep.TARGET, "ann")))
    assert (on.phase, trail[:3]) == (Phase.SUCCEEDED, ["run after-hook", "run settle", "run remove-displaced"])


def test_what_is_removed_cannot_be_kept_any_more() -> None:
    stopped, _ = walk(new_job(ASKED, NOW, None), until="remove-displaced", error=WorkloadFailed("no"))
    with pytest.raises(PreconditionFailed) as caught:
        resolve(stopped, Resolution(NOW, Keep.SOURCE, "ann"))
    assert caught.value.code == "source_gone"


def test_a_cancel_comes_too_late_from_the_commit_on() -> None:
    job, _ = walk(new_job(ASKED, NOW, None), until="commit")
    assert not engine.may_cancel(job)
