"""The closing words of a run: what came out, where it is, and what to try next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline import storage
from pipeline.commands.console import Output
from pipeline.rundir import open_run, read_steps
from pipeline.step import Run
from pipeline.tables import line, render_funnel, render_warnings
from schemas.record import TaskRecord

SAMPLE_CHARACTERS = 300
_SAMPLE_TOKENS = 50  # a document of fewer says little
_SAMPLE_SHARD = 64 << 20  # bytes of a shard that is worth downloading for it

_PLACES = {
    "tokens": "token shards",
    "tokenizer": "the tokenizer",
    "clean": "clean documents",
    "documents": "documents that the filters kept",
    "signals": "measurements of every document",
    "quarantine": "input that failed, with its errors",
}


def tell(facts: Mapping[str, Any], output: Output, sample: str | None) -> None:
    """The end of a run: funnel, tokens, a decoded sample, where things are, what to try next."""
    output.event("result", **facts, sample=sample)
    if output.json or output.quiet:
        return
    console = output.console
    render_funnel(facts, console)
    directory = facts["directory"]
    if facts["tokens"] is not None:
        tokens = facts["tokens"]
        line(
            console,
            f"\n{tokens['tokens']:,} tokens in {tokens['documents']:,} documents"
            + (f", {tokens['bytes_per_token']} bytes a token" if tokens["tokens"] else ""),
            "bold",
        )
    if sample is not None:
        line(console, "\nThe beginning of a document, decoded from a token shard:", "bold")
        line(console, sample, "green")
    line(console, "\nWhere it is", "bold")
    for kind, about in _PLACES.items():
        found = [row for row in facts["sizes"] if row["kind"] == kind]
        if found:
            files = f"{found[0]['files']} file{'s' if found[0]['files'] > 1 else ''}"
            line(console, f"  {directory}/{kind}/  {about}, {files}")
    render_warnings(facts, console)
    line(console, "\nWhat to try next", "bold")
    line(console, f"  gristmill inspect {directory}")
    line(console, f"  gristmill verify {directory}")
    if any(row["kind"] == "clean" for row in facts["sizes"]):
        line(console, f"  gristmill export {directory} --format jsonl --output clean.jsonl")


def decoded_sample(directory: str, language: str | None = None) -> str | None:
    """The beginning of one document, decoded from the first token shard; None without tokens.

    The first document of `language` that is not very short, if that shard has one.
    """
    run = open_run(directory)
    records = {state.step: state.records for state in read_steps(run)}
    for record in records.get("encode", ()):
        shard = record.output("tokens")
        if record.counts.total("kept").documents and (
            not storage.is_remote(directory) or shard.bytes <= _SAMPLE_SHARD
        ):
            return _decode(run, records["train"][0], record, language)
    return None


def _decode(run: Run, trained: TaskRecord, encoded: TaskRecord, language: str | None) -> str:
    from tokenizer.encode import load_tokenizer
    from tokenizer.shards import open_shard

    facts = json.loads(storage.read_bytes(run.path(trained.output("tokenizer-info").path)))
    with (
        storage.local_copy(run.path(trained.output("tokenizer").path)) as model,
        storage.local_copy(run.path(encoded.output("tokens").path)) as tokens,
        storage.local_copy(run.path(encoded.output("token-documents").path)) as documents,
    ):
        tokenizer = load_tokenizer(model, facts.get("end_of_document"))
        shard = open_shard(tokens, str(documents))
        long = shard.documents.column("tokens").to_numpy() >= _SAMPLE_TOKENS
        wanted = np.array(shard.documents.column("language").to_pylist()) == language
        text = shard.text(int(np.argmax(2 * long + wanted)), tokenizer)
    cut = text[:SAMPLE_CHARACTERS]
    return cut if len(cut) == len(text) else f"{cut.rstrip()} ..."
