"""CSV and TSV with a header line; positions are record numbers.

Never split: only from the beginning can one tell a newline that ends a record from a quoted one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import BinaryIO

from pipeline.read.batches import BatchBuilder, ReadBatch
from pipeline.read.jsonl import mend
from pipeline.read.lines import BOM, Block, Defect, line_blocks
from pipeline.read.plan import InputSlice
from schemas.document import Repair
from schemas.recipe import Fields

MAX_FIELD = 64 << 20  # characters; an unclosed quote would otherwise swallow the rest of the file


def read_csv(
    file: BinaryIO, one: InputSlice, fields: Fields, builder: BatchBuilder
) -> Iterator[ReadBatch]:
    """Documents of a CSV file (RFC 4180, LF or CRLF, quoted newlines) or a tab-separated one.

    A record with more or fewer fields than the header is rejected as "ragged".
    """
    lines = _Lines(line_blocks(file, one.compression))
    csv.field_size_limit(MAX_FIELD)
    delimiter = "\t" if one.kind == "tsv" else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    record = -1
    while True:
        lines.start_record()
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            record += 1 if header else 0
            builder.reject(max(record, 0), "csv", f"cannot be parsed: {error}", lines.raw())
            yield from builder.ready()
            continue
        if not row:  # a blank line
            continue
        record += 1
        if not header:
            header = [mend(name.strip(), bytes_escaped=True)[0] for name in row]
            record = -1
            if fields.text not in header:
                message = (
                    f"expected a column {fields.text!r} with the text in the header line, "
                    f"got: {', '.join(header)}"
                )
                builder.reject(0, "no-text", message, lines.raw(), raw_bytes=one.size)
                yield from builder.rest()
                return
            text_at = header.index(fields.text)
            own = {
                key: header.index(name)
                for key, name in (
                    ("id", fields.id),
                    ("url", fields.url),
                    ("date", fields.date),
                    ("language", fields.language),
                )
                if name in header
            }
            continue
        if len(row) != len(header):
            message = f"expected {len(header)} fields as in the header, got {len(row)}"
            builder.reject(record, "ragged", message, lines.raw())
        else:
            text, raw_bytes, repairs = mend(row[text_at], bytes_escaped=True)
            values = {k: mend(row[i], bytes_escaped=True)[0] or None for k, i in own.items()}
            repairs |= Repair.NUL if lines.nul else 0
            builder.add(record, text, raw_bytes, repairs=repairs, **values)
        yield from builder.ready()
    for defect in lines.defects:
        builder.reject(max(record + 1, 0), defect.reason, defect.message, defect.raw)
    yield from builder.rest()


class _Lines:
    """Decoded lines for csv.reader; undecodable bytes are escaped, NUL characters dropped."""

    def __init__(self, blocks: Iterator[Block | Defect]) -> None:
        self._lines = self._cut(blocks)
        self._record: list[str] = []
        self.nul = False  # whether the record had NULs: csv refuses them before Python 3.11
        self.defects: list[Defect] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if "\0" in line:
            line = line.replace("\0", "")
            self.nul = True
        self._record.append(line)
        return line

    def start_record(self) -> None:
        self._record.clear()
        self.nul = False

    def raw(self) -> bytes:
        """The lines of the record so far."""
        return "".join(self._record).encode("utf-8", "surrogateescape")

    def _cut(self, blocks: Iterator[Block | Defect]) -> Iterator[str]:
        for block in blocks:
            if isinstance(block, Defect):
                self.defects.append(block)
                continue
            data = block.data
            if block.offset == 0 and data.startswith(BOM):
                data = data[len(BOM) :]
            for line in data.splitlines(keepends=True):
                yield line.decode("utf-8", "surrogateescape")
