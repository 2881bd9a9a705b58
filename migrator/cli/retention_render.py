"""How reports about the catalogue as a whole look."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich.text import Text

from migrator.cli.canvas import open_console, open_table, size

Rows = list[dict[str, Any]]


def report(job: dict[str, Any]) -> None:
    """What such a job reports; nothing of other jobs."""
    if job["forget"] is not None:
        judgements(job["forget"], done=job["state"] == "succeeded" and _removes(job))
    if job["prune"] is not None:
        pruned(job["prune"], dry=job["prune"]["dry_run"])
    if job["verify"] is not None:
        verified(job["verify"])


def verified(row: dict[str, Any]) -> None:
    """What was looked at, what is wrong, and what was mended."""
    console = open_console()
    read = f"; {row['read_objects']} of them read, {size(row['read_bytes'])}" if row["read_objects"] else ""
    if row["checkpoints"]:
        console.print(f"{row['checkpoints']} checkpoints need {row['objects']} blobs and packs{read}")
    for damage in row["damaged"]:
        console.print(Text.assemble(("damaged", "red"), f"  {damage['id']}: {damage['reason']}"), soft_wrap=True)
    for name, words in VERIFY_WORDS.items():
        for item in row[name]:
            console.print(f"{words}  {item}", soft_wrap=True)
    if not any(row[name] for name in ("checkpoints", "added", "mended")):
        console.print("nothing is missing from the catalogue")


VERIFY_WORDS = {"added": "back in the catalogue", "mended": "indexed anew: pack", "removed": "taken away"}


def pruned(row: dict[str, Any], *, dry: bool) -> None:
    """What was freed, what may be next time, and what stands in the way."""
    console = open_console()
    objects = f"{row['blobs']} blobs and {row['packs']} packs"
    if dry:
        console.print(f"would delete {objects}, {size(row['planned_bytes'])}")
        console.print(f"would mark {row['marked']} for the next prune, {size(row['marked_bytes'])}")
    else:
        console.print(f"deleted {objects}, freed {size(row['freed_bytes'])} of {size(row['planned_bytes'])} planned")
        console.print(f"marked {row['marked']} for the next prune, {size(row['marked_bytes'])}")
    for name, words in PRUNE_WORDS.items():
        if row[name]:
            console.print(f"{row[name]} {words}")
    for words in row["locked"]:
        console.print(Text(words, "yellow"), soft_wrap=True)
    if row["hidden"]:
        words = (
            f"{row['hidden']} deleted objects ({size(row['hidden_bytes'])}) still take room: the bucket keeps versions"
        )
        console.print(
            Text(f"{words}, which only its own rules or the right to delete versions free", "yellow"), soft_wrap=True
        )
    for words in row["damaged"]:
        console.print(Text.assemble(("damaged", "red"), f"  {words}"), soft_wrap=True)
    if row["left"]:
        left = f"{row['left']} objects ({size(row['left_bytes'])}) that nothing else needs stay for the sake of what is"
        words = f"{left} damaged: see `migrator verify --repair`, or remove a checkpoint that is lost"
        console.print(Text(words, "yellow"), soft_wrap=True)
    if row["missing_chunks"]:
        words = f"no pack was touched: {row['missing_chunks']} chunks are missing; see `migrator verify --repair`"
        console.print(Text(words, "yellow"))


PRUNE_WORDS = {
    "unmarked": "are needed again",
    "repacked": "packs are mostly unused: what is needed of them is written anew",
    "young": "are needed by nobody and too young to be judged, or a job under way may rely on them",
    "merged": "small pack indexes became one",
    "data_keys": "data keys were needed by nothing and are gone",
    "uploads": "unfinished uploads were ended",
}


def judgements(rows: Rows, *, done: bool) -> None:
    """What is kept and what is not, and why, workload by workload."""
    console = open_console()
    for workload, group in groupby(rows, key=lambda row: str(row["workload_id"])):
        console.print(Text(workload, "bold"))
        shown = open_table("CHECKPOINT", "TAKEN", "HOST", "CONTAINER", "SIZE", "FATE", "REASONS")
        for row in group:
            fate = Text("keep", "green") if row["keep"] else Text("removed" if done else "remove", "red")
            taken = row["created_at"][:19].replace("T", " ")
            words = ", ".join(row["reasons"])
            shown.add_row(row["id"], taken, row["host"], row["container"], size(row["size_bytes"]), fate, words)
        console.print(shown)
    kept = sum(row["keep"] for row in rows)
    gone = "removed" if done else "would be removed"
    console.print(f"{kept} kept, {len(rows) - kept} {gone}")


def _removes(job: dict[str, Any]) -> bool:
    return any(step["name"] == "forget-checkpoints" and step["status"] == "done" for step in job["steps"])
