"""What every database promises about cordons, and about what drains have moved."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.errors import NotFound
from migrator.models.drains import Cordon, Displacement, DrainOptions, Passage, PassageStatus
from migrator.models.phase import JobKind
from migrator.models.session import Database
from migrator.models.values import JobRequest
from tests.contract.models.samples import a_job, moment

CORDON = Cordon("beta", moment(1), "me", "new disks", "drn-1", moment(60))
MOVED = Displacement("beta", "web-1", "default", "web", "gamma", "drn-1", moment(2))


def test_a_cordon_is_put_found_and_lifted(database: Database) -> None:
    with database.transaction() as tx:
        assert tx.cordons.find("beta") is None
        tx.cordons.put(CORDON)
        tx.cordons.put(Cordon("alpha", moment(3)))
        assert tx.cordons.find("beta") == CORDON
    with database.transaction() as tx:
        assert tx.cordons.list() == [Cordon("alpha", moment(3)), CORDON]
        tx.cordons.put(replace(CORDON, return_at=None, reason=""))
        assert tx.cordons.find("beta") == replace(CORDON, return_at=None, reason="")
        tx.cordons.lift("beta")
        tx.cordons.lift("beta")
    with database.transaction(write=False) as tx:
        assert [cordon.host for cordon in tx.cordons.list()] == ["alpha"]


def test_a_cordon_that_is_not_committed_is_none(database: Database) -> None:
    with pytest.raises(NotFound), database.transaction() as tx:
        tx.cordons.put(CORDON)
        tx.displacements.put(MOVED)
        tx.jobs.get("mig-none")
    with database.transaction(write=False) as tx:
        assert tx.cordons.list() == []
        assert tx.displacements.list("beta") == []


def test_what_was_moved_is_listed_by_home(database: Database) -> None:
    other = replace(MOVED, workload_id="db-1", container="db", namespace="prod")
    elsewhere = replace(MOVED, home="alpha")
    with database.transaction() as tx:
        for displacement in (other, MOVED, elsewhere):
            tx.displacements.put(displacement)
        assert tx.displacements.list("beta") == [MOVED, other]
    on = replace(MOVED, host="alpha", drain_id="drn-2", moved_at=moment(9))
    with database.transaction() as tx:
        tx.displacements.put(on)
        assert tx.displacements.list("beta") == [on, other]
        tx.displacements.remove("beta", "web-1")
        tx.displacements.remove("beta", "web-1")
        assert tx.displacements.list("beta") == [other]
    with database.transaction() as tx:
        tx.displacements.forget("beta")
    with database.transaction(write=False) as tx:
        assert tx.displacements.list("beta") == []
        assert tx.displacements.list("alpha") == [elsewhere]


def test_the_options_of_a_drain_come_back_as_they_were(database: Database) -> None:
    options = DrainOptions(("beta",), "app=web", ("prod",), 3, plan_id="drn-0", return_after_s=0.5, skip_refused=True)
    request = JobRequest(JobKind.DRAIN, source_host="alpha", drain=options)
    with database.transaction() as tx:
        job = tx.jobs.add(a_job("drn-1", request=request, idempotency_key="k", steps=()))
    with database.transaction() as tx:
        assert tx.jobs.get("drn-1").request == request
        assert tx.jobs.add(replace(job, id="drn-2")).id == "drn-1", "asking again gives the same drain"


def test_a_passage_comes_back_as_it_was() -> None:
    plain = Passage("default", "web", "alpha")
    assert plain.to_facts() == {"namespace": "default", "container": "web", "source": "alpha"}
    full = Passage(
        "default", "web", "alpha", PassageStatus.REFUSED, "beta", "web-1", 5, 6, "mig-1", "dumping", 2, 1,
        {"beta": {"message": "no"}}, {"message": "no"},
    )  # fmt: skip
    for passage in (plain, full):
        assert Passage.from_facts(passage.to_facts()) == passage
