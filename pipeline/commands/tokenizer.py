"""`gristmill train-tokenizer`: a tokenizer from any corpus, without the rest of the pipeline."""

from __future__ import annotations

import glob
import os
from typing import Annotated, Any

import typer

from pipeline.commands.console import JsonOption, Output, QuietOption, guarded
from pipeline.commands.run import WorkersOption, carry_out

_KINDS = ("bpe", "sentencepiece")


@guarded
def train_tokenizer(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files or quoted globs that the readers know: JSONL, CSV, Parquet, Arrow, text, "
            "WET, WARC, compressed or not. Example: [cyan]'corpus/**/*.jsonl.zst'[/]",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Run directory; the tokenizer is in DIR/tokenizer. Example: [cyan]-o runs/tok[/]",
        ),
    ],
    vocab_size: Annotated[
        int, typer.Option(help="Entries of the vocabulary. Example: [cyan]--vocab-size 50000[/]")
    ] = 32_000,
    kind: Annotated[
        str,
        typer.Option(
            help="bpe (byte-level) or sentencepiece (BPE with byte fallback). "
            "Example: [cyan]--kind sentencepiece[/]"
        ),
    ] = "bpe",
    pretokenizer: Annotated[
        str | None,
        typer.Option(
            help="How byte-level BPE cuts text: llama3 (the default) or gpt2. "
            "Example: [cyan]--pretokenizer gpt2[/]",
            show_default=False,
        ),
    ] = None,
    min_frequency: Annotated[
        int | None,
        typer.Option(
            help="Byte-level BPE merges no pair that is rarer; 2 by default. "
            "Example: [cyan]--min-frequency 10[/]",
            show_default=False,
        ),
    ] = None,
    text_field: Annotated[
        str,
        typer.Option(
            help="Field of the records that holds text. Example: [cyan]--text-field body[/]"
        ),
    ] = "text",
    format: Annotated[
        str,
        typer.Option(
            help="Format of the files, by their names if auto. Example: [cyan]--format jsonl[/]"
        ),
    ] = "auto",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Only the first N documents. Example: [cyan]--limit 100000[/]",
            show_default=False,
        ),
    ] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = None,
    quiet: QuietOption = False,
) -> None:
    """Train a tokenizer from files as they are: no filters, no deduplication, no scrubbing.

    Example: [cyan]gristmill train-tokenizer corpus.jsonl.zst --output runs/tok[/]
    """
    from schemas.errors import RecipeError

    settings: dict[str, Any] = {"kind": kind, "vocab_size": vocab_size}
    for name, value in (("pretokenizer", pretokenizer), ("min_frequency", min_frequency)):
        if value is not None:
            if kind != "bpe":
                raise RecipeError(f"--{name.replace('_', '-')} is for --kind bpe only")
            settings[name] = value
    recipe = {
        "name": "tokenizer",
        "sources": [
            {
                "name": "input",
                "paths": [_pattern(path) for path in inputs],
                "format": format,
                "fields": {"text": text_field},
            }
        ],
        "input": {"limit": limit},
        "clean": {"language": None, "passes": [{"name": "main", "signals": "needed"}]},
        "dedup": {"exact": False, "minhash": None},
        "scrub": {"entities": []},
        "tokenizer": settings,
    }
    from pipeline.recipe_file import recipe_from_options

    out = Output(as_json, quiet=quiet)
    loaded = recipe_from_options(recipe)
    carry_out(loaded, output, out, workers=workers, until="train")


def _pattern(path: str) -> str:
    """Absolute, and a file's own name taken literally even where it looks like a glob."""
    if "://" in path:
        return path
    absolute = os.path.abspath(os.path.expanduser(path))
    return glob.escape(absolute) if os.path.exists(absolute) else absolute
