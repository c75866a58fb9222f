"""Parquet and Arrow: record batches to documents, positions are record numbers."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.read.batches import BatchBuilder, ReadBatch
from pipeline.read.compression import ChunkReader, Damaged, chunks
from pipeline.read.jsonl import mend
from pipeline.read.plan import InputSlice
from schemas.document import BATCH_DOCUMENTS
from schemas.recipe import Fields

_MAGIC = b"ARROW1\0\0"


def row_group_bytes(path: str, column: str | None) -> list[int] | None:
    """Uncompressed bytes of each row group's `column` (all columns for None); None if damaged."""
    try:
        with storage.open_read(path) as file:
            meta = pq.ParquetFile(file).metadata
            sizes = []
            for i in range(meta.num_row_groups):
                row_group = meta.row_group(i)
                sizes.append(
                    sum(
                        row_group.column(j).total_uncompressed_size
                        for j in range(row_group.num_columns)
                        if column is None
                        or row_group.column(j).path_in_schema.split(".")[0] == column
                    )
                )
    except (pa.ArrowException, OSError):
        return None
    return sizes


def read_parquet(
    file: BinaryIO, one: InputSlice, fields: Fields, builder: BatchBuilder
) -> Iterator[ReadBatch]:
    """Documents of some row groups; a row group that cannot be decoded is one reject."""
    if one.compression:
        with tempfile.TemporaryFile() as plain:
            try:
                for piece in chunks(file, one.compression):
                    plain.write(piece)
            except Damaged as damage:
                builder.reject(0, damage.reason, str(damage), None, raw_bytes=one.size)
                yield from builder.rest()
                return
            plain.seek(0)
            yield from _read_parquet(plain, one, fields, builder)
    else:
        yield from _read_parquet(file, one, fields, builder)


def _read_parquet(
    file: IO[bytes], one: InputSlice, fields: Fields, builder: BatchBuilder
) -> Iterator[ReadBatch]:
    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        builder.reject(0, "corrupt", f"not a readable Parquet file: {error}", None)
        yield from builder.rest()
        return
    meta = parquet.metadata
    stop = meta.num_row_groups if one.stop is None else min(one.stop, meta.num_row_groups)
    position = sum(meta.row_group(i).num_rows for i in range(one.start))
    columns = _Columns(parquet.schema_arrow, fields, builder)
    for i in range(one.start, stop):
        end = position + meta.row_group(i).num_rows
        if not columns.has_text(position, end - position):
            position = end
            continue
        try:
            for batch in parquet.iter_batches(
                batch_size=BATCH_DOCUMENTS, row_groups=[i], columns=columns.names
            ):
                yield from columns.add(batch, position)
                position += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            message = f"row group {i} cannot be decoded from record {position} on: {error}"
            builder.reject(
                position, "corrupt", message, None, raw_bytes=meta.row_group(i).total_byte_size
            )
        position = end
    yield from builder.rest()


def read_arrow(
    file: BinaryIO, one: InputSlice, fields: Fields, builder: BatchBuilder
) -> Iterator[ReadBatch]:
    """Documents of an Arrow IPC stream or file (which is a stream behind a magic number)."""
    raw = ChunkReader(chunks(file, one.compression))
    stream = io.BufferedReader(raw, 1 << 20)
    position = 0
    try:
        if stream.peek(len(_MAGIC))[: len(_MAGIC)] == _MAGIC:
            stream.read(len(_MAGIC))
        reader = pa.ipc.open_stream(stream)
        columns = _Columns(reader.schema, fields, builder)
        while True:
            try:
                whole = reader.read_next_batch()
            except StopIteration:
                break
            if columns.has_text(position, whole.num_rows):
                whole = whole.select(columns.names)
                for column in whole.columns:
                    _check_layout(column)
                for start in range(0, whole.num_rows, BATCH_DOCUMENTS):
                    yield from columns.add(whole.slice(start, BATCH_DOCUMENTS), position + start)
            position += whole.num_rows
    except (pa.ArrowException, OSError, EOFError) as error:
        reason = raw.damage.reason if raw.damage is not None else "corrupt"
        why = raw.damage or error
        builder.reject(position, reason, f"unreadable from record {position} on: {why}", None)
    else:
        if raw.damage is not None:
            builder.reject(position, raw.damage.reason, str(raw.damage), None)
    yield from builder.rest()


