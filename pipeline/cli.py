"""The `gristmill` command.

Exit codes: 0 success, 1 a defect in Gristmill, 2 wrong usage or recipe, 3 input, 4 run directory,
5 ledger, 6 integrity, 7 a task failed, 130 interrupted (see schemas/errors.py).
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.commands import export, look, recipes, run, tokenizer
from pipeline.commands.console import quiet_libraries

app = typer.Typer(
    name="gristmill",
    help="Turn raw crawl into training tokens: read, filter, deduplicate, scrub personal data, "
    "train a tokenizer, write token shards.\n\n"
    "Start with [cyan]gristmill demo[/], then [cyan]gristmill inspect gristmill-demo[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"gristmill {version('gristmill')}")
        except PackageNotFoundError:
            print("gristmill (not installed)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit. Example: [cyan]gristmill --version[/]",
        ),
    ] = False,
) -> None:
    """What all commands share."""


app.command("run")(run.run)
app.command("demo")(run.demo)
app.command("inspect")(look.inspect)
app.command("verify")(look.verify)
app.command("train-tokenizer")(tokenizer.train_tokenizer)
app.command("export")(export.export)
app.add_typer(recipes.app, name="recipes")


def main() -> None:
    """Entry point of the console script."""
    quiet_libraries()
    app()
