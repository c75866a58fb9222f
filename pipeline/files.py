"""Writers and readers of document shards and their side tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.step import Outputs
from schemas.document import BATCH_BYTES, BATCH_DOCUMENTS, REJECT
from schemas.record import Task

# Fixed, so that a shard's bytes do not depend on a library's default.
_PARQUET = {
    "compression": "zstd",
    "compression_level": 3,
    "write_statistics": True,
    "version": "2.6",
    "data_page_version": "1.0",
    "store_schema": True,
}
_REPEATED = ("source", "path", "language", "reason", "entity", "kind")  # columns of few values


class ParquetShard:
    """Writes batches of one schema as row groups of about BATCH_DOCUMENTS rows or BATCH_BYTES.

    Small batches are gathered first, so that the row groups do not follow the sizes of input files.
    The file exists even when nothing is written.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        repeated = [n for n in _REPEATED if n in schema.names]
        self._writer = pq.ParquetWriter(path, schema, use_dictionary=repeated, **_PARQUET)
        self._schema = schema
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._pending_rows = 0
        self.rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self._pending.append(batch)
        self._pending_bytes += batch.nbytes
        self._pending_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._pending_rows >= BATCH_DOCUMENTS or self._pending_bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            self._writer.write_table(table, row_group_size=self._pending_rows)
            self._pending, self._pending_bytes, self._pending_rows = [], 0, 0

    def __enter__(self) -> ParquetShard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The shard's row groups as batches, one at a time in memory."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns, use_threads=False)
            yield from table.combine_chunks().to_batches(max_chunksize=BATCH_DOCUMENTS * 4)


class Quarantine:
    """A task's REJECT rows, written as they come; the file exists only if there are any."""

    def __init__(self, outputs: Outputs, task: Task) -> None:
        self._outputs = outputs
        self._name = f"quarantine/{task.name}.parquet"
        self._shard: ParquetShard | None = None

    @property
    def rows(self) -> int:
        return 0 if self._shard is None else self._shard.rows

    def write(self, rejects: pa.RecordBatch) -> None:
        if rejects.num_rows:
            if self._shard is None:
                self._shard = ParquetShard(self._outputs.path("quarantine", self._name), REJECT)
            self._shard.write(rejects)

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shard is not None:
            self._shard.__exit__(kind, error, trace)
