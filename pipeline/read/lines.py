"""Line files: cutting a byte stream into blocks of whole lines, each line in exactly one slice.

A line belongs to the slice where it starts. For plain files a slice is a byte range; for compressed
ones, which every reader has to decompress from the beginning, it is every k-th window of WINDOW
decompressed bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.read.compression import Damaged, chunks

WINDOW = 1 << 20
MAX_LINE = 512 << 20  # bytes; a longer line is rejected without being held
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole lines; `offset` is where the first one starts in the decompressed file."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Defect:
    """Something unreadable that started at `offset`; `raw` is its beginning."""

    offset: int
    reason: str
    message: str
    raw: bytes


def line_blocks(
    file: BinaryIO,
    compression: str,
    *,
    start: int = 0,
    stop: int | None = None,
    stripe: int = 0,
    stripes: int = 1,
    window: int = WINDOW,
    max_line: int = MAX_LINE,
) -> Iterator[Block | Defect]:
    """Lines of one slice, in blocks of about `window` bytes.

    A damaged stream ends with a Defect, in that slice only which owns the line being read (or the
    next line, if the damage is just behind a newline). A last line without newline is a line; the
    rest of a line before a damage is not.
    """
    carry: list[bytes] = []  # the unfinished line at the end of what was read, if it is ours
    carried = 0
    carry_offset = 0
    too_long = False  # inside an owned line that has passed max_line
    foreign = False  # inside a line of another slice
    damage: Damaged | None = None
    offset = start
    if start > 0:
        file.seek(start - 1)
        foreign = file.read(1) != b"\n"

    def owns(place: int) -> bool:
        return (stop is None or place < stop) and place // window % stripes == stripe

    def defect_too_long() -> Defect:
        message = f"the line is {carried} bytes long, more than {max_line}"
        return Defect(carry_offset, "line-too-long", message, b"".join(carry))

    pieces = _windows(chunks(file, compression), start, stop, window)
    while True:
        try:
            data = next(pieces)
        except StopIteration:
            break
        except Damaged as caught:
            damage = caught
            break
        if stop is not None and offset >= stop and not carry and not too_long:
            return
        owned = owns(offset)
        begin = 0
        if carry or too_long or foreign:
            begin = data.find(b"\n") + 1
            end_of_line = begin or len(data)
            if too_long:
                carried += end_of_line
            elif carry:
                if carried + end_of_line > max_line:
                    carry = [b"".join(carry)[:4096]]
                    too_long = True
                else:
                    carry.append(data[:end_of_line])
                carried += end_of_line
            if not begin:
                offset += len(data)
                continue
            if too_long:
                yield defect_too_long()
                carry, too_long = [], False
            foreign = False
        end = data.rfind(b"\n") + 1
        if owned:
            if carry:
                carry.append(data[begin:end])
                yield Block(carry_offset, b"".join(carry))
                carry = []
            elif end > begin:
                yield Block(offset + begin, data[begin:end] if begin or end < len(data) else data)
            if end < len(data):
                carry, carry_offset, carried = [data[max(begin, end) :]], offset + end, 0
                carried = len(carry[0])
        else:
            if carry:
                yield Block(carry_offset, b"".join(carry))
                carry = []
            foreign = end < len(data)
        offset += len(data)

    if damage is None:
        if too_long:
            yield defect_too_long()
        elif carry:
            yield Block(carry_offset, b"".join(carry))
    elif carry or too_long:
        yield Defect(carry_offset, damage.reason, str(damage), b"".join(carry))
    elif not foreign and owns(offset):
        yield Defect(offset, damage.reason, str(damage), b"")


def _windows(pieces: Iterator[bytes], start: int, stop: int | None, window: int) -> Iterator[bytes]:
    """The same bytes, cut at multiples of `window` and at `stop`."""
    rest: list[bytes] = []
    have = 0
    offset = start

    def wanted() -> int:
        border = (offset // window + 1) * window
        if stop is not None and offset < stop < border:
            border = stop
        return border - offset

    want = wanted()
    try:
        for piece in pieces:
            view = piece
            while have + len(view) >= want:
                cut = want - have
                rest.append(view[:cut])
                yield rest[0] if len(rest) == 1 else b"".join(rest)
                offset += want
                view = view[cut:]
                rest, have, want = [], 0, wanted()
            if view:
                rest.append(view)
                have += len(view)
    except Damaged:
        if rest:
            yield b"".join(rest)
        raise
    if rest:
        yield b"".join(rest)
