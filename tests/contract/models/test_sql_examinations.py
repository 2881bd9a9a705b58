"""What hosts answered, each under the token of the one who asked, for an hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from migrator.models.session import Database

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REPORT = {"findings": [{"name": "a", "since": None}], "checks": []}


def record(database: Database, token: str, report: dict[str, object], *, minutes: int = 0) -> None:
    with database.transaction() as tx:
        tx.examinations.record(token, "alpha", report, NOW + timedelta(minutes=minutes))


def find(database: Database, token: str) -> dict[str, object] | None:
    with database.transaction(write=False) as tx:
        return tx.examinations.find(token)


def test_an_answer_is_found_by_another_process(database: Database, rival: Database) -> None:
    assert find(rival, "exam-1") is None
    record(database, "exam-1", REPORT)
    assert find(rival, "exam-1") == REPORT
    assert find(rival, "exam-2") is None


def test_the_first_answer_to_a_question_counts(database: Database) -> None:
    record(database, "exam-1", REPORT)
    record(database, "exam-1", {})
    assert find(database, "exam-1") == REPORT


def test_what_nobody_fetched_goes_after_an_hour(database: Database) -> None:
    record(database, "exam-1", REPORT)
    record(database, "exam-2", REPORT, minutes=59)
    assert find(database, "exam-1") == REPORT
    record(database, "exam-3", REPORT, minutes=61)
    assert (find(database, "exam-1"), find(database, "exam-2")) == (None, REPORT)
