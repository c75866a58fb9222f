"""Packing by concat-and-chunk: documents one after another, cut into rows of T tokens.

The stream of a shard is every document in order, with BOS before and the end token after it where
asked for. Row r holds the tokens [r T, (r + 1) T) of the stream; the last row is filled up with the
end token. Rows leave in batches of a constant number of rows, however the documents came in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from schemas.errors import IntegrityError
from schemas.tokens import ShardInfo

# A batch is one buffer in memory; long rows make batches of fewer rows.
BATCH_TOKENS = 1 << 23


def batch_rows(rows_per_batch: int, sequence_length: int) -> int:
    """`rows_per_batch`, lowered so that a batch has at most BATCH_TOKENS tokens, at least 1."""
    return max(1, min(rows_per_batch, BATCH_TOKENS // sequence_length))


class Packer:
    """Gathers documents and yields full record batches; holds at most one batch.

    `tokens`, `rows` and `padding` count what was put in and what came out; `logical_sha256()` is
    the hash of the stream as little-endian uint32, free of T, dtype, padding and container.
    """

    def __init__(self, info: ShardInfo) -> None:
        self._info = info
        self._schema = info.schema()
        self._buffer = np.empty(info.rows_per_batch * info.sequence_length, dtype=info.dtype)
        self._base = 0  # stream position of the buffer's first token
        self._fill = 0
        self._starts: list[np.ndarray] = []  # int64, stream positions where documents begin
        # The document that the buffer begins inside of: its number and its stream position.
        self._open_document = -1  # none yet
        self._open_start = 0
        self._hash = hashlib.sha256()
        self.documents = 0
        self.rows = 0
        self.padding = 0

    @property
    def tokens(self) -> int:
        """Tokens of the stream so far, BOS and end tokens included."""
        return self._base + self._fill

    def with_marks(self, ids: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Put BOS and end tokens around each document.

        Takes and gives flat ids (unsigned[m]) and offsets (int64[n + 1]); ids come back as uint32.
        IntegrityError if a text has the id of a mark.
        """
        info = self._info
        begin, end = int(info.begin_document), int(info.end_document)
        documents = len(offsets) - 1
        moved = offsets.astype(np.int64) - offsets[0]
        moved += np.arange(documents + 1, dtype=np.int64) * (begin + end)
        ids = ids[offsets[0] : offsets[-1]]
        if not begin + end:
            return ids.astype(np.uint32, copy=False), moved
        out = np.empty(moved[-1], dtype=np.uint32)
        ours = np.ones(len(out), dtype=bool)
        # Readers may take every mark for the edge of a document.
        for mark, wanted in ((info.bos_id, begin), (info.eos_id, end)):
            if wanted and mark is not None and bool((ids == mark).any()):
                raise IntegrityError(
                    f"the tokenizer encodes ordinary text to id {mark}, which marks the edges of "
                    "documents; choose another tokenizer.end_of_document"
                )
        if begin:
            if info.bos_id is None:
                raise ValueError("begin_document needs a tokenizer with a BOS token")
            ours[moved[:-1]] = False
            out[moved[:-1]] = info.bos_id
        if end:
            ours[moved[1:] - 1] = False
            out[moved[1:] - 1] = info.eos_id
        out[ours] = ids
        return out, moved

    def add(self, ids: np.ndarray, offsets: np.ndarray) -> Iterator[pa.RecordBatch]:
        """Append marked documents (see `with_marks`); yield the batches that became full.

        ids: unsigned[m], each below vocab_size; offsets: int64[n + 1] from 0 to m.
        """
        self._hash.update(np.ascontiguousarray(ids, dtype="<u4").data)
        starts = offsets[:-1] + self.tokens
        self.documents += len(starts)
        taken = document = 0
        while True:
            room = len(self._buffer) - self._fill
            piece = ids[taken : taken + room]
            self._buffer[self._fill : self._fill + len(piece)] = piece
            self._fill += len(piece)
            taken += len(piece)
            # A document that would begin exactly at the buffer's end belongs to the next one.
            until = int(np.searchsorted(starts, self._base + len(self._buffer)))
            self._starts.append(starts[document:until])
            document = max(document, until)
            if self._fill < len(self._buffer):
                return
            yield self._flush(self._info.rows_per_batch)

    def finish(self) -> Iterator[pa.RecordBatch]:
        """Pad the last row and yield the rest, if any."""
        if self._fill:
            length = self._info.sequence_length
            rows = -(-self._fill // length)
            self.padding = rows * length - self._fill
            self._buffer[self._fill : rows * length] = self._info.eos_id
            yield self._flush(rows)

    def logical_sha256(self) -> str:
        """Hex digest of the stream so far."""
        return self._hash.hexdigest()

    def _flush(self, rows: int) -> pa.RecordBatch:
        length = self._info.sequence_length
        starts = np.concatenate([np.array([self._open_start], dtype=np.int64), *self._starts])
        row_starts = self._base + np.arange(rows, dtype=np.int64) * length
        end = self._base + self._fill
        # Of documents without tokens, which begin where the next one does, the last is meant.
        first = np.searchsorted(starts, row_starts, side="right") - 1
        # Pieces are cut where a row or a document begins.
        cuts = np.union1d(row_starts, starts[(starts > self._base) & (starts < end)])
        lengths = np.diff(cuts, append=end).astype(np.int32)
        list_offsets = np.append(np.searchsorted(cuts, row_starts), len(cuts)).astype(np.int32)
        batch = pa.RecordBatch.from_arrays(
            [
                pa.FixedSizeListArray.from_arrays(
                    pa.array(self._buffer[: rows * length]), type=self._schema.field(0).type
                ),
                pa.ListArray.from_arrays(pa.array(list_offsets), pa.array(lengths)),
                pa.array(first + self._open_document),
                pa.array(row_starts - starts[first]),
            ],
            schema=self._schema,
        )
        self.rows += rows
        self._open_document += len(starts) - 1
        self._open_start = int(starts[-1])
        self._starts = []
        self._base = end
        self._fill = 0
        self._buffer = np.empty_like(self._buffer)  # the batch keeps the old one
        return batch
