"""A job that verifies: is everything there that the listed checkpoints need, and can it be mended where it is not?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from migrator.errors import IntegrityError
from migrator.models.retention import VerifyRequest, parse_share
from migrator.models.session import Database
from migrator.models.values import Facts, Job
from migrator.service.control.control_steps import ControlStep, LongStep
from migrator.service.retention.rebuilding import rebuild_catalogue
from migrator.storage.checking import Checker, Found, Subset, mend_pack_indexes, remove_bad_blob
from migrator.storage.checkpoints import CheckpointStore

TOLD = 5
"""So many damaged checkpoints are named in the error."""


class Verify(LongStep):
    """Look at everything, note the result with each checkpoint, and mend if asked."""

    name = "verify"

    def __init__(self, database: Database, checkpoints: CheckpointStore, now: Callable[[], datetime]):
        self._database = database
        self._checkpoints = checkpoints
        self._now = now

    def work(self, job: Job, pulse: Callable[[], None]) -> Facts:
        """Return what was found."""
        asked = job.request.verify or VerifyRequest()
        added: list[str] = []
        mended: list[str] = []
        if asked.repair or asked.rebuild:
            self._checkpoints.objects.probe()
            added = rebuild_catalogue(self._database, self._checkpoints, pulse)
        if asked.repair:
            mended = mend_pack_indexes(self._checkpoints, pulse)
        if asked.rebuild:
            return {"verified": _report(added, mended)}
        return self._verify(job, asked, pulse, added, mended)

    def _verify(
        self, job: Job, asked: VerifyRequest, pulse: Callable[[], None], added: list[str], mended: list[str]
    ) -> Facts:
        with self._database.transaction(write=False) as tx:
            listed = tx.checkpoints.list()
        checker = Checker(self._checkpoints, pulse)
        found = {known.id: checker.check(known.workload_id, known.id, known.index_digest) for known in listed}
        share, number, of = parse_share(asked.read_data)
        subset = Subset(share, job.id if share < 1 and not of else "", number, of)
        keys = set().union(*(item.keys for item in found.values() if not item.damage)) if share or of else set()
        read = dict(checker.read(keys, subset))
        bad = {key: words for key, words in read.items() if words}
        removed = [key for key in bad if asked.repair and remove_bad_blob(self._checkpoints, key)]
        self._note(found, bad)
        report = _report(added, mended) | {
            "checkpoints": len(listed),
            "damaged": [{"id": name, "reason": words} for name, words in _damages(found, bad).items() if words],
            "objects": len(set().union(*(item.keys for item in found.values()))) if found else 0,
            "read_objects": len(read),
            "read_bytes": sum(checker.sizes[key] for key in read),
            "removed": removed,
        }
        return {"verified": report}

    def _note(self, found: dict[str, Found], bad: dict[str, str]) -> None:
        with self._database.transaction() as tx:
            for checkpoint_id, damage in _damages(found, bad).items():
                tx.checkpoints.set_verified(checkpoint_id, self._now(), damage)


class JudgeVerification(ControlStep):
    """Let the job fail if a checkpoint is damaged: who watches jobs, as schedules do, is to notice."""

    name = "judge-verification"

    def run(self, job: Job) -> Facts:
        """Judge.

        Raises:
            IntegrityError: `checkpoints_damaged`.
        """
        damaged = job.facts["verified"]["damaged"]
        if damaged:
            names = ", ".join(item["id"] for item in damaged[:TOLD]) + (", …" if len(damaged) > TOLD else "")
            raise IntegrityError(
                f"{len(damaged)} of {job.facts['verified']['checkpoints']} checkpoints are damaged: {names}",
                code="checkpoints_damaged",
                remedy="see `migrator jobs show` for what is wrong, and mend: migrator verify --repair",
            )
        return {}


def _damages(found: dict[str, Found], bad: dict[str, str]) -> dict[str, str]:
    """What is wrong with each checkpoint, in its index or in what was read."""
    return {
        name: item.damage or next((bad[key] for key in sorted(item.keys & bad.keys())), "")
        for name, item in found.items()
    }


def _report(added: list[str], mended: list[str]) -> Facts:
    return {
        "checkpoints": 0,
        "damaged": [],
        "objects": 0,
        "read_objects": 0,
        "read_bytes": 0,
        "added": added,
        "mended": mended,
        "removed": [],
    }
