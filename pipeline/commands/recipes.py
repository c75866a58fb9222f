"""`gristmill recipes`: what ships with Gristmill, and what a recipe may say."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from pipeline.commands.console import JsonOption, Output, guarded

app = typer.Typer(help="List and show built-in recipes and rule suites.", no_args_is_help=True)


@app.command("list")
@guarded
def list_recipes(as_json: JsonOption = None) -> None:
    """List the built-in recipes. Example: [cyan]gristmill recipes list[/]"""
    from pipeline.recipe_file import built_in_recipes

    output = Output(as_json)
    table = Table("name", "what it is", box=None, header_style="bold")
    for name, path in built_in_recipes().items():
        about = _about(path.read_text(encoding="utf-8"))
        output.event("recipe", name=name, about=about)
        table.add_row(name, about)
    if not output.json:
        output.console.print(table)
        output.text("Run one with: gristmill run NAME --output DIR", style="dim")


@app.command("show")
@guarded
def show(
    name: Annotated[str, typer.Argument(help="Name of a built-in recipe, such as demo.")],
) -> None:
    """Print a built-in recipe, to start your own from.

    Example: [cyan]gristmill recipes show demo > mine.yaml[/]
    """
    from pipeline.recipe_errors import closest
    from pipeline.recipe_file import built_in_recipes
    from schemas.errors import RecipeError

    known = built_in_recipes()
    if name not in known:
        raise RecipeError(
            f'no built-in recipe "{name}", there are: {", ".join(known) or "none"}.'
            f"{closest(name, known)}"
        )
    print(known[name].read_text(encoding="utf-8"), end="")


@app.command("suites")
@guarded
def suites(as_json: JsonOption = None) -> None:
    """List the rule suites and their thresholds. Example: [cyan]gristmill recipes suites[/]"""
    from filters.rules import SUITES

    output = Output(as_json)
    table = Table(box=None, header_style="bold")
    for title in ("suite", "rule", "keeps a document while"):
        table.add_column(title, overflow="fold")  # names are for copying
    for suite, rules in SUITES.items():
        for number, rule in enumerate(rules):
            output.event("rule", suite=suite, **rule.model_dump(mode="json"))
            condition = f"{rule.signal} {rule.op} {json.dumps(rule.value, ensure_ascii=False)}"
            if rule.languages:
                condition += f" ({', '.join(rule.languages)})"
            table.add_row("" if number else suite, rule.name, condition)
    if not output.json:
        output.console.print(table)


@app.command("schema")
@guarded
def schema() -> None:
    """Print the JSON schema of recipe files, for editors.

    Example: [cyan]gristmill recipes schema > recipe.schema.json[/], and in the recipe's first line
    [cyan]# yaml-language-server: $schema=recipe.schema.json[/]
    """
    from pipeline.recipe_file import json_schema

    print(json.dumps(json_schema(), indent=2))


def _about(text: str) -> str:
    """A recipe's first comment block as one line."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        line = line.lstrip("# ").strip()
        if not line.startswith("yaml-language-server"):
            lines.append(line)
    return " ".join(lines)
