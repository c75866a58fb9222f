"""Pretoken counts at rest: sorted, distinct, mergeable by streaming.

A count file is an Arrow IPC file (zstd) with the columns of COUNTS, sorted by the bytes of
`pretoken`, each pretoken once. The same counts always make the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import IntegrityError

COUNTS = pa.schema(
    [
        pa.field("pretoken", pa.binary(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)
BATCH_ROWS = 1 << 15  # of a count file; a merge holds about two batches of every file
FAN_IN = 64  # files merged at once; more are merged in rounds

_OPTIONS = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


def write_counts(path: str | os.PathLike[str], batches: Iterable[pa.RecordBatch]) -> None:
    """Write batches of COUNTS, which must be sorted and distinct across batches."""
    with (
        pa.OSFile(os.fspath(path), "wb") as sink,
        pa.ipc.new_file(sink, COUNTS, options=_OPTIONS) as writer,
    ):
        for batch in _even(batches):
            writer.write_batch(batch)


def merge_counts(paths: Sequence[str | os.PathLike[str]]) -> Iterator[pa.RecordBatch]:
    """Sum count files into one sorted stream of COUNTS batches, in memory bounded by FAN_IN files.

    Raises IntegrityError if a file is not a sorted count file.
    """
    if len(paths) <= FAN_IN:
        yield from _merge([_read(path) for path in paths])
        return
    with tempfile.TemporaryDirectory(prefix="gristmill-counts-") as folder:
        merged = []
        for first in range(0, len(paths), FAN_IN):
            merged.append(Path(folder, f"{first}.arrow"))
            write_counts(merged[-1], merge_counts(paths[first : first + FAN_IN]))
        yield from merge_counts(merged)


def read_counts(paths: Sequence[str | os.PathLike[str]]) -> pa.Table:
    """All counts of some files in memory, as one COUNTS table."""
    return pa.Table.from_batches(merge_counts(paths), COUNTS)


def _read(path: str | os.PathLike[str]) -> Iterator[pa.RecordBatch]:
    try:
        with pa.OSFile(os.fspath(path), "rb") as source, pa.ipc.open_file(source) as reader:
            if reader.schema != COUNTS:
                raise IntegrityError(
                    f"{path}: expected pretoken counts with columns "
                    f"{', '.join(COUNTS.names)}, got {', '.join(reader.schema.names)}"
                )
            for i in range(reader.num_record_batches):
                if (batch := reader.get_batch(i)).num_rows:
                    yield batch
    except pa.ArrowInvalid as error:
        raise IntegrityError(f"{path}: not a file of pretoken counts: {error}") from error


def _merge(streams: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    """Sum sorted streams: take what no stream can still send something smaller than, again."""
    heads = [(batch, stream) for stream in streams if (batch := next(stream, None)) is not None]
    while len(heads) > 1:
        bound = min(batch["pretoken"][-1].as_py() for batch, _ in heads)
        taken, rest = [], []
        for batch, stream in heads:
            n = _rows_up_to(batch["pretoken"], bound)
            if n:
                taken.append(batch.slice(0, n))
            left: pa.RecordBatch | None = batch.slice(n) if n < batch.num_rows else None
            if left is None:
                left = next(stream, None)
                if left is not None and n and left["pretoken"][0].as_py() <= bound:
                    raise IntegrityError("a file of pretoken counts is not sorted")
            if left is not None:
                rest.append((left, stream))
        heads = rest
        yield _sum(taken)
    for batch, stream in heads:
        yield batch
        yield from stream


def _rows_up_to(pretokens: pa.BinaryArray, bound: bytes) -> int:
    """How many leading rows of a sorted array are <= bound."""
    low, high = 0, len(pretokens)
    while low < high:
        middle = (low + high) // 2
        if pretokens[middle].as_py() <= bound:
            low = middle + 1
        else:
            high = middle
    return low


def _sum(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """One sorted, distinct batch out of several."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    table = table.take(pc.array_sort_indices(table["pretoken"].combine_chunks()))
    pretokens = table["pretoken"].combine_chunks()
    fresh = pc.not_equal(pretokens[1:], pretokens[:-1]).to_numpy(zero_copy_only=False)
    first = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(fresh) + 1])
    counts = np.add.reduceat(table["count"].to_numpy(), first)
    return pa.RecordBatch.from_arrays(
        [pretokens.take(pa.array(first)), pa.array(counts)], schema=COUNTS
    )


def _even(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of BATCH_ROWS, so that a file's bytes depend on its rows only."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        held.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            table = pa.Table.from_batches(held, COUNTS).combine_chunks()
            whole = table.to_batches()[0]
            for first in range(0, rows - BATCH_ROWS + 1, BATCH_ROWS):
                yield _compact(whole.slice(first, BATCH_ROWS))
            rows %= BATCH_ROWS
            held = [whole.slice(whole.num_rows - rows)] if rows else []
    if rows:
        yield _compact(pa.Table.from_batches(held, COUNTS).combine_chunks().to_batches()[0])


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A copy that owns just its rows: what is written must not depend on how slices came about."""
    everything: npt.NDArray[np.int64] = np.arange(batch.num_rows)
    return batch.take(pa.array(everything))
