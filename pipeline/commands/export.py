"""`gristmill export`: the clean documents in a format that others read."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.console import JsonOption, Output, QuietOption, guarded
from pipeline.commands.look import DirectoryArgument


@guarded
def export(
    directory: DirectoryArgument,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File to write. Example: [cyan]-o clean.jsonl[/]"
        ),
    ],
    format: Annotated[
        str, typer.Option(help="jsonl or parquet. Example: [cyan]--format parquet[/]")
    ] = "jsonl",
    zstd: Annotated[
        bool,
        typer.Option(
            "--zstd",
            help="Compress: the whole JSONL file, or Parquet's pages. Example: [cyan]--zstd[/]",
        ),
    ] = False,
    as_json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Write a run's clean documents to one file, in the order of the input.

    Example: [cyan]gristmill export gristmill-demo --format jsonl --zstd -o clean.jsonl.zst[/]
    """
    from pipeline.export import export as write

    out = Output(as_json, quiet=quiet)
    with out.working(f"writing {output}"):
        done = write(directory, output, format=format, zstd=zstd)
    out.event("result", **done)
    out.text(f"{done['documents']:,} documents, {done['bytes']:,} bytes in {output}")
