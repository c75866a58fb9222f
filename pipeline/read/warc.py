"""WARC (ISO 28500), WET and ARC version 1 files: records to documents.

Records are framed here rather than by a library, because a defect must be told apart from the end
of the file: fastwarc, otherwise the reader of choice, ends silently in truncated files and gives up
at a corrupt gzip member. Framing costs microseconds a record, extraction milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from filters.extract import decode, extract_html
from pipeline.read.batches import BatchBuilder, ReadBatch
from pipeline.read.compression import Damaged, chunks, gzip_members
from pipeline.read.http import media_type, parse_headers, parse_response
from schemas.document import RAW_EXCERPT

MAX_RECORD = 256 << 20  # bytes; larger records are skipped and rejected
_MAX_HEADER = 1 << 20
_TYPES = ("response", "resource", "conversion")
_HTML = ("text/html", "application/xhtml+xml")
_BLANK_LINES = re.compile(rb"[\r\n]+")
_WARC_VERSION = re.compile(rb"WARC/\d")
_HTML_START = re.compile(
    rb"\s*<(?:!--|(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body"
    rb"|br|p)[\s>])",
    re.IGNORECASE,
)
# URL, IP address, date, content type, length (version 1); five more words in between (version 2).
_ARC_HEADER = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]{1,30}:[^\n]* (\d+)\r?\n")


@dataclass(frozen=True)
class Record:
    """A framed record. `headers` have lower-case WARC names, for ARC records too."""

    offset: int
    headers: dict[str, str]
    block: bytes


@dataclass(frozen=True)
class BadRecord:
    """What could not be framed, at `offset`."""

    offset: int
    reason: str
    message: str
    raw: bytes
    size: int
    headers: dict[str, str]


def read_warc(file: BinaryIO, compression: str, builder: BatchBuilder) -> Iterator[ReadBatch]:
    """Documents of a WARC, WET or ARC file; positions are offsets in the decompressed file."""
    for record in records(file, compression):
        if isinstance(record, BadRecord):
            builder.reject(
                record.offset,
                record.reason,
                record.message,
                record.raw,
                raw_bytes=record.size,
            )
        else:
            _read_record(record, builder)
        yield from builder.ready()
    yield from builder.rest()


def records(file: BinaryIO, compression: str) -> Iterator[Record | BadRecord]:
    """Records of a file in order, with everything between them that is none."""
    tape = _Tape(gzip_members(file) if compression == "gzip" else chunks(file, compression))
    first = tape.peek_line()
    arc = first.startswith(b"filedesc:") or (
        not _WARC_VERSION.match(first) and _ARC_HEADER.match(first) is not None
    )
    while True:
        tape.skip_blank_lines()
        if tape.ended():
            return
        start = tape.offset
        headers: dict[str, str] = {}
        try:
            head = tape.arc_header() if arc else tape.warc_header()
            if head is None:
                yield tape.skip_to_header(arc)
                continue
            headers, length = _parse_arc(head) if arc else _parse_warc(head)
            if length > MAX_RECORD:
                tape.skip(length)
                message = f"the record is {length} bytes long, more than {MAX_RECORD}"
                yield BadRecord(start, "record-too-long", message, head, length, headers)
                continue
            block = tape.take(length)
        except _Header as error:
            yield BadRecord(start, "warc-header", str(error), error.raw, len(error.raw), {})
            continue
        except Damaged as damage:
            raw = tape.partial[:RAW_EXCERPT]
            size = len(tape.partial)
            yield BadRecord(start, damage.reason, str(damage), raw, size, headers)
            continue
        yield Record(start, headers, block)


class _Header(Exception):
    """A record header that cannot be used."""

    def __init__(self, message: str, raw: bytes) -> None:
        super().__init__(message)
        self.raw = raw


def _parse_warc(head: bytes) -> tuple[dict[str, str], int]:
    headers = parse_headers(head.split(b"\n")[1:])
    value = headers.get("content-length", "")
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        got = repr(value) if value else "none"
        raise _Header(f"expected a Content-Length in the WARC record header, got {got}", head)
    return headers, int(value)


def _parse_arc(head: bytes) -> tuple[dict[str, str], int]:
    words = head.decode("utf-8", "replace").rstrip("\r\n").split(" ")
    if len(words) < 5 or not words[-1].isdigit() or len(words[-1]) > 18:
        raise _Header(
            "expected an ARC record header (URL, IP address, date, content type, length)", head
        )
    kind = "warcinfo" if words[0].startswith("filedesc:") else "response"
    extra = 0 if len(words) < 10 else 5
    date = words[-3 - extra]
    headers = {
        "warc-type": kind,
        "warc-target-uri": " ".join(words[: -4 - extra]),
        "content-type": words[-2 - extra],
        "arc": "1",
    }
    if len(date) == 14 and date.isdigit():
        parts = (date[:4], date[4:6], date[6:8], date[8:10], date[10:12], date[12:])
        headers["warc-date"] = "{}-{}-{}T{}:{}:{}Z".format(*parts)
    return headers, int(words[-1])


class _Tape:
    """Bytes with a place, taken from pieces among which there may be damages."""

    def __init__(self, pieces: Iterator[bytes | Damaged] | Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = bytearray()
        self._damage: Damaged | None = None  # behind the buffer
        self.offset = 0
        self.partial = b""  # what a failed read had

    def _more(self) -> bool:
        """Get another piece; False at a damage or the end."""
        if self._damage is not None:
            return False
        piece: bytes | Damaged
        try:
            piece = next(self._pieces)
        except StopIteration:
            return False
        except Damaged as damage:
            piece = damage
        if isinstance(piece, Damaged):
            self._damage = piece
            return False
        self._buffer += piece
        return True

    def _fail(self) -> Damaged:
        """Give up what is left before the damage or the end."""
        self.partial = bytes(self._buffer)
        self.offset += len(self._buffer)
        self._buffer.clear()
        damage = self._damage or Damaged("truncated", "the file ends within a record")
        self._damage = None
        return damage

    def _drop(self, n: int) -> bytes:
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        self.offset += n
        return data

    def _line_end(self) -> int:
        """Length of the next line with its newline; 0 if none ends within _MAX_HEADER."""
        seen = 0
        while True:
            end = self._buffer.find(b"\n", seen) + 1
            if end or len(self._buffer) > _MAX_HEADER:
                return end
            seen = len(self._buffer)
            if not self._more():
                return 0

    def peek_line(self) -> bytes:
        return bytes(self._buffer[: self._line_end()])

    def skip_blank_lines(self) -> None:
        while True:
            blank = _BLANK_LINES.match(self._buffer)
            self._drop(blank.end() if blank is not None else 0)
            if self._buffer or not self._more():
                return

    def ended(self) -> bool:
        return not self._buffer and self._damage is None and not self._more()

    def take(self, n: int) -> bytes:
        while len(self._buffer) < n:
            if not self._more():
                raise self._fail()
        return self._drop(n)

    def skip(self, n: int) -> None:
        while n > len(self._buffer):
            n -= len(self._buffer)
            self._drop(len(self._buffer))
            if not self._more():
                raise self._fail()
        self._drop(n)

    def warc_header(self) -> bytes | None:
        """Lines up to and with the blank one; None if there is no WARC header here."""
        end = self._line_end()
        if not end:
            if len(self._buffer) > _MAX_HEADER:
                return None
            raise self._fail()
        if not _WARC_VERSION.match(self._buffer):
            return None
        at = end
        while True:
            end = self._buffer.find(b"\n", at) + 1
            if end and self._buffer[at:end].strip(b"\r\n") == b"":
                return self._drop(end)
            if end:
                at = end
                continue
            if len(self._buffer) > _MAX_HEADER:
                return None
            if not self._more():
                raise self._fail()

    def arc_header(self) -> bytes | None:
        end = self._line_end()
        if not end:
            if len(self._buffer) > _MAX_HEADER:
                return None
            raise self._fail()
        return self._drop(end) if _ARC_HEADER.match(self._buffer) else None

    def skip_to_header(self, arc: bool) -> BadRecord:
        """Skip lines up to the next record header, a damage or the end."""
        start = self.offset
        raw = b""
        pattern = _ARC_HEADER if arc else _WARC_VERSION
        while True:
            end = self._line_end()
            line = self._drop(end or len(self._buffer))
            raw = (raw + line)[:RAW_EXCERPT] if len(raw) < RAW_EXCERPT else raw
            if not end and self._damage is None and self._more():
                continue
            self._line_end()
            if not self._buffer or pattern.match(self._buffer):
                break
        size = self.offset - start
        message = f"expected a record header, skipped {size} bytes to the next one"
        return BadRecord(start, "warc-header", message, raw, size, {})


def _read_record(record: Record, builder: BatchBuilder) -> None:
    headers = record.headers
    kind = headers.get("warc-type", "").lower()
    url = headers.get("warc-target-uri", "").strip("<>") or None
    date = headers.get("warc-date") or None

    def remove(reason: str, message: str) -> None:
        builder.reject(
            record.offset, reason, message, None, outcome="removed", raw_bytes=len(record.block)
        )

    if kind not in _TYPES:
        known = ("request", "warcinfo", "metadata", "revisit", "continuation")
        reason = f"warc-{kind}" if kind in known else "warc-other"
        remove(reason, f"a {kind or 'typeless'} record, {url or 'without URL'}")
        return
    body = record.block
    content_type = headers.get("content-type")
    if _is_http(headers, kind, body):
        try:
            response = parse_response(body)
        except Damaged as damage:
            message = f"{damage} ({url})"
            builder.reject(record.offset, "http-body", message, body)
            return
        if response.status is not None:
            if response.status != 200:
                remove("http-status", f"HTTP status {response.status}, {url}")
                return
            body, content_type = response.body, response.headers.get("content-type")
        elif "arc" not in headers:
            builder.reject(record.offset, "http", f"expected an HTTP response ({url})", body)
            return
    media, charset = media_type(content_type)
    if not media:
        media = _sniffed(body)
    if media in _HTML:
        page = extract_html(body, charset)
    elif media == "text/plain":
        page = decode(body, charset)
    else:
        remove("warc-not-text", f"content type {media}, {url}")
        return
    builder.add(record.offset, page.text, len(body), url=url, date=date, repairs=page.repairs)


def _sniffed(body: bytes) -> str:
    """Media type of a body that has none (the beginning of WHATWG MIME Sniffing, section 7.1)."""
    from resiliparse.parse.encoding import detect_mime

    if _HTML_START.match(body):
        return "text/html"
    return str(detect_mime(body)) if body else "text/plain"


def _is_http(headers: dict[str, str], kind: str, block: bytes) -> bool:
    if kind != "response":
        return False
    media, _ = media_type(headers.get("content-type"))
    return media == "application/http" or block.startswith(b"HTTP/")
