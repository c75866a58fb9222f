"""Main text of HTML pages, and text of any charset (resiliparse; Bevendorff et al., ECIR 2018).

Charsets follow the WHATWG Encoding Standard: labels map to what browsers use (latin-1 means
windows-1252), a byte-order mark wins over a declaration, HTTP over `<meta>`, and detection is last.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from schemas.document import Repair

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DETECT_BYTES = 1 << 17


@dataclass(frozen=True)
class Extracted:
    """Text, the charset it was decoded from, and a Repair mask (CHARSET, INVALID_UTF8)."""

    text: str
    charset: str
    repairs: int


def decode(payload: bytes, declared: str | None, *, html: bool = False) -> Extracted:
    """Decode bytes of any charset; undecodable ones become U+FFFD, never an error.

    `declared` is the charset label that came with the payload, if any; with `html`, a `<meta>`
    declaration is looked for where there is none. Repair.CHARSET is set if a declaration turned out
    wrong, Repair.INVALID_UTF8 if bytes were replaced.
    """
    for bom, charset in _BOMS:
        if payload.startswith(bom):
            repairs = Repair.CHARSET if declared and _known(declared) not in (None, charset) else 0
            return _decoded(payload[len(bom) :], charset, repairs)
    named = _known(declared) if declared else None
    if named is None and html:
        named = _from_meta(payload)
    if named is not None:
        # Bytes beyond ASCII that are valid UTF-8 are hardly ever windows-1252.
        if named == "cp1252" and not payload.isascii():
            text = _strict(payload, "utf-8")
            if text is not None:
                return Extracted(text, "utf-8", Repair.CHARSET)
        text = _strict(payload, named)
        if text is not None:
            return Extracted(text, named, 0)
    text = _strict(payload, "utf-8")
    if text is not None:
        return Extracted(text, "utf-8", Repair.CHARSET if named else 0)
    found = _detected(payload)
    # A declaration with a few bad bytes is more often right than a guess.
    if named is not None and (found is None or _same_family(named, found)):
        return _decoded(payload, named, 0)
    if found is None:
        return _decoded(payload, named or "utf-8", 0)
    return _decoded(payload, found, Repair.CHARSET if named else 0)


def extract_html(payload: bytes, charset: str | None = None) -> Extracted:
    """Main content of an HTML page as plain text, paragraphs on lines of their own.

    `charset` is the label of the HTTP header, if any. Navigation, footers, comments and other
    boilerplate are left out (resiliparse's rule-based `main_content`); the text is empty where
    nothing is left.
    """
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    page = decode(payload, charset, html=True)
    text = extract_plain_text(
        HTMLTree.parse(page.text),
        preserve_formatting=True,
        main_content=True,
        list_bullets=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,
    )
    return Extracted(text.strip(), page.charset, page.repairs)


def _known(label: str) -> str | None:
    """Python's name of the charset that browsers take a label for; None if unknown."""
    from resiliparse.parse.encoding import map_encoding_to_html5

    mapped = map_encoding_to_html5(label.strip().strip("\"'"), fallback_utf8=False)
    if mapped is None:
        return None
    try:
        return codecs.lookup(mapped).name
    except LookupError:
        return None


def _from_meta(payload: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    head = payload[:4096].lower()
    if b"charset" not in head:
        return None
    found = detect_encoding(payload[:4096], from_html_meta=True)
    return _known(found) if found else None


def _detected(payload: bytes) -> str | None:
    from resiliparse.parse.encoding import detect_encoding

    found = detect_encoding(payload, max_len=_DETECT_BYTES)
    return _known(found) if found else None


def _strict(payload: bytes, charset: str) -> str | None:
    try:
        return payload.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


def _decoded(payload: bytes, charset: str, repairs: int) -> Extracted:
    text = _strict(payload, charset)
    if text is None:
        text = payload.decode(charset, "replace")
        repairs |= Repair.INVALID_UTF8
    return Extracted(text, charset, int(repairs))


def _same_family(one: str, other: str) -> bool:
    return one == other or {one, other} <= {"gbk", "gb18030", "gb2312"}
