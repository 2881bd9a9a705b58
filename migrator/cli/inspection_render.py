"""How the inside of checkpoints looks in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from migrator.cli.canvas import open_console, open_table, size
from migrator.cli.inspection_data import SOCKETS

Row = dict[str, Any]
CHANGES = {"written": ("+", "green"), "removed": ("-", "red"), "emptied": ("×", "yellow")}
LINES = 100
"""Of a list of files no more is shown; `--json` has them all."""


def summary(row: Row) -> None:
    """What a checkpoint holds, in a few lines."""
    inside = row["inside"]
    console = open_console()
    if inside is None:
        console.print(Text(f"inside        cannot be read: {row['inside_failure']['message']}", "red"))
        return
    processes = f"{_count(inside['processes'], 'process', 'es')} ({inside['first_process']} first)"
    written = f"{_count(inside['files_written'], 'file')} written, {size(inside['files_written_bytes'])}"
    shared = f", {size(inside['shared_bytes'])} of it shared" if inside["shared_bytes"] else ""
    lines = {
        "inside": f"{processes}, {_count(inside['threads'], 'thread')}",
        "memory": size(inside["memory_bytes"]) + shared,
        "open": f"{_count(inside['open_files'], 'descriptor')}, {_count(inside['sockets'], 'socket')}",
        "changed": f"{written}; {inside['files_removed']} removed",
        "limits": ", ".join(f"{name} {value}" for name, value in inside["limits"].items()),
    }
    for name, value in lines.items():
        if value:
            console.print(f"  {name:<14}{value}", soft_wrap=True)


def tree(row: Row, *, files: bool, sockets: bool, mounts: bool, memory: bool, changed: bool) -> None:
    """The processes below each other, and what else was asked for."""
    console = open_console()
    top = Tree(Text(row["id"], "bold"), guide_style="dim")
    places = {0: top}
    for process in row["processes"]:
        branch = places.get(process["parent"], top).add(_process_line(process))
        places[process["pid"]] = branch
        for text in _below(process, files=files, sockets=sockets):
            branch.add(text)
    console.print(top)
    if memory:
        for process in row["processes"]:
            _print_memory(console, process)
    if mounts:
        _print_mounts(console, row["mounts"])
    if changed:
        _print_files(console, row["files"])


def comparison(row: Row) -> None:
    """How two checkpoints differ; silent about what is the same."""
    console = open_console()
    console.print(Text.assemble((row["before"], "bold"), " → ", (row["after"], "bold")))
    _print_process_changes(console, row)
    _print_memory_changes(console, row["memory"])
    _section(console, "files", [_file_difference(item) for item in row["files"]])
    _section(console, "sockets", [_socket_change(item) for item in row["sockets"]])
    mounts = [_signed("+", mount) for mount in row["mounted"]] + [_signed("-", mount) for mount in row["unmounted"]]
    _section(console, "mounts", mounts)
    limits = [_limit_change(item) for item in row["limits"]]
    _section(console, "limits", limits)
    names = ("started", "ended", "processes", "memory", "files", "sockets", "mounted", "unmounted", "limits")
    if not any(row[name] for name in names):
        console.print(Text("no difference", "dim"))


def usage(row: Row) -> None:
    """What checkpoints occupy."""
    console = open_console()
    if not row["checkpoints"]:
        console.print(Text("no checkpoints; take one: migrator checkpoints create HOST/CONTAINER", "dim"))
        return
    if len(row["checkpoints"]) == 1:
        _print_parts(console, row["checkpoints"][0])
        return
    table = open_table("CHECKPOINT", "WORKLOAD", "SIZE", "OWN", "SHARED")
    for item in row["checkpoints"]:
        table.add_row(item["id"], item["workload_id"], *_shares(item))
    console.print(table)
    console.print(f"together {size(row['size_bytes'])} in the object store")


def _print_parts(console: Console, item: Row) -> None:
    table = open_table("PART", "SIZE", "OWN", "SHARED")
    for part in item["parts"]:
        table.add_row(part["role"], *_shares(part))
    table.add_row(Text("all", "bold"), *_shares(item))
    console.print(Text(item["id"], "bold"), table, sep="\n")


def _shares(item: Row) -> tuple[str, str, str]:
    return size(item["size_bytes"]), size(item["own_bytes"]), size(item["size_bytes"] - item["own_bytes"])


def _process_line(process: Row) -> Text:
    state = "" if process["state"] == "alive" else f"  {process['state']}"
    threads = _count(len(process["threads"]), "thread") if len(process["threads"]) > 1 else ""
    others = ", ".join(dict.fromkeys(thread["name"] for thread in process["threads"][1:]))
    words = [process["program"], f"uid {process['uid']}" if process["uid"] else "", threads and f"{threads}: {others}"]
    words.append(size(process["stored_bytes"]) if process["stored_bytes"] else "")
    line = Text.assemble((str(process["pid"]), "cyan"), " ", (process["name"], "bold"), (state, "red"))
    return line.append("  " + "  ".join(filter(None, words)), "dim")


def _below(process: Row, *, files: bool, sockets: bool) -> list[Text]:
    wanted = [file for file in process["files"] if (sockets if file["kind"] in SOCKETS else files)]
    return [
        Text.assemble(
            (f"{file['descriptor']:>3} ", "dim"), (f"{file['kind']} ", "green"), file["name"],
            (f"  {file['state']}" if file["state"] else "", "yellow"),
        )
        for file in wanted
    ]  # fmt: skip


def _print_memory(console: Console, process: Row) -> None:
    if not process.get("memory"):
        return
    table = open_table("ADDRESS", "SIZE", "STORED", "ACCESS", "KIND", "FILE")
    for item in process["memory"]:
        stored = size(item["stored_bytes"]) if item["stored_bytes"] else ""
        length = size(item["end"] - item["start"])
        table.add_row(f"{item['start']:012x}", length, stored, item["access"], item["kind"], item["name"])
    console.print(Text.assemble("memory of ", (f"{process['pid']} {process['name']}", "bold")), table, sep="\n")


def _print_mounts(console: Console, mounts: list[Row]) -> None:
    table = open_table("MOUNT", "FILE SYSTEM", "FROM", "")
    for mount in mounts:
        words = ", ".join(filter(None, ("read-only" * mount["read_only"], "from the host" * mount["from_outside"])))
        table.add_row(mount["destination"], mount["filesystem"], mount["source"], words)
    console.print(table)


def _print_files(console: Console, files: list[Row]) -> None:
    if not files:
        console.print(Text("no files differ from the base image", "dim"))
    for file in files[:LINES]:
        sign, colour = CHANGES.get(file["change"], ("?", "red"))
        amount = size(file["size_bytes"]) if file["kind"] == "file" else file["kind"]
        target = f" → {file['target']}" if file["target"] else ""
        console.print(Text.assemble((f"{sign} ", colour), f"{amount:>10}  {file['path']}{target}"), soft_wrap=True)
    _print_rest(console, len(files))


def _print_process_changes(console: Console, row: Row) -> None:
    lines = [Text.assemble(("+ ", "green"), _process_line(process)) for process in row["started"]]
    lines += [Text.assemble(("- ", "red"), _process_line(process)) for process in row["ended"]]
    for item in row["processes"]:
        lines.append(_plain("~", f"{item['pid']} {item['name']}  {item['what']} {item['before']} → {item['after']}"))
    _section(console, "processes", lines)


def _print_memory_changes(console: Console, changes: list[Row]) -> None:
    table = open_table("PROCESS", "STORED", "CHANGED", "NEW", "GONE", "FRESH")
    for change in changes:
        name = f"{change['pid']} {change['name']}" if change["pid"] else change["name"]
        changed = "?" if change["changed_bytes"] is None else size(change["changed_bytes"])
        fresh = "?" if change["fresh_share"] is None else f"{change['fresh_share']:.1%}"
        amounts = (size(change[key]) for key in ("added_bytes", "removed_bytes"))
        table.add_row(name, size(change["after_bytes"]), changed, *amounts, fresh)
    if changes:
        console.print(Text("memory", "bold"), table, sep="\n")


def _file_difference(item: Row) -> Text:
    before, after = item["before"], item["after"]
    if before and after:
        words = f"{_file_words(before)} → {_file_words(after)}"
        return _plain("~", f"{item['path']}  {words}")
    found = after or before
    return _plain("+" if after else "-", f"{item['path']}  {_file_words(found)}")


def _file_words(file: Row) -> str:
    if file["change"] != "written":
        return str(file["change"])
    return size(file["size_bytes"]) if file["kind"] == "file" else str(file["kind"])


def _socket_change(item: Row) -> Text:
    sign = "+" if item["after"] > item["before"] else "-"
    counts = "" if abs(item["after"] - item["before"]) == 1 else f"  {item['before']} → {item['after']}"
    return _plain(sign, f"{item['kind']} {item['name']} {item['state']}{counts}")


def _limit_change(item: Row) -> Text:
    return _plain("~", f"{item['name']}  {item['before'] or 'none'} → {item['after'] or 'none'}")


def _signed(sign: str, mount: Row) -> Text:
    return _plain(sign, f"{mount['destination']}  {mount['filesystem']} from {mount['source']}")


def _plain(sign: str, words: str) -> Text:
    return Text.assemble((f"{sign} ", {"+": "green", "-": "red"}.get(sign, "yellow")), words)


def _section(console: Console, title: str, lines: Iterable[Text]) -> None:
    shown = list(lines)
    if not shown:
        return
    console.print(Text(title, "bold"))
    for line in shown[:LINES]:
        console.print(Text.assemble("  ", line), soft_wrap=True)
    _print_rest(console, len(shown))


def _print_rest(console: Console, count: int) -> None:
    if count > LINES:
        console.print(Text(f"… and {count - LINES} more: --json lists all", "dim"))


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{'' if number == 1 else plural}"
