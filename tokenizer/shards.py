"""Token shards on disk: writing them, and opening them as they are, without a copy.

A shard is two files: `NAME.arrow`, packed rows as an uncompressed Arrow IPC stream, and
`NAME.documents.parquet`, one row a document. docs/token-shards.md specifies both.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import IntegrityError
from schemas.text import utf8
from schemas.tokens import TOKEN_DOCUMENT, ShardInfo
from tokenizer.pack import Packer

SUFFIX = ".arrow"
DOCUMENTS_SUFFIX = ".documents.parquet"
# Arrow's end-of-stream marker. pyarrow takes a stream cut between two batches for a whole one.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_ROW_GROUP = 10_000
_GATHER_TOKENS = 1 << 20
_PARQUET = {
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": ["source", "path", "language"],
    "write_statistics": True,
    "version": "2.6",
    "data_page_version": "1.0",
    "store_schema": True,
}


class Decoder(Protocol):
    """What a shard needs of a tokenizer to show text."""

    @property
    def sha256(self) -> str:
        """Of the tokenizer's file."""

    def decode(self, ids: np.ndarray) -> str:
        """Text of these ids."""


class ShardWriter:
    """Writes one shard; the bytes depend on the documents and on `info`, not on how they are fed.

    `info.rows_per_batch` is taken as it is; see `tokenizer.pack.batch_rows` for a bound.
    """

    def __init__(self, tokens: Path, documents: Path, info: ShardInfo) -> None:
        self.info = info
        self._packer = Packer(info)
        self._tokens = pa.OSFile(str(tokens), "wb")
        options = pa.ipc.IpcWriteOptions(
            metadata_version=pa.ipc.MetadataVersion.V5, compression=None, use_threads=False
        )
        self._stream = pa.ipc.new_stream(self._tokens, info.schema(), options=options)
        schema = TOKEN_DOCUMENT.with_metadata(info.to_metadata())
        self._documents = pq.ParquetWriter(documents, schema, **_PARQUET)
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self.padding = 0
        self.rows = 0

    @property
    def tokens(self) -> int:
        """Tokens of the stream so far: BOS and end tokens count, padding does not."""
        return self._packer.tokens

    def logical_sha256(self) -> str:
        """Hex digest of the stream so far, as little-endian uint32."""
        return self._packer.logical_sha256()

    def write(self, documents: pa.RecordBatch, ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Append documents: rows of schemas.document.DOCUMENT, their ids, and offsets int64[n + 1].

        Returns int64[n], the tokens of each document with the marks around it.
        """
        if documents.num_rows != len(offsets) - 1:
            raise ValueError(f"{documents.num_rows} documents, {len(offsets) - 1} token sequences")
        ids, offsets = self._packer.with_marks(ids, offsets)
        lengths = np.diff(offsets)
        self._describe(documents, lengths, offsets[:-1] + self._packer.tokens)
        for batch in self._packer.add(ids, offsets):
            self._stream.write_batch(batch)
        return lengths

    def _describe(self, documents: pa.RecordBatch, tokens: np.ndarray, starts: np.ndarray) -> None:
        text = documents.column("text")
        data, offsets = utf8(text)
        sha256 = hashlib.sha256
        view = data.data
        hashes = [sha256(view[i:j]).digest() for i, j in pairwise(offsets.tolist())]
        columns = {
            "bytes": pa.array(np.diff(offsets).astype(np.int64)),
            "tokens": pa.array(tokens),
            "start": pa.array(starts),
            "text_sha256": pa.array(hashes, type=pa.binary(32)),
        }
        schema = self._documents.schema
        self._pending.append(
            pa.RecordBatch.from_arrays(
                [
                    columns[name] if name in columns else documents.column(name)
                    for name in schema.names
                ],
                schema=schema,
            )
        )
        self._pending_rows += len(text)
        if self._pending_rows >= _ROW_GROUP:
            self._flush_documents(last=False)

    def _flush_documents(self, *, last: bool) -> None:
        # Row groups of exactly _ROW_GROUP rows, so that the bytes do not follow the batches.
        table = pa.Table.from_batches(self._pending, self._documents.schema).combine_chunks()
        whole = len(table) if last else len(table) // _ROW_GROUP * _ROW_GROUP
        for start in range(0, whole, _ROW_GROUP):
            self._documents.write_table(
                table.slice(start, min(_ROW_GROUP, whole - start)), row_group_size=_ROW_GROUP
            )
        self._pending = table.slice(whole).to_batches()
        self._pending_rows = len(table) - whole

    def close(self) -> None:
        """Write the last row and both ends; the shard is complete afterwards."""
        for batch in self._packer.finish():
            self._stream.write_batch(batch)
        self._stream.close()
        self._tokens.close()
        self.padding, self.rows = self._packer.padding, self._packer.rows
        self._flush_documents(last=True)
        # Known only now, hence in the document table's footer and not at the stream's head.
        self._documents.add_key_value_metadata(
            {
                "gristmill.rows": str(self.rows),
                "gristmill.tokens": str(self.tokens),
                "gristmill.logical_sha256": self.logical_sha256(),
            }
        )
        self._documents.close()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:  # what was written is thrown away; do not make it look finished
            self._tokens.close()
            self._documents.close()


class TokenShard:
    """A shard opened for reading: memory-mapped, nothing is copied until it is asked for.

    `len()` is the number of rows, `shard[i]` is row i as a read-only view, unsigned[T].
    """

    def __init__(self, path: Path, table: pa.Table, info: ShardInfo, documents: Path) -> None:
        self.path = path
        self.info = info
        self.table = table
        self._documents = documents
        # Row blocks as they lie in the file: unsigned[rows, T] each, all but the last of one size.
        self.blocks: tuple[np.ndarray, ...] = tuple(
            _matrix(chunk, info) for chunk in table.column("input_ids").chunks
        )

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.row(row)

    def row(self, row: int) -> np.ndarray:
        """Row `row`: a view unsigned[T] of the file; padding is the end token."""
        if not 0 <= row < len(self):
            raise IndexError(f"{self.path}: row {row} of {len(self)}")
        block, rest = divmod(row, self.info.rows_per_batch)
        found: np.ndarray = self.blocks[block][rest]
        return found

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as unsigned[stop - start, T]: a view within a batch, else a copy."""
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self.path}: rows {start} to {stop} of {len(self)}")
        size = self.info.rows_per_batch
        first, last = start // size, max(start, stop - 1) // size
        parts = [
            self.blocks[b][max(start - b * size, 0) : stop - b * size]
            for b in range(first, min(last + 1, len(self.blocks)))
        ]
        if not parts:
            return np.empty((0, self.info.sequence_length), dtype=self.info.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @property
    def input_ids(self) -> np.ndarray:
        """All rows, unsigned[rows, T]: a view if the shard is one batch, else a copy in memory."""
        return self.rows(0, len(self))

    def seq_lengths(self, row: int) -> np.ndarray:
        """Lengths of the pieces of documents in this row, int32; short of T by the padding."""
        column = self.table.column("seq_lengths")
        return np.asarray(column[row].values)

    @property
    def tokens(self) -> int:
        """Tokens of the stream: every row without its padding."""
        if not len(self):
            return 0
        padding = self.info.sequence_length - int(self.seq_lengths(len(self) - 1).sum())
        return len(self) * self.info.sequence_length - padding

    def stream(self, start: int, stop: int) -> np.ndarray:
        """Tokens [start, stop) of the stream, unsigned[stop - start]; a view where it can be."""
        length = self.info.sequence_length
        first, last = start // length, -(-stop // length)
        flat = self.rows(first, max(first, last)).reshape(-1)
        return flat[start - first * length : stop - first * length]

    @cached_property
    def documents(self) -> pa.Table:
        """The document table (schemas.tokens.TOKEN_DOCUMENT), checked against this shard."""
        try:
            table = pq.read_table(self._documents, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise IntegrityError(f"{self._documents}: cannot be read ({error})") from error
        if not table.schema.equals(TOKEN_DOCUMENT):
            raise IntegrityError(
                f"{self._documents}: expected the columns {', '.join(TOKEN_DOCUMENT.names)}, got "
                f"{', '.join(table.schema.names)}"
            )
        starts = table.column("start").to_numpy()
        lengths = table.column("tokens").to_numpy()
        if not np.array_equal(np.append(starts, self.tokens), np.append(0, np.cumsum(lengths))):
            raise IntegrityError(
                f"{self._documents}: documents have {int(lengths.sum())} tokens, "
                f"{self.path.name} has {self.tokens}; the files do not belong together"
            )
        return table

    def document(self, number: int, *, marks: bool = False) -> np.ndarray:
        """Ids of one document by its row in the document table; `marks` keeps BOS and end token."""
        start = int(self.documents.column("start")[number].as_py())
        stop = start + int(self.documents.column("tokens")[number].as_py())
        if not marks:
            start, stop = start + self.info.begin_document, stop - self.info.end_document
        return self.stream(start, stop)

    def text(self, number: int, tokenizer: Decoder) -> str:
        """Decode one document; IntegrityError with another tokenizer than the shard's."""
        if tokenizer.sha256 != self.info.tokenizer_sha256:
            raise IntegrityError(
                f"{self.path}: made with tokenizer {self.info.tokenizer_sha256[:16]}, "
                f"cannot be decoded with {tokenizer.sha256[:16]}"
            )
        return tokenizer.decode(self.document(number))

    def logical_sha256(self) -> str:
        """SHA-256 of the stream as little-endian uint32, whatever T, dtype and container are."""
        digest = hashlib.sha256()
        for start in range(0, self.tokens, _GATHER_TOKENS):
            part = self.stream(start, min(start + _GATHER_TOKENS, self.tokens))
            digest.update(np.ascontiguousarray(part, dtype="<u4").data)
        return digest.hexdigest()

    def check(self) -> None:
        """Read everything; raise IntegrityError at the first defect.

        Checks ids against the vocabulary, piece lengths, document numbers, padding, marks, and the
        document table's totals and logical hash.
        """
        info, where = self.info, self.path
        length = info.sequence_length
        for number, block in enumerate(self.blocks):
            if block.size and int(block.max()) >= info.vocab_size:
                raise IntegrityError(
                    f"{where}: batch {number} has token id {int(block.max())}, the vocabulary ends "
                    f"at {info.vocab_size - 1}"
                )
        documents = self.documents
        starts = documents.column("start").to_numpy()
        tokens = documents.column("tokens").to_numpy()
        total = self.tokens
        row_starts = np.arange(len(self), dtype=np.int64) * length
        first = np.searchsorted(starts, row_starts, side="right") - 1
        cuts = np.union1d(row_starts, starts[starts < total])
        expected = (
            ("doc_idx", first),
            ("doc_start", row_starts - starts[first]),
        )
        for name, values in expected:
            if not np.array_equal(self.table.column(name).to_numpy(), values):
                raise IntegrityError(f"{where}: {name} disagrees with the document table")
        pieces = self.table.column("seq_lengths").combine_chunks()
        bounds = np.append(np.searchsorted(cuts, row_starts), len(cuts))
        if not (
            np.array_equal(pieces.flatten().to_numpy(), np.diff(cuts, append=total))
            and np.array_equal(pieces.value_lengths().to_numpy(), np.diff(bounds))
        ):
            raise IntegrityError(f"{where}: seq_lengths disagree with the document table")
        if total and not (self.row(len(self) - 1)[total - row_starts[-1] :] == info.eos_id).all():
            raise IntegrityError(f"{where}: the padded tail is not the end token {info.eos_id}")
        for wanted, mark, at in (
            (info.begin_document, info.bos_id, starts),
            (info.end_document, info.eos_id, starts + tokens - 1),
        ):
            for start in range(0, len(at) if wanted else 0, _ROW_GROUP):
                self._check_marks(at[start : start + _ROW_GROUP], mark)
        stored = pq.read_metadata(self._documents).metadata or {}
        if stored.get(b"gristmill.logical_sha256", b"").decode() != self.logical_sha256():
            raise IntegrityError(f"{where}: the tokens do not have the hash that was written")

    def _check_marks(self, positions: np.ndarray, mark: int | None) -> None:
        rows, columns = np.divmod(positions, self.info.sequence_length)
        batches = rows // self.info.rows_per_batch
        for number in np.unique(batches):
            mine = batches == number
            found = self.blocks[number][rows[mine] % self.info.rows_per_batch, columns[mine]]
            if not (found == mark).all():
                raise IntegrityError(f"{self.path}: a document lacks its mark {mark}")


def _matrix(chunk: pa.FixedSizeListArray, info: ShardInfo) -> np.ndarray:
    flat: np.ndarray = chunk.values.to_numpy(zero_copy_only=True)
    length = info.sequence_length
    start = chunk.offset * length
    return flat[start : start + len(chunk) * length].reshape(len(chunk), length)


def open_shard(
    path: str | os.PathLike[str], documents: str | os.PathLike[str] | None = None
) -> TokenShard:
    """Open `NAME.arrow` by memory mapping; `NAME.documents.parquet` is read when it is needed.

    Raises IntegrityError if the file is no token shard, is cut off, or has batches of other sizes
    than its metadata says; `TokenShard.check` reads the content as well.
    """
    path = Path(path)
    beside = Path(documents) if documents else path.with_name(path.stem + DOCUMENTS_SUFFIX)
    try:
        with pa.memory_map(str(path)) as file:
            size = file.size()
            file.seek(max(0, size - len(_END_OF_STREAM)))
            end = file.read()
            file.seek(0)
            with pa.ipc.open_stream(file) as stream:
                info = ShardInfo.from_metadata(stream.schema.metadata, str(path))
                if not stream.schema.equals(info.schema()):
                    raise IntegrityError(f"{path}: expected columns {info.schema()}")
                batches = list(stream)
                used = file.tell()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise IntegrityError(
            f"{path}: expected an Arrow stream of packed tokens, cannot read it ({error})"
        ) from error
    if end != _END_OF_STREAM or used != size:
        raise IntegrityError(f"{path}: the file is cut off or has other data behind its end")
    _check_batches(path, batches, info)
    return TokenShard(path, pa.Table.from_batches(batches, info.schema()), info, beside)


def _check_batches(path: Path, batches: Sequence[Any], info: ShardInfo) -> None:
    for number, batch in enumerate(batches):
        try:
            batch.validate()
        except pa.ArrowException as error:
            raise IntegrityError(f"{path}: batch {number} is damaged ({error})") from error
        last = number == len(batches) - 1
        if not 0 < batch.num_rows <= info.rows_per_batch or (
            not last and batch.num_rows != info.rows_per_batch
        ):
            raise IntegrityError(
                f"{path}: batch {number} has {batch.num_rows} rows, expected {info.rows_per_batch}"
            )
        if any(column.null_count for column in batch.columns):
            raise IntegrityError(f"{path}: batch {number} has nulls")
