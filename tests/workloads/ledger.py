"""A server with an open file and a client of it: no number may be lost, doubled or given by another server."""

from pathlib import Path

from migrator.lab.recipes import python_image
from tests.workloads.workload import Running, State, Workload


class Ledger(Workload):
    name = "ledger"
    wide = True

    def image(self, root: Path) -> Path:
        return python_image(root, "ledger.py")

    def check(self, before: State, container: Running) -> State:
        after = super().check(before, container)
        assert after["client"] == before["client"]
        books = self.audit(container)
        assert books["faults"] == 0, books
        return after

    def audit(self, container: Running) -> State:
        """Compare the two books: how many numbers there are, and how many are lost or doubled.

        The receipts are read first: what the server wrote since is more, never less.
        """
        receipts, ledger = (_lines(container.root / "state" / name) for name in ("receipts", "ledger"))
        return {
            "numbers": len(ledger),
            "lost": len(set(range(1, len(ledger) + 1)) - set(ledger)) + max(0, len(receipts) - len(ledger)),
            "doubled": len(ledger) - len(set(ledger)),
            "faults": int(ledger != list(range(1, len(ledger) + 1))) + int(receipts != ledger[: len(receipts)]),
        }


def _lines(book: Path) -> list[int]:
    """The numbers of a book; a line that is none counts as 0, one that is not yet whole does not count."""
    return [int(line) if line.isdigit() else 0 for line in book.read_text().rpartition("\n")[0].split("\n")]


WORKLOAD = Ledger()
