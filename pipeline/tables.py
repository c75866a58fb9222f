"""Facts of a run as tables for a terminal. What documents hold is shown as text, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from pipeline.commands.console import printable

_ROWS = 30  # of a table by language; the rest is summed up
_BAR = 30
_SIGNS = {"removed": "- removed", "failed": "! failed"}


def render(facts: Mapping[str, Any], console: Console) -> None:
    """Print all facts of `pipeline.inspect.collect` as tables."""
    state = "finished" if facts["finished"] else "not finished"
    line(console, f"{facts['directory']}: recipe {facts['recipe']}, {state}", "bold")
    for step in facts["steps"]:
        if step["tasks_done"] < step["tasks"]:
            line(console, f"{step['step']}: {step['tasks_done']} of {step['tasks']} tasks done")
    render_funnel(facts, console)
    _languages(facts, console)
    _sources(facts, console)
    _lengths(facts, console)
    _tokenizer(facts, console)
    _duplicates(facts, console)
    _pii(facts, console)
    _quarantine(facts, console)
    _sizes(facts, console)
    render_warnings(facts, console)


def render_warnings(facts: Mapping[str, Any], console: Console) -> None:
    """What a reader must not miss."""
    for warning in facts["warnings"]:
        line(console, f"Warning: {warning}", "bold yellow")


def render_funnel(facts: Mapping[str, Any], console: Console) -> None:
    """Documents, bytes and tokens by stage and reason."""
    table = _table("stage", "", "reason", "documents", "MB", "tokens", "share")
    before = ""
    for row in facts["funnel"]:
        strong = row["outcome"] == "kept"
        table.add_row(
            _word(row["stage"] if row["stage"] != before else ""),
            _SIGNS.get(row["outcome"], row["outcome"]),
            _word(row["reason"]),
            f"{row['documents']:,}",
            _megabytes(row["bytes"]),
            f"{row['tokens']:,}" if row["tokens"] else "",
            f"{100 * row['share']:.2f}%",
            style="bold" if strong else "red" if row["outcome"] == "failed" else None,
        )
        before = row["stage"]
        if row["outcome"] == "in":  # what edits of texts took or added between in and kept
            for name, size in facts["deltas"].get(before, {}).items():
                table.add_row("", "~ edited", _word(name), "", f"{size / 1e6:+,.2f}")
    _titled(console, "Funnel", table)


def _languages(facts: Mapping[str, Any], console: Console) -> None:
    rows = facts["languages"]
    if not rows:
        return
    table = _table("language", "documents", "MB", "tokens", "bytes/token", "share of bytes")
    total = sum(row["bytes"] for row in rows) or 1
    shown = [*rows[:_ROWS]]
    if len(rows) > _ROWS:
        rest = {k: sum(r[k] for r in rows[_ROWS:]) for k in ("documents", "bytes", "tokens")}
        shown.append({"language": f"{len(rows) - _ROWS} others", **rest})
    for row in shown:
        table.add_row(
            _word(row["language"] or "unknown"),
            f"{row['documents']:,}",
            _megabytes(row["bytes"]),
            f"{row['tokens']:,}" if row["tokens"] else "",
            f"{row['bytes'] / row['tokens']:.2f}" if row["tokens"] else "",
            f"{100 * row['bytes'] / total:.1f}%",
        )
    _titled(console, "Languages of what is kept", table)


def _sources(facts: Mapping[str, Any], console: Console) -> None:
    table = _table("source", "in", "removed", "failed", "kept", "MB in", "MB kept", "tokens")
    for row in facts["sources"]:
        table.add_row(
            _word(row["source"]),
            *(f"{row[k]['documents']:,}" for k in ("in", "removed", "failed", "kept")),
            _megabytes(row["in"]["bytes"]),
            _megabytes(row["kept"]["bytes"]),
            f"{row['kept']['tokens']:,}" if row["kept"]["tokens"] else "",
        )
    _titled(console, "Sources", table)


def _lengths(facts: Mapping[str, Any], console: Console) -> None:
    rows = facts["lengths"]
    if not rows:
        return
    most = max(row["documents"] for row in rows)
    table = _table("tokens a document", "documents", "")
    for row in rows:
        low = (row["up_to"] + 1) // 2
        span = f"{low:,} to {row['up_to']:,}" if row["up_to"] > low else f"{row['up_to']:,}"
        bar = "#" * -(-row["documents"] * _BAR // most)
        table.add_row(span, f"{row['documents']:,}", Text(bar, justify="left"))
    _titled(console, "Document lengths", table)


def _tokenizer(facts: Mapping[str, Any], console: Console) -> None:
    found = facts["tokenizer"]
    if found is None:
        return
    table = _table("tokenizer", "")
    for key, value in found.items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            shown = f"{value:,}" if isinstance(value, int) else str(value)
            table.add_row(_word(key.replace("_", " ")), _word(shown))
    for path in found["files"].values():
        table.add_row("file", _word(path))
    _titled(console, "Tokenizer", table)


def _duplicates(facts: Mapping[str, Any], console: Console) -> None:
    found = facts["duplicates"]
    rows = [(f"removed, {kind}", count) for kind, count in found["removed"].items()]
    for step in ("dedup.pairs", "dedup.survivors"):
        rows += [
            (key.replace("_", " "), value)
            for key, value in found.get(step, {}).items()
            if isinstance(value, int) and key not in found["removed"]
        ]
    table = _table("kind", "number")
    for name, count in rows:
        table.add_row(_word(name), f"{count:,}")
    _titled(console, "Duplicates", table)


def _pii(facts: Mapping[str, Any], console: Console) -> None:
    found = facts["pii"]
    if not found.get("findings"):
        return
    table = _table("type", "findings")
    for kind, count in sorted(found["findings"].items(), key=lambda item: (-item[1], item[0])):
        table.add_row(_word(kind), f"{count:,}")
    _titled(console, "Personal data replaced", table)


def _quarantine(facts: Mapping[str, Any], console: Console) -> None:
    found = facts["quarantine"]
    if not found["kinds"]:
        return
    table = _table("stage", "kind", "documents", "MB")
    for row in found["kinds"]:
        table.add_row(
            _word(row["stage"]),
            _word(row["reason"]),
            f"{row['documents']:,}",
            _megabytes(row["bytes"]),
        )
    _titled(console, "Quarantine", table)
    for reason, examples in found["examples"].items():
        for row in examples:
            place = f"{row['source']}: {row['path']} at {row['position']}"
            line(console, f"  {_flat(reason)}  {_flat(place)}", "dim")
            if row["message"]:
                line(console, f"    {_flat(row['message'])}", "dim")


def _sizes(facts: Mapping[str, Any], console: Console) -> None:
    table = _table("output", "files", "MB")
    for row in facts["sizes"]:
        table.add_row(_word(row["kind"]), f"{row['files']:,}", _megabytes(row["bytes"]))
    _titled(console, "On disk", table)


def _table(*columns: str) -> Table:
    """A plain table; columns of numbers are right-aligned, which all but words are."""
    words = ("stage", "", "reason", "language", "source", "tokenizer", "type", "kind", "output")
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        justify: JustifyMethod = "left" if name in words else "right"
        table.add_column(name, justify=justify, overflow="fold")
    return table


def _titled(console: Console, title: str, table: Table) -> None:
    if table.row_count:
        console.print()
        console.print(Text(title, style="bold"))
        console.print(table)


def line(console: Console, text: str, style: str | None = None) -> None:
    """Print one paragraph, unwrapped."""
    console.print(Text(printable(text)), style=style, soft_wrap=True)


def _flat(text: str) -> str:
    return printable(text, newlines=False)


def _word(text: str) -> Text:
    return Text(_flat(text))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.2f}"
