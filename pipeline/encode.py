"""The encode step: clean shards to token shards.

One task encodes consecutive clean shards into one token shard and its document table, batch by
batch; documents are neither dropped nor edited here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import storage
from pipeline.environment import fingerprint
from pipeline.files import read_batches
from pipeline.step import Outputs, Result, Run
from pipeline.tally import tally
from schemas.errors import IntegrityError, RecipeError
from schemas.ledger import Counts
from schemas.record import Task, TaskRecord
from schemas.text import text_bytes
from schemas.tokens import ShardInfo
from tokenizer.encode import Tokenizer, load_tokenizer
from tokenizer.pack import batch_rows
from tokenizer.shards import DOCUMENTS_SUFFIX, SUFFIX, ShardWriter

BYTES_PER_TOKEN = 3  # a low estimate, for planning
CHECK_EVERY = 1024  # one document in so many is encoded again by the reference
_COLUMNS = ["id", "text", "source", "path", "position", "url", "language"]
_LENGTH_CLASSES = 48

# The last tokenizer that this process has loaded, by the sha256 of its file and its end token.
_loaded: dict[tuple[str, str | None], Tokenizer] = {}


class Encode:
    """Plans groups of clean shards by size; `params["clean"]` names scrub tasks, in order."""

    name = "encode"
    stage = "encode"

    def plan(self, run: Run) -> list[Task]:
        shards = [
            (record.task, record.counts.total("kept").bytes)
            for record in run.records("scrub")
            if any(output.kind == "clean" for output in record.outputs)
        ]
        limit = min(
            run.recipe.encode.shard_tokens * BYTES_PER_TOKEN,
            -(-sum(size for _, size in shards) // run.recipe.planning.min_tasks),
        )
        return [
            Task(
                step=self.name,
                name=f"encode-{number:05d}",
                size=sum(size for _, size in group),
                params={"clean": [name for name, _ in group]},
            )
            for number, group in enumerate(_groups(shards, limit))
        ]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        tokenizer = _tokenizer(run)
        info = _shard_info(run, tokenizer)
        counts = Counts()
        statistics = _Statistics(info.vocab_size)
        row = 0  # of the document in this task
        with ShardWriter(
            outputs.path("tokens", f"tokens/{task.name}{SUFFIX}"),
            outputs.path("token-documents", f"tokens/{task.name}{DOCUMENTS_SUFFIX}"),
            info,
        ) as writer:
            for name in task.params["clean"]:
                for batch in _read(run, run.record("scrub", name)):
                    text = batch.column("text")
                    ids, offsets = tokenizer.encode(text)
                    _check_sample(tokenizer, text, ids, offsets, row)
                    lengths = writer.write(batch, ids, offsets)
                    sizes = text_bytes(text)
                    tally(counts, "in", batch, sizes)
                    tally(counts, "kept", batch, sizes, tokens=lengths)
                    statistics.add(ids, lengths)
                    row += batch.num_rows
        return Result(
            counts,
            {
                "documents": row,
                "rows": writer.rows,
                "tokens": writer.tokens,
                "padding": writer.padding,
                "bytes": counts.total("kept").bytes,
                "logical_sha256": writer.logical_sha256(),
                "tokenizer_sha256": tokenizer.sha256,
                **statistics.to_json(),
            },
        )


def _groups(shards: Sequence[tuple[str, int]], limit: int) -> Iterator[list[tuple[str, int]]]:
    """Consecutive shards of at most `limit` bytes together; a larger one stands alone.

    Empty shards go with the one before them.
    """
    group: list[tuple[str, int]] = []
    size = 0
    for shard in shards:
        if size and shard[1] and size + shard[1] > limit:
            yield group
            group, size = [], 0
        group.append(shard)
        size += shard[1]
    if group:
        yield group


def _tokenizer(run: Run) -> Tokenizer:
    """The run's tokenizer, loaded once a process; IntegrityError if it is not the recorded file."""
    record = run.record("train", "train")
    output = record.output("tokenizer")
    facts = json.loads(storage.read_bytes(run.path(record.output("tokenizer-info").path)))
    key = output.sha256, facts.get("end_of_document")
    if key not in _loaded:
        with storage.local_copy(run.path(output.path)) as local:
            tokenizer = load_tokenizer(local, end_of_document=key[1])
        if tokenizer.sha256 != output.sha256:
            raise IntegrityError(
                f"{output.path}: expected sha256 {output.sha256}, got {tokenizer.sha256}"
            )
        _loaded.clear()
        _loaded[key] = tokenizer
    return _loaded[key]


def _shard_info(run: Run, tokenizer: Tokenizer) -> ShardInfo:
    settings = run.recipe.encode
    if settings.begin_document and tokenizer.bos_id is None:
        raise RecipeError(
            f"encode.begin_document: {tokenizer.name} has no token that begins documents; "
            "set it to false"
        )
    return ShardInfo(
        sequence_length=settings.sequence_length,
        rows_per_batch=batch_rows(settings.rows_per_batch, settings.sequence_length),
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        bos_id=tokenizer.bos_id,
        begin_document=settings.begin_document,
        end_document=settings.end_document,
        tokenizer_sha256=tokenizer.sha256,
        recipe_sha256=run.recipe_sha256,
        gristmill=fingerprint()["gristmill"],
    )


def _read(run: Run, record: TaskRecord) -> Iterator[pa.RecordBatch]:
    """Documents of a clean shard, one row group in memory at a time."""
    path = run.path(record.output("clean").path)
    with storage.local_copy(path) as local:
        try:
            yield from read_batches(local, columns=_COLUMNS)
        except (OSError, pa.ArrowException) as error:
            raise IntegrityError(f"{path}: cannot read the clean shard ({error})") from error


def _check_sample(
    tokenizer: Tokenizer, text: pa.StringArray, ids: np.ndarray, offsets: np.ndarray, row: int
) -> None:
    """Compare every CHECK_EVERY-th document of the task, `row` being the number of the first."""
    for chosen in range(-row % CHECK_EVERY, len(text), CHECK_EVERY):
        tokenizer.check(text.slice(chosen, 1), ids, offsets[chosen : chosen + 2])


class _Statistics:
    """Sums over documents that later merge by addition."""

    def __init__(self, vocab_size: int) -> None:
        self._used = np.zeros(vocab_size, dtype=bool)
        self._lengths = np.zeros(_LENGTH_CLASSES, dtype=np.int64)

    def add(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """Count unmarked ids and the lengths of documents with their marks."""
        self._used[ids] = True
        # frexp gives the exponent exactly: 2**(e - 1) <= length < 2**e, and 0 for length 0.
        classes = np.frexp(lengths.astype(np.float64))[1]
        self._lengths += np.bincount(classes, minlength=_LENGTH_CLASSES)

    def to_json(self) -> dict[str, Any]:
        """`vocabulary_used`: distinct ids in texts; `lengths`: documents by tokens, keyed by the
        largest length of their class (0, 1, 3, 7, 15 ...).
        """
        return {
            "vocabulary_used": int(self._used.sum()),
            "lengths": {
                str(2**power - 1): int(count) for power, count in enumerate(self._lengths) if count
            },
        }
