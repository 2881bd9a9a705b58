"""Verification finds what is wrong, mends what can be mended; the catalogue comes back from the store alone."""

from __future__ import annotations

import pytest

from migrator.errors import InvalidRequest
from migrator.models.memory import MemoryDatabase
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import VerifyRequest, parse_share
from migrator.models.roles import Role
from migrator.models.values import Job, JobRequest, Workload
from migrator.service.retention.rebuilding import rebuild_catalogue
from migrator.storage import layout
from migrator.storage.checking import Subset
from tests.unit.service.retention.bench import Bench
from tests.unit.storage.chunked import index_of, some_bytes, write
from tests.unit.storage.samples import Sample


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.keep("plain", hours_ago=2)
    parts, _ = write(bench.checkpoints, {Role.MEMORY: some_bytes(60_000)})
    digest = bench.checkpoints.seal("web-1", "chunked", index_of(parts, "web", schedule="nightly"))
    bench.list_checkpoint("chunked", digest, hours_ago=1)
    return bench


def verify(bench: Bench, **words: object) -> Job:
    return bench.run(JobRequest(JobKind.VERIFICATION, verify=VerifyRequest(**words)))  # type: ignore[arg-type]


def damages(bench: Bench) -> dict[str, str]:
    return {checkpoint.id: checkpoint.damage for checkpoint in bench.plane.list_checkpoints()}


def change(bench: Bench, key: str) -> None:
    data = bench.objects.get(key)
    bench.objects.put(key, bytes([data[0] ^ 1]) + data[1:])


def memory_blob(bench: Bench) -> str:
    index = bench.checkpoints.read_index("web-1", "plain")
    return layout.blob_key(index.part(Role.MEMORY).digest)


def pack(bench: Bench) -> str:
    (found,) = [info.key for info in bench.objects.scan(layout.PACKS)]
    return found


def test_all_is_well(bench: Bench) -> None:
    job = verify(bench, read_data="all")
    assert job.phase is Phase.SUCCEEDED
    found = job.facts["verified"]
    everything = bench.objects.sizes(layout.BLOBS) + bench.objects.sizes(layout.PACKS)
    assert (found["checkpoints"], found["read_bytes"]) == (2, everything)
    assert found["objects"] == found["read_objects"]
    assert damages(bench) == {"plain": "", "chunked": ""}
    assert all(checkpoint.verified_at for checkpoint in bench.plane.list_checkpoints())


@pytest.mark.parametrize("kind", ["blob", "short blob", "pack", "index", "changed index", "recipe"])
def test_what_is_gone_or_changed_is_found_without_reading_data(bench: Bench, kind: str) -> None:
    name = "chunked" if kind in ("pack", "recipe") else "plain"
    index = bench.checkpoints.read_index("web-1", name)
    if kind == "blob":
        bench.objects.delete(memory_blob(bench))
    elif kind == "short blob":
        bench.objects.put(memory_blob(bench), b"x")
    elif kind == "pack":
        bench.objects.delete(pack(bench))
    elif kind == "index":
        bench.objects.delete(layout.index_key("web-1", "plain"))
    elif kind == "changed index":
        bench.objects.put(
            layout.index_key("web-1", "plain"), bench.objects.get(layout.index_key("web-1", "plain")) + b" "
        )
    else:
        change(bench, layout.blob_key(index.parts[0].digest))
    job = verify(bench)
    assert (job.phase, (job.failure or {})["code"]) == (Phase.FAILED, "checkpoints_damaged")
    assert name in (job.failure or {})["message"]
    assert [damage["id"] for damage in job.facts["verified"]["damaged"]] == [name]
    assert [found for found, damage in damages(bench).items() if damage] == [name]


def test_a_changed_byte_is_found_by_reading_and_brought_again_by_the_next_backup(bench: Bench) -> None:
    change(bench, memory_blob(bench))
    assert verify(bench).phase is Phase.SUCCEEDED, "only reading tells"
    job = verify(bench, read_data="all", repair=True)
    assert job.facts["verified"]["removed"] == [memory_blob(bench)]
    assert "not what its name says" in damages(bench)["plain"]
    Sample(memory=b"memory of plain").upload(bench.checkpoints)
    assert verify(bench, read_data="all").phase is Phase.SUCCEEDED
    assert damages(bench)["plain"] == ""


