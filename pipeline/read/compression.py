"""Streaming decompression that says where and how a file is damaged.

Everything decodable before the damage is yielded first; then `Damaged` is raised. The libraries'
own file objects differ here: zstandard's reader takes a truncated frame for the end of the file.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

COMPRESSIONS = {
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lz4": "lz4",
}
_INPUT_BYTES = 64 << 10  # little enough that a bomb's output per call stays bounded
_ZSTD_INPUT_BYTES = 32 << 10
_OUTPUT_BYTES = 1 << 20
_GZIP_HEADER = re.compile(rb"\x1f\x8b\x08[\x00-\x1f]", re.DOTALL)
_MAX_ZSTD_WINDOW = 1 << 31  # as `zstd --long=31` writes


class Damaged(Exception):
    """A compressed stream ends early ("truncated") or cannot be decoded ("corrupt")."""

    def __init__(self, reason: str, message: str, consumed: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.consumed = consumed  # compressed bytes that were read without a problem


def chunks(file: BinaryIO, compression: str) -> Iterator[bytes]:
    """Decompressed content of `file` from where it stands, in pieces of any size.

    Concatenated members (gzip) and frames (zstd) are read as one stream; zero padding after a
    member is allowed. Raises Damaged after the last decodable piece.
    """
    if compression == "":
        while piece := file.read(_OUTPUT_BYTES):
            yield piece
    elif compression == "lz4":
        yield from _lz4(file)
    else:
        yield from _members(file, compression)


def gzip_members(file: BinaryIO) -> Iterator[bytes | Damaged]:
    """Like `chunks` for gzip, but goes on at the next member behind a damage.

    WARC files compress each record on its own, so that one bad record need not cost the rest.
    """
    fresh = True  # whether anything was decoded since the last damage
    while True:
        try:
            for piece in chunks(file, "gzip"):
                fresh = True
                yield piece
            return
        except Damaged as damage:
            if fresh:
                yield damage
            fresh = False
            if damage.reason == "truncated" or not _seek_member(file, damage.consumed + 1):
                return


def _seek_member(file: BinaryIO, start: int) -> bool:
    """Go to the next gzip header (RFC 1952: magic, deflate, flags below 32) at or after start."""
    file.seek(start)
    kept = b""
    while piece := file.read(_OUTPUT_BYTES):
        data = kept + piece
        for found in _GZIP_HEADER.finditer(data):
            file.seek(start - len(kept) + found.start())
            return True
        start += len(piece)
        kept = data[-3:]
    return False


def _members(file: BinaryIO, compression: str) -> Iterator[bytes]:
    new, errors, read_bytes = _codec(compression)
    consumed = file.tell()
    pending = file.read(read_bytes)
    while pending:
        decoder = new()
        while not decoder.eof:
            pending = pending or file.read(read_bytes)
            if not pending:
                raise Damaged(
                    "truncated",
                    f"the {compression} stream ends early, after {consumed} compressed bytes",
                    consumed,
                )
            try:
                yield from _step(decoder, pending, compression, errors)
            except errors as error:
                raise Damaged(
                    "corrupt",
                    f"the {compression} stream is damaged after byte {consumed}: {error}",
                    consumed,
                ) from error
            consumed += len(pending)
            pending = decoder.unused_data if decoder.eof else b""
            consumed -= len(pending)
        pending = pending or file.read(read_bytes)
        while pending and not pending.strip(b"\0"):  # padding, as tapes and some tools leave it
            pending = file.read(read_bytes)


def _step(decoder: Any, data: bytes, compression: str, errors: Any) -> Iterator[bytes]:
    """Output for `data` in bounded pieces."""
    if compression == "zstd":
        piece = decoder.decompress(data)
        if piece:
            yield piece
        return
    if compression != "gzip":
        piece = decoder.decompress(data, _OUTPUT_BYTES)
        while piece:
            yield piece
            if decoder.eof or decoder.needs_input:
                return
            piece = decoder.decompress(b"", _OUTPUT_BYTES)
        return
    before = decoder.copy()
    while data and not decoder.eof:
        try:
            piece = decoder.decompress(data, _OUTPUT_BYTES)
        except errors:
            # zlib drops the output of a failed call: once more, byte by byte, up to the damage
            for at in range(len(data)):
                piece = before.decompress(data[at : at + 1])
                if piece:
                    yield piece
            raise
        data = decoder.unconsumed_tail
        if piece:
            yield piece
        if data:
            before = decoder.copy()


def _codec(compression: str) -> tuple[Callable[[], Any], Any, int]:
    if compression == "gzip":
        return lambda: zlib.decompressobj(wbits=31), zlib.error, _INPUT_BYTES
    if compression == "bz2":
        return bz2.BZ2Decompressor, OSError, _INPUT_BYTES
    if compression == "xz":
        return lzma.LZMADecompressor, lzma.LZMAError, _INPUT_BYTES
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW)
    return context.decompressobj, zstandard.ZstdError, _ZSTD_INPUT_BYTES


def _lz4(file: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    try:
        stream = pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "lz4")
    except OSError as error:
        raise Damaged("corrupt", f"not an lz4 stream: {error}") from error
    while True:
        try:
            piece = stream.read(_OUTPUT_BYTES)
        except OSError as error:
            reason = "truncated" if "runcated" in str(error) else "corrupt"
            raise Damaged(reason, f"the lz4 stream is {reason}: {error}") from error
        if not piece:
            return
        yield piece


class ChunkReader(io.RawIOBase):
    """A readable file over an iterator of pieces; `damage` keeps what ended it early.

    For parsers that want a file and would turn an exception into one of their own.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._position = 0
        self.damage: Damaged | None = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._pieces))
            except StopIteration:
                return 0
            except Damaged as damage:
                self.damage = damage
                self._pieces = iter(())
                return 0
        n = min(len(buffer), len(self._rest))
        buffer[:n] = self._rest[:n]
        self._rest = self._rest[n:]
        self._position += n
        return n
