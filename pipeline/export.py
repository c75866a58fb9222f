"""Clean documents for other programs: one JSONL or Parquet file, streamed in the run's order."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.recipe_errors import closest
from pipeline.rundir import StepState, open_run, read_steps
from pipeline.step import Run
from schemas.document import BATCH_DOCUMENTS, DOCUMENT
from schemas.errors import IntegrityError, RecipeError, RunDirectoryError

FORMATS = ("jsonl", "parquet")
_ZSTD_LEVEL = 3


def export(directory: str, output: str, *, format: str, zstd: bool) -> dict[str, Any]:
    """Write the clean documents of a run that has been scrubbed to `output`.

    One row group of documents is in memory at a time. The file appears whole or not at all.
    Returns `documents`, `bytes` (size of the file) and `path`. Raises RecipeError for an unknown
    format, RunDirectoryError if the run has no clean documents yet, IntegrityError if a shard is
    damaged.
    """
    if format not in FORMATS:
        raise RecipeError(
            f'--format: expected {" or ".join(FORMATS)}; got "{format}".{closest(format, FORMATS)}'
        )
    run = open_run(directory)
    batches = _documents(run, _scrubbed(run))
    # Beside the target where possible, so that the last step is a rename.
    folder = None if storage.is_remote(output) else os.path.dirname(os.path.abspath(output))
    if folder is not None:
        os.makedirs(folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gristmill-export-", dir=folder) as scratch:
        local = Path(scratch) / "export"
        write = _write_jsonl if format == "jsonl" else _write_parquet
        documents = write(local, batches, zstd)
        size = local.stat().st_size
        storage.publish(local, output)
    return {"documents": documents, "bytes": size, "path": output, "format": format}


def _scrubbed(run: Run) -> StepState:
    for state in read_steps(run):
        if state.step == "scrub" and state.finished:
            return state
    raise RunDirectoryError(
        f"{run.directory} has no clean documents yet: finish its scrub stage with "
        f"gristmill run ... --output {run.directory} --until scrub"
    )


def _documents(run: Run, scrubbed: StepState) -> Iterator[pa.RecordBatch]:
    """Clean documents in task order, each shard in row order."""
    for record in scrubbed.records:
        for shard in record.outputs:
            if shard.kind != "clean":
                continue
            try:
                with storage.open_read(run.path(shard.path)) as opened:
                    file = pq.ParquetFile(opened)
                    if not file.schema_arrow.equals(DOCUMENT):
                        raise IntegrityError(f"{shard.path}: not the schema of documents")
                    for group in range(file.num_row_groups):
                        table = file.read_row_group(group, use_threads=False).combine_chunks()
                        yield from table.to_batches(max_chunksize=BATCH_DOCUMENTS)
            except (OSError, pa.ArrowException) as error:
                raise IntegrityError(
                    f"{shard.path}: cannot read the clean shard ({error}); see gristmill verify"
                ) from error


def _write_jsonl(path: Path, batches: Iterator[pa.RecordBatch], zstd: bool) -> int:
    """Lines of UTF-8 JSON, every key in every line; scores with their four places."""
    documents = 0
    with ExitStack() as stack:
        file = stack.enter_context(open(path, "wb"))
        write: Callable[[bytes], int] = file.write
        if zstd:
            import zstandard

            compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True)
            write = stack.enter_context(compressor.stream_writer(file, closefd=False)).write
        for batch in batches:
            rows = batch.to_pylist()
            for row in rows:
                if row["language_score"] is not None:  # a float32 has no more to say
                    row["language_score"] = round(row["language_score"], 4)
            lines = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
            write("".join(line + "\n" for line in lines).encode())
            documents += len(rows)
    return documents


def _write_parquet(path: Path, batches: Iterator[pa.RecordBatch], zstd: bool) -> int:
    documents = 0
    codec: dict[str, Any] = {"compression": "none"}
    if zstd:
        codec = {"compression": "zstd", "compression_level": _ZSTD_LEVEL}
    with pq.ParquetWriter(path, DOCUMENT, version="2.6", **codec) as writer:
        for batch in batches:
            writer.write_batch(batch)
            documents += batch.num_rows
    return documents
