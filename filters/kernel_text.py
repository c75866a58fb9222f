"""Text as the kernels see it: one document at a time, and its code points."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from filters import kernel_words as kw
from filters import unicode as u

Bytes = npt.NDArray[np.uint8]

PADDING = 64  # line feeds before a document in its workspace; there are twice as many behind it
WHITESPACE = np.uint16(u.WHITESPACE)
UNSPACED = np.uint16(u.UNSPACED)
CONTENT = np.uint16(u.LETTER | u.MARK | u.NUMBER)
SENTENCE_END = np.uint16(u.SENTENCE_END)

_1, _2, _3 = (np.uint64(k) for k in range(1, 4))


@lru_cache(maxsize=1)
def tables() -> tuple[Bytes, npt.NDArray[np.uint16]]:
    """What the kernels look up: kinds uint8[0x110000], flags uint16[kinds].

    Code points with the same classes have the same kind; flags are the classes of a kind.
    """
    distinct, inverse = np.unique(u.classes(), return_inverse=True)
    return inverse.astype(np.uint8), distinct.astype(np.uint16)


@kw.inner
def copy_document(text, begin, end, padded):  # type: ignore[no-untyped-def]
    """Put bytes [begin, end) of `text` between line feeds; returns where they end in `padded`."""
    size = end - begin
    for k in range(PADDING):
        padded[k] = 10
    for k in range(size):
        padded[PADDING + k] = text[begin + k]
    for k in range(2 * PADDING):
        padded[PADDING + size + k] = 10
    return PADDING + size


@kw.inner
def decode(text, i):  # type: ignore[no-untyped-def]
    """(code point, bytes) of the non-ASCII character that starts at byte i of valid UTF-8."""
    at = np.uint64(i)
    b = np.int64(text[at])
    second = np.int64(text[at + _1]) & 0x3F
    if b < 0xE0:
        return ((b & 0x1F) << 6) | second, 2
    third = np.int64(text[at + _2]) & 0x3F
    if b < 0xF0:
        return ((b & 0x0F) << 12) | (second << 6) | third, 3
    fourth = np.int64(text[at + _3]) & 0x3F
    return ((b & 0x07) << 18) | (second << 12) | (third << 6) | fourth, 4


@kw.inner
def class_at(text, i, kinds, flags):  # type: ignore[no-untyped-def]
    """(class flags, bytes) of the character at byte i."""
    if text[i] < 0x80:
        return flags[kinds[text[i]]], 1
    code, size = decode(text, i)
    return flags[kinds[code]], size


@kw.inner
def last_at(text, end):  # type: ignore[no-untyped-def]
    """Where the character before byte `end` begins."""
    i = end - 1
    while text[i] & 0xC0 == 0x80:
        i -= 1
    return i


@kw.inner
def characters(text, begin, end):  # type: ignore[no-untyped-def]
    """Characters in bytes [begin, end)."""
    n = 0
    for i in range(begin, end):
        n += text[i] & 0xC0 != 0x80
    return n
