"""JSON lines: a typed decoder for the fields that matter, and an exact slow path for bad lines."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from pipeline.read.batches import BatchBuilder, ReadBatch
from pipeline.read.lines import BOM, Block, Defect
from schemas.document import Repair
from schemas.recipe import Fields

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ESCAPED_BYTE = re.compile(r"[\udc80-\udcff]")
_OTHER_SURROGATE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
_LF, _OPEN, _CLOSE = b"\n{}"
_SCALAR = str | int | float | bool | None


def mend(text: str, bytes_escaped: bool) -> tuple[str, int, int]:
    """Replace surrogates: (text, bytes before, Repair mask).

    `bytes_escaped` says that U+DC80..U+DCFF stand for undecodable bytes (PEP 383). Each maximal
    ill-formed byte sequence, and each lone surrogate, becomes one U+FFFD.
    """
    if _SURROGATE.search(text) is None:
        return text, len(text) if text.isascii() else len(text.encode()), 0
    repairs = 0
    raw_bytes = len(text.encode("utf-8", "surrogatepass"))
    if bytes_escaped and (bad := len(_ESCAPED_BYTE.findall(text))):
        raw_bytes -= 2 * bad  # one byte each, counted as the three of a surrogate
        repairs |= Repair.INVALID_UTF8
    other = _OTHER_SURROGATE if bytes_escaped else _SURROGATE
    text, found = other.subn("\ufffd", text)
    if found:
        repairs |= Repair.SURROGATE
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), raw_bytes, repairs


def scalar(value: Any) -> str | None:
    """A field's value as a string; None for null, empty strings, lists and objects."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value) or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return None


class JsonLines:
    """Parses blocks of JSON lines into a builder."""

    def __init__(self, fields: Fields, builder: BatchBuilder) -> None:
        self._fields = fields
        self._builder = builder
        wanted = {fields.id, fields.url, fields.date, fields.language} - {None, fields.text}
        names = [fields.text, *sorted(str(name) for name in wanted)]
        members = [("f0", str, msgspec.field(name=names[0]))] + [
            (f"f{i}", _SCALAR, msgspec.field(name=name, default=None))
            for i, name in enumerate(names[1:], 1)
        ]
        record = msgspec.defstruct("Line", members, gc=False, frozen=True)
        decoder = msgspec.json.Decoder(record)
        self._decode: Callable[[bytes], Any] = decoder.decode
        self._decode_lines: Callable[[bytes], list[Any]] = decoder.decode_lines
        attributes = {name: f"f{i}" for i, name in enumerate(names)}
        self._columns = [
            attributes[name] if name is not None else None
            for name in (fields.id, fields.url, fields.date, fields.language)
        ]

    def read(self, blocks: Iterator[Block | Defect]) -> Iterator[ReadBatch]:
        """Batches from the lines of a file, in order."""
        for block in blocks:
            if isinstance(block, Defect):
                self._builder.reject(block.offset, block.reason, block.message, block.raw)
            elif (columns := self._columns_of(block)) is not None:
                yield from self._builder.extend(*columns)
            else:
                yield from self._block(block)
        yield from self._builder.rest()

    def _columns_of(self, block: Block) -> tuple[list[Any], ...] | None:
        """Columns of a block in one go, if there is nothing odd about any of its lines."""
        data = np.frombuffer(block.data, np.uint8)
        ends = np.flatnonzero(data == _LF)
        starts = ends[:-1] + 1 if len(ends) and ends[-1] == len(data) - 1 else ends + 1
        # decode_lines takes values for lines. Where every newline stands between `}` and `{`, none
        # is within a value (a string cannot hold one), so as many values as lines is one a line.
        if data[0] != _OPEN or (data[starts] != _OPEN).any() or (data[ends - 1] != _CLOSE).any():
            return None
        try:
            records = self._decode_lines(block.data)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        if len(records) != len(starts) + 1:
            return None
        texts = [record.f0 for record in records]
        positions = [block.offset, *(starts + block.offset).tolist()]
        return (positions, texts, *(self._strings(records, at) for at in self._columns))

    @staticmethod
    def _strings(records: list[Any], at: str | None) -> list[str | None]:
        if at is None:
            return [None] * len(records)
        values = list(map(attrgetter(at), records))
        if "" not in values and set(map(type, values)) <= {str, type(None)}:
            return values
        return [_string(value) for value in values]

    def _block(self, block: Block) -> Iterator[ReadBatch]:
        decode, builder, add = self._decode, self._builder, self._builder.add
        id_at, url_at, date_at, language_at = self._columns
        offset = block.offset
        for line in block.data.split(b"\n"):
            try:
                record = decode(line)
                add(
                    offset,
                    record.f0,
                    None,
                    id=_string(getattr(record, id_at)) if id_at else None,
                    url=_string(getattr(record, url_at)) if url_at else None,
                    date=_string(getattr(record, date_at)) if date_at else None,
                    language=_string(getattr(record, language_at)) if language_at else None,
                )
            except (msgspec.DecodeError, ValueError, RecursionError):
                self._slow(offset, line)
            offset += len(line) + 1
            yield from builder.ready()

    def _slow(self, offset: int, line: bytes) -> None:
        """A line that the fast decoder refuses: mended if possible, otherwise rejected."""
        builder, fields = self._builder, self._fields
        if offset == 0 and line.startswith(BOM):
            line = line[len(BOM) :]
        content = line.strip()
        if not content:
            return
        raw = line.rstrip(b"\r")
        text = content.decode("utf-8", "surrogateescape")
        bytes_escaped = _ESCAPED_BYTE.search(text) is not None
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            builder.reject(offset, "json", f"not a JSON value: {error}", raw)
            return
        if not isinstance(record, dict):
            kind = type(record).__name__
            builder.reject(offset, "json", f"expected a JSON object a line, got {kind}", raw)
            return
        own = {
            name: scalar(record.get(field)) if field is not None else None
            for name, field in (
                ("id", fields.id),
                ("url", fields.url),
                ("date", fields.date),
                ("language", fields.language),
            )
        }
        value = record.get(fields.text)
        if value is None:
            has = ", ".join(sorted(map(str, record)))
            message = f"expected a field {fields.text!r} with the text, got the fields: {has}"
            builder.reject(offset, "no-text", message, raw, id=own["id"])
        elif not isinstance(value, str):
            message = f"expected field {fields.text!r} to be a string, got {type(value).__name__}"
            builder.reject(offset, "text-type", message, raw, id=own["id"])
        else:
            mended, raw_bytes, repairs = mend(value, bytes_escaped)
            builder.add(offset, mended, raw_bytes, repairs=repairs, **own)


def _string(value: Any) -> str | None:
    """`scalar` for values of the fast decoder, which have no surrogates."""
    if type(value) is str:
        return value or None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return scalar(value)
