"""`gristmill run` and `gristmill demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.commands.console import JsonOption, Output, QuietOption, guarded

if TYPE_CHECKING:
    from schemas.recipe import Recipe

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "-w",
        min=1,
        help="Worker processes; one for each CPU by default. The result does not depend on it. "
        "Example: [cyan]--workers 2[/]",
        show_default=False,
    ),
]
_NOT_YET = ("flink", "flinkrunner", "dataflow", "dataflowrunner")


@guarded
def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe file, or the name of a built-in recipe, such as demo.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Run directory. A run that was stopped resumes in it. "
            "Example: [cyan]--output runs/web[/]",
        ),
    ],
    runner: Annotated[
        str,
        typer.Option(
            help="Where to run: local, or DirectRunner, which is the same. "
            "Example: [cyan]--runner local[/]"
        ),
    ] = "local",
    workers: WorkersOption = None,
    until: Annotated[
        str,
        typer.Option(
            metavar="STAGE",
            help="Last stage: clean, dedup, scrub, train or encode. "
            "Example: [cyan]--until scrub[/]",
        ),
    ] = "encode",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Only the first N documents of each source. Example: [cyan]--limit 1000[/]",
            show_default=False,
        ),
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE",
            help="Only a seeded share of the documents. "
            "Example: [cyan]--sample 0.1%[/] or [cyan]--sample 0.001[/]",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Take a recipe's sources through all stages into a run directory.

    Example: [cyan]gristmill run web.yaml --output runs/web --workers 8[/]
    """
    check_stage_and_runner(until, runner)
    from pipeline.recipe_file import load_recipe, parse_sample

    share = None if sample is None else parse_sample(sample)
    loaded = load_recipe(recipe, limit=limit, sample=share)
    out = Output(as_json, quiet=quiet)
    carry_out(loaded, output, out, runner=runner, workers=workers, until=until)


@guarded
def demo(
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Run directory. Example: [cyan]--output out/demo[/]",
        ),
    ] = "gristmill-demo",
    workers: WorkersOption = None,
    as_json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Take the small multilingual corpus that ships with Gristmill through every stage.

    Example: [cyan]gristmill demo[/]
    """
    from pipeline.recipe_file import load_recipe

    out = Output(as_json, quiet=quiet)
    carry_out(load_recipe("demo"), output, out, workers=workers)


def check_stage_and_runner(until: str, runner: str) -> None:
    """Refuse options that cannot work before anything heavy is imported; RecipeError."""
    from pipeline.recipe_errors import closest
    from schemas.errors import RecipeError
    from schemas.recipe import STAGES

    if until not in STAGES:
        raise RecipeError(
            f'--until: expected one of {", ".join(STAGES)}; got "{until}".{closest(until, STAGES)}'
        )
    if runner.lower() in _NOT_YET:
        raise RecipeError(
            f"--runner {runner}: this version runs on one machine only; use local "
            "(or DirectRunner, which is the same)"
        )


def carry_out(
    recipe: Recipe,
    directory: str,
    output: Output,
    *,
    runner: str = "local",
    workers: int | None = None,
    until: str = "encode",
) -> None:
    """Run a recipe with progress, then tell what came out. Raises what `execute` raises."""
    from pipeline.runners import RunnerOptions

    options = RunnerOptions(runner=runner, workers=workers)
    output.event("start", recipe=recipe.name, recipe_sha256=recipe.sha256(), directory=directory)
    if not output.quiet:
        output.text(f"{recipe.name} into {directory}")
    from pipeline.progress import Progress, display
    from pipeline.run import execute, steps_until

    steps = [(step.name, step.stage) for step in steps_until(until)]
    with Progress(directory, steps, display(output)):
        execute(recipe, directory, options=options, until=until)
    from pipeline.commands.closing import decoded_sample, tell
    from pipeline.inspect import collect

    facts = collect(directory)
    most = facts["languages"][0]["language"] if facts["languages"] else None
    tell(facts, output, decoded_sample(directory, most))