def test_a_changed_byte_of_a_pack_is_found(bench: Bench) -> None:
    change(bench, pack(bench))
    assert verify(bench, read_data="all").phase is Phase.FAILED
    assert "not what its name says" in damages(bench)["chunked"]


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_lost_pack_index_is_written_anew(damage: str) -> None:
    bench = Bench()
    parts, _ = write(bench.checkpoints, {Role.MEMORY: some_bytes(60_000)})
    bench.list_checkpoint("chunked", bench.checkpoints.seal("web-1", "chunked", index_of(parts)), hours_ago=1)
    for info in list(bench.objects.scan(layout.PACK_INDEXES)):
        if damage == "gone":
            bench.objects.delete(info.key)
        else:
            change(bench, info.key)
    bench.forget_chunks()
    assert verify(bench).phase is Phase.FAILED
    bench.forget_chunks()
    job = verify(bench, repair=True)
    assert (job.phase, len(job.facts["verified"]["mended"])) == (Phase.SUCCEEDED, 1), job.failure
    assert bench.restores("chunked")
    assert len([*bench.objects.scan(layout.PACK_INDEXES)]) == 1


def test_parts_of_the_data_together_are_all_of_it(bench: Bench) -> None:
    names = [f"blobs/{number}" for number in range(200)]
    parts = [{name for name in names if Subset(number=number, of=7).has(name)} for number in range(1, 8)]
    assert set().union(*parts) == set(names)
    assert sum(map(len, parts)) == len(names)
    some = [name for name in names if Subset(share=0.1, seed="ver-1").has(name)]
    assert 5 < len(some) < 40
    assert some != [name for name in names if Subset(share=0.1, seed="ver-2").has(name)]
    total = [verify(bench, read_data=f"{number}/3").facts["verified"]["read_objects"] for number in (1, 2, 3)]
    assert sum(total) == verify(bench, read_data="all").facts["verified"]["objects"]


@pytest.mark.parametrize("text", ["5", "0%", "101%", "0/3", "4/3", "1/0", "a/b", "-5%", "all of it"])
def test_what_is_no_part_is_refused(bench: Bench, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_share(text)
    assert refused.value.code == "bad_subset"
    with pytest.raises(InvalidRequest):
        verify(bench, read_data=text)


# ---- the catalogue anew


def test_the_catalogue_comes_back_from_the_store_alone(bench: Bench) -> None:
    bench.plane.pin_checkpoint("plain", "the first")
    before = {checkpoint.id: checkpoint for checkpoint in bench.plane.list_checkpoints()}
    bench.lose_database()
    assert bench.listed() == []
    job = verify(bench, rebuild=True)
    assert sorted(job.facts["verified"]["added"]) == ["chunked", "plain"]
    after = {checkpoint.id: checkpoint for checkpoint in bench.plane.list_checkpoints()}
    assert after["plain"].pin_reason == "the first"
    assert after["plain"].pinned_at == before["plain"].pinned_at
    for name, checkpoint in after.items():
        assert (checkpoint.workload_id, checkpoint.index_digest) == ("web-1", before[name].index_digest)
        assert bench.restores(name)
    told = {name: (checkpoint.backup, checkpoint.schedule) for name, checkpoint in after.items()}
    assert told == {"chunked": (True, "nightly"), "plain": (False, None)}
    again = verify(bench, rebuild=True)
    assert again.facts["verified"]["added"] == []
    assert {checkpoint.id: checkpoint for checkpoint in bench.plane.list_checkpoints()} == after


def test_what_is_there_stays_as_it_is(bench: Bench) -> None:
    before = bench.plane.list_checkpoints()
    with bench.database.transaction() as tx:
        tx.checkpoints.remove("chunked")
        tx.checkpoints.set_removing("plain", bench.now)
        tx.workloads.add(Workload("web-1", "default", "web", "beta", 9))
    assert rebuild_catalogue(bench.database, bench.checkpoints, lambda: None) == ["chunked"]
    assert bench.listed() == ["chunked"], "what is being removed stays out"
    assert before[0].id == "chunked"
    with bench.database.transaction(write=False) as tx:
        assert tx.workloads.get("web-1") == Workload("web-1", "default", "web", "beta", 9)


def test_the_checkpoint_of_a_move_under_way_stays_out(bench: Bench) -> None:
    Sample(memory=b"moving", job="mig-2222222222").seal(bench.checkpoints, "web-1", "ck-moving")
    request = JobRequest(JobKind.MIGRATION, source_host="alpha", container="web", target_host="beta")
    with bench.database.transaction() as tx:
        tx.jobs.add(Job("mig-2222222222", request, Phase.FETCHING, 1, bench.now, bench.now))
    assert rebuild_catalogue(bench.database, bench.checkpoints, lambda: None) == []
    assert rebuild_catalogue(MemoryDatabase(), bench.checkpoints, lambda: None) != []


def test_a_damaged_index_hinders_nobody(bench: Bench) -> None:
    bench.objects.put(layout.index_key("web-1", "broken"), b"{")
    bench.lose_database()
    assert sorted(verify(bench, rebuild=True).facts["verified"]["added"]) == ["chunked", "plain"]