def _check_layout(column: pa.Array) -> None:
    """Raise ArrowInvalid unless offsets and indices stay within their buffers.

    IPC comes unchecked, and a flipped bit in an offset would end the process. Strings are looked at
    as binary, since invalid UTF-8 is mended and not refused.
    """
    if pa.types.is_dictionary(column.type):
        column.validate()
        _check_layout(column.indices)
        _check_layout(column.dictionary)
        return
    if pa.types.is_string(column.type):
        column = column.view(pa.binary())
    elif pa.types.is_large_string(column.type):
        column = column.view(pa.large_binary())
    column.validate(full=True)


class _Columns:
    """Picks the configured columns of record batches."""

    def __init__(self, schema: pa.Schema, fields: Fields, builder: BatchBuilder) -> None:
        self._builder = builder
        self._text = fields.text
        self._have = schema.names
        optional = {
            "id": fields.id,
            "url": fields.url,
            "date": fields.date,
            "language": fields.language,
        }
        # A name that two columns have means neither.
        self._optional = {k: name for k, name in optional.items() if self._have.count(name) == 1}
        self.names = sorted({str(n) for n in self._optional.values()} | {fields.text})

    def has_text(self, position: int, rows: int) -> bool:
        """Whether there is a text column; if not, one reject stands for these rows."""
        if self._have.count(self._text) == 1:
            return True
        if rows:
            message = (
                f"expected a column {self._text!r} with the text in {rows} records, "
                f"got the columns: {', '.join(self._have)}"
            )
            self._builder.reject(position, "no-text", message, None)
        return False

    def add(self, batch: pa.RecordBatch, position: int) -> Iterator[ReadBatch]:
        texts = _texts(batch.column(self._text))
        if texts is None:
            kind = batch.schema.field(self._text).type
            message = f"expected column {self._text!r} to hold strings, got {kind}"
            for i in range(batch.num_rows):
                self._builder.reject(position + i, "text-type", message, None)
                yield from self._builder.ready()
            return
        own: dict[str, list[str | None]] = {
            key: _strings(batch.column(str(name))) for key, name in self._optional.items()
        }
        empty: list[str | None] = [None] * batch.num_rows
        rows = zip(
            texts,
            *(own.get(key, empty) for key in ("id", "url", "date", "language")),
            strict=True,
        )
        for i, (text, id, url, date, language) in enumerate(rows, position):
            if text is None:
                message = f"the value of column {self._text!r} is null"
                self._builder.reject(i, "no-text", message, None, id=id)
            else:
                clean, raw_bytes, repairs = mend(text, bytes_escaped=True)
                self._builder.add(
                    i,
                    clean,
                    raw_bytes,
                    id=id,
                    url=url,
                    date=date,
                    language=language,
                    repairs=repairs,
                )
            yield from self._builder.ready()


def _texts(column: pa.Array) -> list[str | None] | None:
    """Values as strings, undecodable bytes escaped as surrogates (PEP 383); None if not text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_null(kind):
        return [None] * len(column)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not (binary or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        if kind not in (pa.string_view(), pa.binary_view()):
            return None
        column = column.cast(pa.large_binary())
    # Parquet strings come unchecked: only the cast from binary looks at the bytes.
    raw = column.cast(pa.large_binary())
    try:
        return cast("list[str | None]", raw.cast(pa.large_string()).to_pylist())
    except pa.ArrowInvalid:
        values: list[bytes | None] = raw.to_pylist()
        return [v.decode("utf-8", "surrogateescape") if v is not None else None for v in values]


def _strings(column: pa.Array) -> list[str | None]:
    """Any scalar column as strings; null and empty become None, and so do nested values."""
    texts = _texts(column)
    if texts is not None:
        return [mend(text, bytes_escaped=True)[0] or None if text else None for text in texts]
    try:
        return cast("list[str | None]", pc.cast(column, pa.string()).to_pylist())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values: list[Any] = column.to_pylist()
        return [str(v) if isinstance(v, (str, int, float)) else None for v in values]
