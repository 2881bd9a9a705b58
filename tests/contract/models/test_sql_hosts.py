"""What every database promises about hosts, their containers, workloads and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from migrator.errors import AlreadyExists, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.session import Database
from migrator.models.values import Checkpoint, ContainerView, Host, Workload
from tests.contract.models.samples import moment

WEB = ContainerView("alpha", "default", "web", "running", "debian:forky", 41, 2**33, {"app": "web"})
DB = ContainerView("alpha", "prod", "db", "none")
WORKLOAD = Workload("web-1", "default", "web", "alpha", 1)
LOCAL_TIME = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5)))
CHECKPOINT = Checkpoint("ck-1", "web-1", "mig-1", "alpha", "default", "web", "image", "sha256:00", 2**40, moment(0))


def record(database: Database, *hosts: Host) -> None:
    with database.transaction() as tx:
        for host in hosts:
            tx.hosts.record(host)


class TestHosts:
    def test_the_last_word_wins(self, database: Database) -> None:
        first = Host("beta", moment(5), moment(1), {"criu": "4.2.1", "cpus": 2})
        record(database, first, Host("alpha", moment(2)))
        with database.transaction(write=False) as tx:
            assert tx.hosts.list() == [Host("alpha", moment(2)), first]
            assert tx.hosts.get("beta") == first
        second = Host("beta", moment(4), None, {})  # a clock set back must not keep a dead host alive
        record(database, second)
        with database.transaction(write=False) as tx:
            assert tx.hosts.get("beta") == second

    def test_unknown(self, database: Database) -> None:
        with pytest.raises(NotFound, match="'nope'") as caught, database.transaction(write=False) as tx:
            tx.hosts.get("nope")
        assert caught.value.code == "host_not_found"
        assert "migrator hosts list" in str(caught.value.remedy)

    def test_forget_takes_the_containers_along(self, database: Database) -> None:
        record(database, Host("alpha", moment(0)), Host("beta", moment(0)))
        with database.transaction() as tx:
            tx.hosts.replace_containers("alpha", [WEB], moment(1))
            tx.hosts.forget("alpha")
            tx.hosts.forget("alpha")
            assert tx.hosts.containers(None) == []
            assert [host.name for host in tx.hosts.list()] == ["beta"]


class TestHearing:
    def test_the_last_word_wins(self, database: Database) -> None:
        with database.transaction() as tx:
            assert tx.hosts.heard_until() is None
            tx.hosts.note_hearing(moment(5))
        with database.transaction() as tx:
            assert tx.hosts.heard_until() == moment(5)
            tx.hosts.note_hearing(moment(3))  # a clock set back
        with database.transaction(write=False) as tx:
            assert tx.hosts.heard_until() == moment(3)


class TestContainers:
    def test_what_is_seen_now_replaces_what_was_seen_before(self, database: Database) -> None:
        record(database, Host("alpha", moment(0)), Host("beta", moment(0)))
        moved = replace(WEB, host="beta")
        with database.transaction() as tx:
            tx.hosts.replace_containers("alpha", [DB, WEB], moment(1))
            tx.hosts.replace_containers("beta", [moved], moment(2))
        with database.transaction(write=False) as tx:
            assert tx.hosts.containers("alpha") == [WEB, DB]
            assert tx.hosts.containers(None) == [WEB, DB, moved]
        with database.transaction() as tx:
            tx.hosts.replace_containers("alpha", [replace(DB, status="paused")], moment(3))
            assert tx.hosts.containers("alpha") == [replace(DB, status="paused")]
            assert tx.hosts.containers_seen_at("alpha") == moment(3)
            tx.hosts.replace_containers("alpha", [], moment(4))
            assert tx.hosts.containers("alpha") == []
            assert tx.hosts.containers("beta") == [moved]

    def test_a_heartbeat_keeps_them(self, database: Database) -> None:
        record(database, Host("alpha", moment(0)))
        with database.transaction() as tx:
            tx.hosts.replace_containers("alpha", [WEB], moment(1))
        record(database, Host("alpha", moment(2)))
        with database.transaction(write=False) as tx:
            assert tx.hosts.containers("alpha") == [WEB]
            assert tx.hosts.containers_seen_at("alpha") == moment(1)

    def test_never_seen(self, database: Database) -> None:
        record(database, Host("alpha", moment(0)))
        with database.transaction(write=False) as tx:
            assert tx.hosts.containers_seen_at("alpha") is None
            assert tx.hosts.containers_seen_at("nope") is None

    def test_of_an_unknown_host(self, database: Database) -> None:
        with pytest.raises(NotFound, match="'alpha'"), database.transaction() as tx:
            tx.hosts.replace_containers("alpha", [WEB], moment(1))


class TestWorkloads:
    @pytest.fixture(autouse=True)
    def known(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.workloads.add(WORKLOAD)

    def test_are_found_by_their_owner(self, database: Database) -> None:
        with database.transaction(write=False) as tx:
            assert tx.workloads.get("web-1") == WORKLOAD
            assert tx.workloads.find("alpha", "default", "web") == WORKLOAD
            assert tx.workloads.find("beta", "default", "web") is None
            assert tx.workloads.find("alpha", "prod", "web") is None
            with pytest.raises(NotFound) as caught:
                tx.workloads.get("nope")
        assert caught.value.code == "workload_not_found"

    def test_an_id_or_a_name_twice_is_refused(self, database: Database) -> None:
        with pytest.raises(AlreadyExists), database.transaction() as tx:
            tx.workloads.add(replace(WORKLOAD, container="db"))
        with pytest.raises(ResourceBusy) as caught, database.transaction() as tx:
            tx.workloads.add(replace(WORKLOAD, id="web-2"))
        assert caught.value.code == "workload_busy"

    def test_commit_moves_the_owner_and_raises_the_epoch(self, database: Database) -> None:
        with database.transaction() as tx:
            moved = tx.workloads.commit("web-1", epoch=1, owner_host="beta")
            assert moved == replace(WORKLOAD, owner_host="beta", epoch=2)
        with database.transaction(write=False) as tx:
            assert tx.workloads.find("beta", "default", "web") == moved
            assert tx.workloads.find("alpha", "default", "web") is None

    def test_commit_may_raise_the_epoch_further(self, database: Database) -> None:
        with database.transaction() as tx:
            assert tx.workloads.commit("web-1", epoch=1, owner_host="alpha", next_epoch=9).epoch == 9
        with database.transaction(write=False) as tx:
            assert tx.workloads.get("web-1").epoch == 9

    @pytest.mark.parametrize("epoch", [0, 2])
    def test_commit_under_another_epoch_changes_nothing(self, database: Database, epoch: int) -> None:
        with (
            pytest.raises(PreconditionFailed, match="epoch 1 under host 'alpha'") as caught,
            database.transaction() as tx,
        ):
            tx.workloads.commit("web-1", epoch=epoch, owner_host="beta")
        assert caught.value.code == "commit_lost"
        with database.transaction(write=False) as tx:
            assert tx.workloads.get("web-1") == WORKLOAD

    def test_commit_of_an_unknown_workload(self, database: Database) -> None:
        with pytest.raises(NotFound), database.transaction() as tx:
            tx.workloads.commit("nope", epoch=1, owner_host="beta")

    def test_commit_onto_a_host_that_has_one_of_that_name(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.workloads.add(Workload("web-2", "default", "web", "beta", 7))
        with pytest.raises(PreconditionFailed) as caught, database.transaction() as tx:
            tx.workloads.commit("web-1", epoch=1, owner_host="beta")
        assert (caught.value.code, caught.value.host) == ("owner_taken", "beta")
        with database.transaction(write=False) as tx:
            assert tx.workloads.get("web-1") == WORKLOAD

    def test_remove(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.workloads.remove("web-1")
            tx.workloads.remove("web-1")
            assert tx.workloads.find("alpha", "default", "web") is None
            tx.workloads.add(WORKLOAD)


class TestCheckpoints:
    def test_newest_first(self, database: Database) -> None:
        newer = replace(CHECKPOINT, id="ck-2", created_at=moment(1), job_id=None)
        with database.transaction() as tx:
            tx.checkpoints.add(newer)
            tx.checkpoints.add(CHECKPOINT)
            tx.checkpoints.add(replace(CHECKPOINT, id="ck-0"))
        with database.transaction(write=False) as tx:
            assert [found.id for found in tx.checkpoints.list()] == ["ck-2", "ck-1", "ck-0"]
            assert tx.checkpoints.get("ck-2") == newer
            assert tx.checkpoints.get("ck-1") == CHECKPOINT

    def test_an_id_twice_is_refused(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.checkpoints.add(CHECKPOINT)
        with pytest.raises(AlreadyExists) as caught, database.transaction() as tx:
            tx.checkpoints.add(replace(CHECKPOINT, size_bytes=1))
        assert caught.value.code == "checkpoint_exists"

    def test_remove(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.checkpoints.add(CHECKPOINT)
            tx.checkpoints.remove("ck-1")
            tx.checkpoints.remove("ck-1")
            assert tx.checkpoints.list() == []
            with pytest.raises(NotFound) as caught:
                tx.checkpoints.get("ck-1")
        assert caught.value.code == "checkpoint_not_found"

    def test_pins_and_verifications(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.checkpoints.add(CHECKPOINT)
            assert tx.checkpoints.get("ck-1") == CHECKPOINT
            tx.checkpoints.set_pin("ck-1", LOCAL_TIME, "why not")
            tx.checkpoints.set_verified("ck-1", LOCAL_TIME, "a blob is gone")
        with database.transaction() as tx:
            found = tx.checkpoints.hold("ck-1")
            assert (found.pinned_at, found.pin_reason) == (LOCAL_TIME, "why not")
            assert (found.verified_at, found.damage) == (LOCAL_TIME, "a blob is gone")
            tx.checkpoints.set_pin("ck-1", None)
            tx.checkpoints.set_pin("ck-9", LOCAL_TIME)
        with database.transaction(write=False) as tx:
            assert tx.checkpoints.get("ck-1") == replace(CHECKPOINT, verified_at=LOCAL_TIME, damage="a blob is gone")
            assert len(tx.checkpoints.list()) == 1

    def test_what_is_being_removed_is_gone_for_all_others(self, database: Database) -> None:
        with database.transaction() as tx:
            tx.checkpoints.add(CHECKPOINT)
            tx.checkpoints.set_removing("ck-1", LOCAL_TIME)
        with database.transaction() as tx:
            assert tx.checkpoints.list() == []
            assert tx.checkpoints.removing() == [CHECKPOINT]
            for find in (tx.checkpoints.get, tx.checkpoints.hold):
                with pytest.raises(NotFound):
                    find("ck-1")
            tx.checkpoints.set_removing("ck-1", None)
            assert tx.checkpoints.hold("ck-1") == CHECKPOINT
            tx.checkpoints.remove("ck-1")
            assert tx.checkpoints.removing() == []
