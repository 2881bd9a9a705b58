"""The choice of targets: never over capacity, always the same."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.models.drains import Passage, PassageStatus
from migrator.service.drains.rooms import Room, choose, explain, left_over

MB = 10**6

sizes = st.integers(0, 400).map(lambda size: size * MB)
hosts = st.lists(
    st.builds(lambda number, free, disk: Room(f"h{number:02}", free, disk, 2000 * MB), st.integers(0, 9), sizes, sizes),
    unique_by=lambda room: room.host,
    max_size=5,
)
containers = st.lists(
    st.tuples(sizes, sizes, st.sets(st.integers(0, 9), max_size=3)).map(
        lambda told: Passage(
            "default",
            "c",
            "source",
            memory_bytes=told[0],
            disk_bytes=told[1],
            refusals={f"h{number:02}": {"message": "no", "kind": "PreconditionFailed"} for number in told[2]},
        )
    ),
    max_size=12,
)


def place(rooms: list[Room], passages: list[Passage]) -> list[Passage]:
    """Place all, as a drain does."""
    placed: list[Passage] = []
    for number, passage in enumerate(passages):
        named = replace(passage, container=f"c{number}")
        room = choose(named, left_over(rooms, placed, []))
        status = PassageStatus.PLACED if room else PassageStatus.REFUSED
        placed.append(replace(named, status=status, target=room and room.host))
    return placed


@settings(deadline=None, max_examples=200)
@given(hosts, containers)
def test_no_host_gets_more_than_it_has_or_what_it_refused(rooms: list[Room], passages: list[Passage]) -> None:
    placed = place(rooms, passages)
    for room in rooms:
        here = [passage for passage in placed if passage.target == room.host]
        assert sum(passage.memory_bytes for passage in here) <= room.memory_bytes
        assert sum(passage.disk_bytes for passage in here) <= room.disk_bytes
        assert not any(room.host in passage.refusals for passage in here)


@settings(deadline=None, max_examples=100)
@given(hosts, containers, st.randoms())
def test_the_same_question_has_the_same_answer_in_any_order_of_hosts(
    rooms: list[Room], passages: list[Passage], random: object
) -> None:
    shuffled = [*rooms]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place(rooms, passages) == place(shuffled, passages)


@settings(deadline=None, max_examples=100)
@given(hosts, containers)
def test_what_stays_would_fit_nowhere_and_hears_why(rooms: list[Room], passages: list[Passage]) -> None:
    placed = place(rooms, passages)
    for number, passage in enumerate(placed):
        if passage.status is PassageStatus.REFUSED:
            left = left_over(rooms, placed[:number], [])
            assert not any(room.holds(passage) for room in left if room.host not in passage.refusals)
            assert explain(passage, left).message


def test_containers_are_spread() -> None:
    rooms = [Room(name, 1000 * MB, 1000 * MB, 2000 * MB) for name in ("beta", "gamma", "delta")]
    small = [Passage("default", "c", "alpha", memory_bytes=MB) for _ in range(6)]
    targets = [passage.target for passage in place(rooms, small)]
    assert {host: targets.count(host) for host in ("beta", "gamma", "delta")} == {"beta": 2, "gamma": 2, "delta": 2}


def test_the_emptier_host_comes_first() -> None:
    rooms = [Room("beta", 300 * MB, MB, 2000 * MB), Room("gamma", 900 * MB, MB, 2000 * MB)]
    chosen = choose(Passage("default", "c", "alpha", memory_bytes=100 * MB), rooms)
    assert chosen is not None
    assert chosen.host == "gamma"
