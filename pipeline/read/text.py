"""Plain text: a document a file, a line or a paragraph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal

from filters.extract import decode
from pipeline.read.batches import BatchBuilder, ReadBatch
from pipeline.read.compression import Damaged, chunks
from pipeline.read.lines import BOM, MAX_LINE, Block, Defect, line_blocks
from pipeline.read.plan import InputSlice
from schemas.document import Repair

MAX_FILE = MAX_LINE


def read_text(
    file: BinaryIO,
    one: InputSlice,
    unit: Literal["file", "line", "paragraph"],
    builder: BatchBuilder,
) -> Iterator[ReadBatch]:
    """Documents of a text file; positions are byte offsets in the decompressed file.

    Blank lines are no documents. A paragraph is a run of lines that are not blank. Lines and
    paragraphs are UTF-8; a file as one document may be in any charset.
    """
    if unit == "file":
        _whole_file(file, one, builder)
    elif unit == "line":
        blocks = line_blocks(
            file,
            one.compression,
            start=one.start,
            stop=one.stop,
            stripe=one.stripe,
            stripes=one.stripes,
        )
        for offset, line in _lines(blocks, builder):
            if content := line.rstrip(b"\r\n"):
                if content.strip():
                    _add(builder, offset, content)
            yield from builder.ready()
    else:
        lines: list[bytes] = []
        start = size = 0
        for offset, line in _lines(line_blocks(file, one.compression), builder):
            if line.strip():
                start = start if lines else offset
                lines.append(line)
                size += len(line)
                if size > MAX_LINE:
                    message = f"the paragraph is more than {MAX_LINE} bytes long"
                    builder.reject(start, "paragraph-too-long", message, b"".join(lines))
                    lines, size = [], 0
            elif lines:
                _add(builder, start, b"".join(lines).rstrip(b"\r\n"))
                lines, size = [], 0
            yield from builder.ready()
        if lines:
            _add(builder, start, b"".join(lines).rstrip(b"\r\n"))
    yield from builder.rest()


def _lines(blocks: Iterator[Block | Defect], builder: BatchBuilder) -> Iterator[tuple[int, bytes]]:
    """Lines with their newline, without the byte-order mark; defects go to the builder."""
    for block in blocks:
        if isinstance(block, Defect):
            builder.reject(block.offset, block.reason, block.message, block.raw)
            continue
        offset = block.offset
        lines = block.data.split(b"\n")
        if not lines[-1]:
            lines.pop()  # what is behind a block's last newline is no blank line
        for line in lines:
            whole = line + b"\n"
            if offset == 0 and line.startswith(BOM):
                whole = whole[len(BOM) :]
            yield offset, whole
            offset += len(line) + 1


def _add(builder: BatchBuilder, offset: int, content: bytes) -> None:
    try:
        builder.add(offset, content.decode(), len(content))
    except UnicodeDecodeError:
        text = content.decode("utf-8", "replace")
        builder.add(offset, text, len(content), repairs=Repair.INVALID_UTF8)


def _whole_file(file: BinaryIO, one: InputSlice, builder: BatchBuilder) -> None:
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in chunks(file, one.compression):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_FILE:
                message = (
                    f"the file is more than {MAX_FILE} bytes long; "
                    "set `text_unit: line` or `paragraph` for its source"
                )
                builder.reject(0, "file-too-long", message, pieces[0], raw_bytes=one.size)
                return
    except Damaged as damage:
        if not pieces:
            builder.reject(0, damage.reason, str(damage), None, raw_bytes=one.size)
            return
        # Text before the damage is a document, as the lines before it would be.
        builder.reject(size, damage.reason, str(damage), None)
    content = b"".join(pieces)
    page = decode(content, None)
    builder.add(0, page.text, len(content), repairs=page.repairs)
