"""The HTTP response inside a WARC or ARC record: status, headers, and the decoded body."""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass

from pipeline.read.compression import Damaged, chunks

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?:[ \t\r\n]|$)")
_END_OF_HEADERS = re.compile(rb"\r?\n\r?\n")
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([^\s\"';,]+)", re.IGNORECASE)
MAX_BODY = 256 << 20  # decoded bytes


@dataclass(frozen=True)
class Response:
    """`status` is None where there is no status line; `body` is without transfer coding."""

    status: int | None
    headers: dict[str, str]  # lower-case names, first value of each
    body: bytes


def parse_response(block: bytes) -> Response:
    """Parse a stored HTTP response.

    Crawlers often store bodies decoded but keep the headers of the wire: a body that is not coded
    as its headers say is taken as it is. Raises Damaged where a coded body breaks off or is
    corrupt.
    """
    found = _STATUS.match(block)
    if found is None:
        return Response(None, {}, block)
    end = _END_OF_HEADERS.search(block)
    head, body = (block, b"") if end is None else (block[: end.start()], block[end.end() :])
    headers = parse_headers(head.split(b"\n")[1:])
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _dechunk(body)
    codings = headers.get("content-encoding", "").lower().split(",")
    for coding in reversed([c.strip() for c in codings if c.strip()]):
        body = _decode(body, coding)
    return Response(int(found.group(1)), headers, body)


def parse_headers(lines: list[bytes]) -> dict[str, str]:
    """Header lines to lower-case names and values; folded lines are joined, first value wins."""
    headers: dict[str, str] = {}
    last = ""
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if line[:1] in (" ", "\t") and last:
            headers[last] = f"{headers[last]} {line.strip()}"
            continue
        name, colon, value = line.partition(":")
        last = name.strip().lower() if colon else ""
        if last and last not in headers:
            headers[last] = value.strip()
        else:
            last = ""
    return headers


def media_type(content_type: str | None) -> tuple[str, str | None]:
    """Lower-case media type ("" if there is none) and charset label."""
    if not content_type:
        return "", None
    found = _CHARSET.search(content_type)
    media = re.split(r"[;,\s]", content_type.strip(), maxsplit=1)[0].lower()
    return media, found.group(1) if found else None


def _dechunk(body: bytes) -> bytes:
    pieces: list[bytes] = []
    at = 0
    while True:
        found = _CHUNK.match(body, at)
        if found is None:
            if at == 0:
                return body  # stored without its transfer coding
            if at >= len(body) or not body[at:].strip():
                return b"".join(pieces)  # complete but for the closing chunk
            raise Damaged("http-body", f"expected a chunk header at byte {at} of the HTTP body")
        size = int(found.group(1), 16)
        if size == 0:
            return b"".join(pieces)
        at = found.end()
        piece = body[at : at + size]
        if len(piece) < size:
            if not pieces:
                return body
            raise Damaged("http-body", f"the HTTP body breaks off in a chunk at byte {at}")
        pieces.append(piece)
        at += size
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"


def _decode(body: bytes, coding: str) -> bytes:
    if coding in ("gzip", "x-gzip"):
        if not body.startswith(b"\x1f\x8b"):
            return body
        return _collect(body, "gzip")
    if coding == "zstd":
        if not body.startswith(b"\x28\xb5\x2f\xfd"):
            return body
        return _collect(body, "zstd")
    if coding == "deflate":
        for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):  # with and without the zlib header
            decoder = zlib.decompressobj(wbits)
            try:
                decoded = decoder.decompress(body, MAX_BODY)
            except zlib.error:
                continue
            if decoder.eof:
                return decoded
            raise Damaged("http-body", "the deflate-coded HTTP body breaks off")
        return body
    if coding == "br":
        from fastwarc.stream_io import BrotliReader

        try:
            return bytes(BrotliReader(io.BytesIO(body)).read(MAX_BODY))
        except OSError:
            # Brotli has no magic number: no telling whether it is broken or was never brotli.
            if body.lstrip()[:1] in (b"<", b"{"):
                return body
            raise Damaged("http-body", "the brotli-coded HTTP body cannot be decoded") from None
    return body


def _collect(body: bytes, compression: str) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in chunks(io.BytesIO(body), compression):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BODY:
                raise Damaged("http-body", f"the HTTP body decodes to more than {MAX_BODY} bytes")
    except Damaged as damage:
        raise Damaged("http-body", f"HTTP body: {damage}") from damage
    return b"".join(pieces)
