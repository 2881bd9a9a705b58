"""Examinations of hosts, on their way from the controller, which hears of them, to the server, which was asked."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from migrator.models.tables import ExaminationRow
from migrator.models.values import Facts
from migrator.models.writes import insert_unless_taken, write

KEPT = timedelta(hours=1)
"""Nobody waits that long for an answer."""


class ExaminationRepository:
    """The examinations of one transaction, each under the token of the one who asked."""

    def __init__(self, session: Session):
        self._session = session

    def record(self, token: str, host: str, report: Facts, now: datetime) -> None:
        """Note what a host answered; a second answer to one question is dropped, and so is what nobody fetched."""
        write(self._session, delete(ExaminationRow).where(ExaminationRow.recorded_at < now - KEPT))
        row = {"token": token, "host": host, "recorded_at": now, "report": report}
        insert_unless_taken(self._session, ExaminationRow, row)

    def find(self, token: str) -> Facts | None:
        """Return an answer; None while there is none."""
        query = select(ExaminationRow.report).where(ExaminationRow.token == token)
        report: Facts | None = self._session.scalar(query)
        return report
