"""What has not come yet follows what a process does to its memory, page by page as in a plain table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.criu.lazy.spans import Span, Spans

PAGE = 4096
PAGES = 64
Table = dict[int, tuple[int, int]]
"""For each page that is missing: the file and the place in it."""


def table_of(spans: Spans) -> Table:
    return {
        address: (span.file, span.offset + address - span.start)
        for span in spans._spans
        for address in range(span.start, span.end, PAGE)
    }


def some_spans() -> st.SearchStrategy[list[Span]]:
    cuts = st.lists(st.integers(0, PAGES), min_size=2, max_size=12, unique=True).map(sorted)
    return cuts.map(
        lambda places: [
            Span(a * PAGE, b * PAGE, 7, a * 10 * PAGE) for a, b in zip(places[::2], places[1::2], strict=False)
        ]
    )


ranges = st.tuples(st.integers(0, PAGES), st.integers(1, 20)).map(lambda told: (told[0] * PAGE, told[1] * PAGE))
changes = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), ranges, st.just(0)),
        st.tuples(st.just("move"), ranges, st.integers(100, 200).map(lambda place: place * PAGE)),
        st.tuples(st.just("bring"), ranges, st.just(0)),
    ),
    max_size=12,
)


@given(some_spans(), changes)
def test_spans_are_a_table_of_pages(spans: list[Span], changes: list[tuple[str, tuple[int, int], int]]) -> None:
    missing = Spans(spans)
    table, twin, before = table_of(missing), missing.clone(), table_of(missing)
    for what, (start, size_bytes), target in changes:
        covered = range(start, start + size_bytes, PAGE)
        if what == "drop":
            missing.drop(start, start + size_bytes)
            table = {page: place for page, place in table.items() if page not in covered}
        elif what == "move":
            missing.move(start, target, size_bytes)
            moved = {page - start + target: place for page, place in table.items() if page in covered}
            if moved:
                arrived = range(target, target + size_bytes, PAGE)
                table = {p: place for p, place in table.items() if p not in covered and p not in arrived} | moved
        else:
            found = missing.around(start, 8 * PAGE)
            assert (found is not None) is (start in table)
            assert found is None or found.start <= start < found.end
        assert table_of(missing) == table
        assert missing.left_bytes == len(table) * PAGE
        assert bool(missing) is bool(table)
    assert table_of(twin) == before, "a forked process has its own"


def test_what_is_brought_unasked_is_taken_from_the_end() -> None:
    missing = Spans([Span(0, 4 * PAGE, 1, 0), Span(8 * PAGE, 12 * PAGE, 2, 0)])
    assert missing.last(PAGE) == Span(11 * PAGE, 12 * PAGE, 2, 3 * PAGE)
    missing.drop(8 * PAGE, 12 * PAGE)
    assert missing.last(100 * PAGE) == Span(0, 4 * PAGE, 1, 0)


def test_a_block_around_a_page_is_no_more_than_lies_side_by_side() -> None:
    missing = Spans([Span(PAGE, 3 * PAGE, 1, 0), Span(3 * PAGE, 40 * PAGE, 2, 0)])
    assert missing.around(5 * PAGE, 8 * PAGE) == Span(3 * PAGE, 8 * PAGE, 2, 0)
    assert missing.around(2 * PAGE, 8 * PAGE) == Span(PAGE, 3 * PAGE, 1, 0)
    assert missing.around(0, 8 * PAGE) is None
    assert missing.around(40 * PAGE, 8 * PAGE) is None
