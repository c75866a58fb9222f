"""`gristmill inspect` and `gristmill verify`: what came out, and whether it is sound."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands.console import JsonOption, Output, QuietOption, guarded

DirectoryArgument = Annotated[
    str, typer.Argument(metavar="DIR", help="A run directory, such as gristmill-demo.")
]


@guarded
def inspect(directory: DirectoryArgument, as_json: JsonOption = None) -> None:
    """Show what a run kept, removed and wrote: funnel, languages, sources, tokens, sizes.

    Reads the run's records only, so it is quick however large the run is, and works while it goes
    on. Example: [cyan]gristmill inspect gristmill-demo[/]
    """
    from pipeline.inspect import collect
    from pipeline.tables import render

    output = Output(as_json)
    facts = collect(directory)
    output.event("result", **facts)
    if not output.json:
        render(facts, output.console)


@guarded
def verify(
    directory: DirectoryArgument, as_json: JsonOption = None, quiet: QuietOption = False
) -> None:
    """Check every file of a run: checksums, schemas, token ids, task records and the ledger.

    Ends with code 6 and one line a problem if there is any.
    Example: [cyan]gristmill verify gristmill-demo && echo sound[/]
    """
    from pipeline.verify import verify as check
    from schemas.errors import IntegrityError

    output = Output(as_json, quiet=quiet)
    with output.working(f"checking every file of {directory}"):
        report = check(directory)
    output.event("result", ok=not report.problems, **report.to_json())
    for warning in report.warnings:
        output.text(f"warning: {warning}", style="yellow")
    if report.problems:
        count = f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}"
        raise IntegrityError("\n".join([f"{directory} has {count}:", *report.problems]))
    output.text(
        f"{directory} is sound: {report.files:,} files, {report.bytes:,} bytes, "
        f"{report.documents:,} clean documents, {report.tokens:,} tokens"
    )
