"""Where pretokens end: the Llama-3 and GPT-2 split regexes and SentencePiece's word rule as kernels.

The regexes, as HF tokenizers' `Split(Regex(...), "isolated")` applies them to a whole document:

    llama3  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}
            | ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+
    gpt2    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

Both match every character of any text, so pretokens are the text cut in pieces. Each alternative is
decided by the classes of at most the next few code points, hence no backtracking: every code point
is looked at a bounded number of times, except that trailing spaces of a line may be read twice.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numpy import uint64 as U

from tokenizer.codepoints import LETTER, NEWLINE, NUMBER, OTHER, SPACE, classes

LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PATTERNS = {"llama3": LLAMA3_PATTERN, "gpt2": GPT2_PATTERN}

# SentencePiece holds positions in a word in 16 bits; longer words are cut.
MAX_WORD_BYTES = 16_384

NONE = 255  # the class of what follows the end of a text
LLAMA3, GPT2, WHITESPACE = range(3)
RULES = {"llama3": LLAMA3, "gpt2": GPT2, "whitespace": WHITESPACE}


@numba.njit(nogil=True, cache=True)
def _kind(buffer, i, table):  # type: ignore[no-untyped-def]
    """Class of the code point at i of valid UTF-8, and its length in bytes.

    Indices are uint64 in these kernels: signed ones make Numba test for negative indices.
    """
    b = np.uint64(buffer[i])
    if b < U(0x80):
        return table[b], U(1)
    tail = np.uint64(buffer[i + U(1)]) & U(0x3F)
    if b < U(0xE0):
        return table[(b & U(0x1F)) << U(6) | tail], U(2)
    tail = tail << U(6) | (np.uint64(buffer[i + U(2)]) & U(0x3F))
    if b < U(0xF0):
        return table[(b & U(0x0F)) << U(12) | tail], U(3)
    tail = tail << U(6) | (np.uint64(buffer[i + U(3)]) & U(0x3F))
    return table[(b & U(0x07)) << U(18) | tail], U(4)


@numba.njit(nogil=True, cache=True)
def _run(buffer, i, end, table, wanted):  # type: ignore[no-untyped-def]
    """End of the run of code points of class `wanted` that starts at i."""
    while i < end:
        kind, length = _kind(buffer, i, table)
        if kind != wanted:
            break
        i += length
    return i


@numba.njit(nogil=True, cache=True)
def _contraction(buffer, i, end, fold):  # type: ignore[no-untyped-def]
    """End of 's, 't, 're, 've, 'm, 'll or 'd at the apostrophe i, or i if there is none.

    With `fold` case is ignored as Unicode does: U+017F, the long s, is an s too.
    """
    if i + U(1) >= end:
        return i
    bit = np.uint8(0x20) if fold else np.uint8(0)
    a = buffer[i + U(1)] | bit
    if a == 0x73 or a == 0x74 or a == 0x6D or a == 0x64:  # s t m d
        return i + U(2)
    if i + U(2) >= end:
        return i
    b = buffer[i + U(2)]
    if fold and buffer[i + U(1)] == 0xC5 and b == 0xBF:
        return i + U(3)
    b |= bit
    if ((a == 0x72 or a == 0x76) and b == 0x65) or (a == 0x6C and b == 0x6C):  # re ve ll
        return i + U(3)
    return i


@numba.njit(nogil=True, cache=True)
def _spaces(buffer, i, end, table, newlines):  # type: ignore[no-untyped-def]
    """End of the pretoken at i, the first of a run of white space that no other rule took.

    With `newlines` (\\s*[\\r\\n]+ comes first) it ends after the run's last CR or LF, if any.
    Otherwise the run's last character is left to what follows, unless it is the only one.
    """
    start, last, after_newline = i, i, i
    while True:
        if i >= end:
            last = end
            break
        kind, length = _kind(buffer, i, table)
        if kind != SPACE and kind != NEWLINE:
            break
        last = i
        i += length
        if kind == NEWLINE:
            after_newline = i
    if newlines and after_newline > start:
        return after_newline
    return last if last > start else i


@numba.njit(nogil=True, cache=True)
def _word_end(buffer, i, end):  # type: ignore[no-untyped-def]
    """End of SentencePiece's word at i, and whether it is one.

    A word is a run of spaces, then everything up to the next space. Newlines end a sentence; a tab,
    or U+2581 (its sign for a space) in the text itself, can be in no piece. These separate words
    and are in none.
    """
    start = i
    spaces = True
    while i < end:
        b = buffer[i]
        if b == 0x20:
            if not spaces:
                return i, True
        else:
            length = U(1)
            if b == 0xE2 and buffer[i + U(1)] == 0x96 and buffer[i + U(2)] == 0x81:
                length = U(3)
            if b == 0x0A or b == 0x09 or length == U(3):
                return (i + length, False) if i == start else (i, True)
            spaces = False
        i += U(1)
        # 0b10xxxxxx continues a code point
        if i - start >= U(MAX_WORD_BYTES) and (i >= end or (buffer[i] & 0xC0) != 0x80):
            break
    return i, True


@numba.njit(nogil=True, cache=True)
def pretoken_end(buffer, i, end, table, rule):  # type: ignore[no-untyped-def]
    """End of the pretoken that starts at byte i < end, and whether it is one or only a separator.

    buffer: uint8[bytes], valid UTF-8; i, end: uint64; table: classes(); rule: of RULES.
    """
    if rule == WHITESPACE:
        return _word_end(buffer, i, end)
    if buffer[i] == 0x27:
        after = _contraction(buffer, i, end, rule == LLAMA3)
        if after > i:
            return after, True
    kind, length = _kind(buffer, i, table)
    j = i + length
    if kind == LETTER:
        return _run(buffer, j, end, table, LETTER), True
    following = np.uint8(NONE)
    if j < end:
        following, length = _kind(buffer, j, table)
    if rule == LLAMA3:
        if following == LETTER and (kind == SPACE or kind == OTHER):
            return _run(buffer, j, end, table, LETTER), True
        if kind == NUMBER:
            if following == NUMBER:
                j += length
                if j < end:
                    following, length = _kind(buffer, j, table)
                    if following == NUMBER:
                        j += length
            return j, True
        if kind == OTHER or (buffer[i] == 0x20 and following == OTHER):
            j = _run(buffer, j, end, table, OTHER)
            return _run(buffer, j, end, table, NEWLINE), True
    else:
        if buffer[i] == 0x20 and following < SPACE:
            kind = following
        if kind < SPACE:
            return _run(buffer, j, end, table, kind), True
    return _spaces(buffer, i, end, table, rule == LLAMA3), True


@numba.njit(nogil=True, cache=True)
def _fill_spans(buffer, offsets, table, rule, spans, rows):  # type: ignore[no-untyped-def]
    """Write starts and ends of all pretokens to spans, their numbers per text to rows."""
    n = 0
    for k in range(offsets.size - 1):
        i, end = U(offsets[k]), U(offsets[k + 1])
        first = n
        while i < end:
            after, counts = pretoken_end(buffer, i, end, table, rule)
            if counts:
                spans[n, 0] = i
                spans[n, 1] = after
                n += 1
            i = after
        rows[k] = n - first
    return n


def string_buffers(
    text: pa.StringArray,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The UTF-8 bytes of an array and its offsets int32[n + 1] into them, without a copy."""
    if not pa.types.is_string(text.type):
        raise TypeError(f"expected a string array, got {text.type}")
    _, offsets, data = text.buffers()
    if len(text) == 0 or offsets is None:
        bounds = np.zeros(1, dtype=np.int32)
    else:
        bounds = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    empty = data is None or data.size == 0
    buffer = np.zeros(0, dtype=np.uint8) if empty else np.frombuffer(data, np.uint8)
    # kernels are compiled for one kind of array: read-only
    bounds.flags.writeable = buffer.flags.writeable = False
    return buffer, bounds


def split(text: pa.StringArray, pretokenizer: str) -> pa.ListArray:
    """Pretokens of each text, as list<string>; for looking and for tests, not for counting."""
    buffer, offsets = string_buffers(text)
    spans = np.empty((max(1, int(offsets[-1]) - int(offsets[0])), 2), dtype=np.int64)
    rows = np.empty(len(text), dtype=np.int64)
    n = _fill_spans(buffer, offsets, classes(), RULES[pretokenizer], spans, rows)
    whole = buffer.tobytes()
    pretokens = pa.array([whole[i:j].decode() for i, j in spans[:n].tolist()], pa.string())
    bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), pretokens)
