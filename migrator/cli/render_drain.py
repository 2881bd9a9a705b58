"""How a drain looks: one line a container."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from migrator.cli.canvas import open_console, open_table, size

STATUS = {
    "waiting": ("·", "dim"), "asked": ("?", "cyan"), "placed": ("·", "cyan"), "moving": ("→", "cyan"),
    "moved": ("✓", "green"), "refused": ("✗", "red"), "failed": ("✗", "red"), "skipped": ("-", "dim"),
}  # fmt: skip


def plan(row: dict[str, Any]) -> None:
    """What would go where, and what would stay."""
    host, back = row["source"] or row["target"], row["kind"] == "return"
    rows = row["drain"]["containers"]
    going = sum(item["status"] == "placed" for item in rows)
    staying = sum(item["status"] in ("refused", "failed") for item in rows)
    containers(row)
    verb = f"would come back to host {host}" if back else f"would leave host {host}"
    stay = f", {staying} cannot" if staying else ""
    open_console().print(Text(f"{going} of {len(rows)} containers {verb}{stay}", "bold"))


def containers(row: dict[str, Any]) -> None:
    """One line a container: where it goes or went, and why not."""
    table = open_table("", "CONTAINER", "FROM", "TO", "MEMORY", "STATUS")
    for item in row["drain"]["containers"]:
        mark, colour = STATUS[item["status"]]
        name = f"{item['namespace']}/{item['container']}"
        memory = size(item["memory_bytes"]) if item["memory_bytes"] else ""
        table.add_row(Text(mark, colour), name, item["source"], item["target"] or "", memory, _words(item))
    if row["drain"]["containers"]:
        open_console().print(table)


def _words(item: dict[str, Any]) -> Text:
    reason = item["reason"]
    if reason:
        remedy = f"\n→ {reason['remedy']}" if reason["remedy"] else ""
        return Text(f"{item['status']}: {reason['message']}{remedy}", overflow="fold")
    busy = item["status"] in ("moving", "asked", "placed") and item["phase"]
    return Text(f"{item['status']}: {item['phase']}" if busy else item["status"])
