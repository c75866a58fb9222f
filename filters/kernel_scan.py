"""One pass over the bytes of a document: characters, words, lines, paragraphs and sentences.

`scan_document` decodes UTF-8, counts code points by class, and cuts the text into words, lines and
paragraphs, whose spans it leaves in a workspace for the duplicate counts of kernel_repeats.py. Its
time is linear in the size of the text, whatever the text is.

Words. White space ends a word. A code point of an unspaced script (Han, Kana, Thai ...) is a word
of its own. A run of punctuation and symbols only that touches such a code point is part of the
punctuation between words, as the comma in "word," is, and no word.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters import counts as c
from filters import kernel_words as kw
from filters import unicode as u

Bytes = npt.NDArray[np.uint8]

SHORT_LINE = 30  # characters; FineWeb's short_line_length


# What a character adds to the counts by class, packed into six lanes of nine bits; and for a byte
# the bit that stops the fast loop: white space, non-ASCII, and these characters.
_LANES = (u.LETTER, u.MARK, u.NUMBER, u.PUNCTUATION, u.SYMBOL, u.UPPERCASE)
_LANE_BITS = 9
_LANE = np.uint64((1 << _LANE_BITS) - 1)
_FLUSH = 500  # bytes after which the lanes are emptied at the latest
_FLUSH_EARLY = 250
_MARKS_LANE = np.uint64(_LANE_BITS)
_NUMBERS_LANE = np.uint64(2 * _LANE_BITS)
_PUNCTUATION_LANE = np.uint64(3 * _LANE_BITS)
_SYMBOLS_LANE = np.uint64(4 * _LANE_BITS)
_UPPERCASE_LANE = np.uint64(5 * _LANE_BITS)
_STOP = np.uint64(1 << 63)
_SPACE = np.uint64(1 << 62)
_ALL_LANES = np.uint64((1 << 62) - 1)
_STOPPERS = b"jJ.!?#{"

_WHITESPACE = np.uint16(u.WHITESPACE)
_UNSPACED = np.uint16(u.UNSPACED)
_BREAK = np.uint16(u.WHITESPACE | u.UNSPACED)
_LETTER = np.uint16(u.LETTER)
_SENTENCE_END = np.uint16(u.SENTENCE_END)
_CONTINUES_END = np.uint16(u.SENTENCE_END | u.CLOSING)


@lru_cache(maxsize=1)
def tables() -> tuple[
    npt.NDArray[np.uint64], Bytes, npt.NDArray[np.uint16], npt.NDArray[np.uint64]
]:
    """What the kernels look up.

    by_byte: uint64[256], lanes and stop bits of a byte; kinds: uint8[0x110000], code points with
    the same classes have the same kind; flags: uint16[kinds], the classes; lanes: uint64[kinds].
    """
    distinct, inverse = np.unique(u.classes(), return_inverse=True)
    kinds = inverse.astype(np.uint8)
    flags = distinct.astype(np.uint16)
    lanes = np.array([_lanes(int(f)) for f in flags], np.uint64)
    by_byte = np.full(256, _STOP, np.uint64)
    by_byte[:128] = lanes[kinds[:128]]
    for byte in range(128):
        if flags[kinds[byte]] & u.WHITESPACE:
            by_byte[byte] |= _STOP | _SPACE
    for byte in _STOPPERS:
        by_byte[byte] |= _STOP
    return by_byte, kinds, flags, lanes


def _lanes(flags: int) -> int:
    return sum(1 << (k * _LANE_BITS) for k, flag in enumerate(_LANES) if flags & flag)


def buffers(text: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Bytes and offsets (n + 1) of a string array, which may be a slice; nothing is copied.

    Both are read-only whatever Arrow thinks of its buffers: Numba would compile the kernels once
    more for arrays that can be written.
    """
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    found = np.frombuffer(data or b"", np.uint8)
    ends.flags.writeable = False
    found.flags.writeable = False
    return found, ends


@kw.inner
def decode(text, i):  # type: ignore[no-untyped-def]
    """(code point, bytes) of the non-ASCII character that starts at byte i of valid UTF-8."""
    b = np.int64(text[i])
    if b < 0xE0:
        return ((b & 0x1F) << 6) | (np.int64(text[i + 1]) & 0x3F), 2
    if b < 0xF0:
        return (
            ((b & 0x0F) << 12)
            | ((np.int64(text[i + 1]) & 0x3F) << 6)
            | (np.int64(text[i + 2]) & 0x3F)
        ), 3
    return (
        ((b & 0x07) << 18)
        | ((np.int64(text[i + 1]) & 0x3F) << 12)
        | ((np.int64(text[i + 2]) & 0x3F) << 6)
        | (np.int64(text[i + 3]) & 0x3F)
    ), 4


@kw.inner
def _sentence_tail(text, i, end, kinds, flags):  # type: ignore[no-untyped-def]
    """(where the run of sentence ends and closing marks at i stops, whether space follows)."""
    while i < end:
        b = text[i]
        if b < 0x80:
            f = flags[kinds[b]]
            size = 1
        else:
            code, size = decode(text, i)
            f = flags[kinds[code]]
        if f & _CONTINUES_END == 0:
            return i, f & _WHITESPACE != 0
        i += size
    return i, True


@kw.inner
def _end_line(text, end, first, last, chars, kinds, flags, row):  # type: ignore[no-untyped-def]
    """Count a line that ends at `end`; [first, last) is the line without white space around."""
    row[c.NONBLANK_LINES] += 1
    row[c.SHORT_LINES] += chars <= SHORT_LINE
    b = text[first]
    if b == 0x2D or (b == 0xE2 and text[first + 1] == 0x80 and text[first + 2] == 0xA2):
        row[c.BULLET_LINES] += 1
    if last - first >= 3:
        x, y, z = text[last - 3], text[last - 2], text[last - 1]
        if (x == 0x2E and y == 0x2E and z == 0x2E) or (x == 0xE2 and y == 0x80 and z == 0xA6):
            row[c.ELLIPSIS_LINES] += 1
    i = end - 1
    while text[i] & 0xC0 == 0x80:
        i -= 1
    code = np.int64(text[i])
    if code >= 0x80:
        code, _ = decode(text, i)
    f = flags[kinds[code]]
    if f & _SENTENCE_END:
        row[c.TERMINAL_LINES] += 1


@kw.inner
def _content(counts):  # type: ignore[no-untyped-def]
    """Letters, marks and numbers in the lanes."""
    return np.int64(
        (counts & _LANE) + ((counts >> _MARKS_LANE) & _LANE) + ((counts >> _NUMBERS_LANE) & _LANE)
    )


@kw.inner
def _flush(counts, row):  # type: ignore[no-untyped-def]
    """Empty the lanes into the row."""
    row[c.LETTERS] += np.int64(counts & _LANE)
    row[c.NUMBERS] += np.int64((counts >> _NUMBERS_LANE) & _LANE)
    row[c.PUNCTUATION] += np.int64((counts >> _PUNCTUATION_LANE) & _LANE)
    row[c.SYMBOLS] += np.int64((counts >> _SYMBOLS_LANE) & _LANE)
    row[c.UPPERCASE] += np.int64((counts >> _UPPERCASE_LANE) & _LANE)


@kw.inner
def scan_document(  # type: ignore[no-untyped-def]
    text, begin, end, by_byte, kinds, flags, lanes, row, words, lines, paragraphs, keep_words
):
    """Count bytes [begin, end) of `text` into `row`; return its (words, lines, paragraphs).

    words, lines, paragraphs: int32[3, capacity]; begin and end byte and 2 * characters + mark of
    each span, where the mark says: a word of an unspaced script, a line of white space only.
    Lines without a character and, unless `keep_words`, words are counted but not left there.
    """
    n_words = n_lines = n_paragraphs = 0
    units = nonsymbol = nonsymbol_chars = alphabetic = 0
    stop_words = stop_mask = 0
    sentences = ellipses = hashes = curly = spaces = newlines = 0
    continuation = 0  # UTF-8 continuation bytes so far: characters are bytes less these
    alnum = sentence_alnum = 0  # letters, marks and numbers in words so far; at the last end
    unit_end = -1  # where the last word of an unspaced script ended
    dots_end = end_seen = begin  # ellipses and sentence ends before these are counted
    line_begin = begin
    line_skipped = 0  # continuation bytes before the line
    first = first_skipped = -1  # begin of the first word or symbol of the line
    last = last_skipped = -1  # end of the last one in the document so far
    phrases = 0  # those in the line so far
    paragraph = -1
    paragraph_skipped = 0
    last_chars = 0  # characters of the paragraph with the last word so far, up to that word
    counts = np.uint64(0)  # lanes
    flushed = begin
    i = begin
    while True:
        # A run of code points that are neither white space nor of an unspaced script.
        start = i
        start_skipped = continuation
        letters = content = 0
        kind = np.uint8(0)
        size = 1
        while True:
            limit = min(end, flushed + _FLUSH)
            before = counts
            while i < limit:
                b = text[np.uint64(i)]
                v = by_byte[b]
                if v < _STOP:
                    counts += v
                    i += 1
                    continue
                if b < 0x80:
                    if v & _SPACE:
                        break
                    counts += v & _ALL_LANES
                    if b == 0x23:
                        hashes += 1
                    elif b == 0x7B:
                        curly += 1
                    elif b < 0x40:  # . ! ?
                        if i >= end_seen:
                            end_seen, space = _sentence_tail(text, i + 1, end, kinds, flags)
                            seen = alnum + content + _content(counts - before)
                            if space and seen > sentence_alnum:
                                sentences += 1
                                sentence_alnum = seen
                        if b == 0x2E and i >= dots_end and i + 3 <= end:
                            if text[i + 1] == 0x2E and text[i + 2] == 0x2E:
                                ellipses += 1
                                dots_end = i + 3
                    else:
                        phrases |= kw.phrase_at(text, i, begin, end)
                    i += 1
                    continue
                code, size = decode(text, i)
                kind = kinds[code]
                f = flags[kind]
                if f & _BREAK:
                    break
                counts += lanes[kind]
                if f & _SENTENCE_END:
                    seen = alnum + content + _content(counts - before)
                    if seen > sentence_alnum:
                        sentences += 1
                        sentence_alnum = seen
                elif code == 0x2026:
                    ellipses += 1
                i += size
                continuation += size - 1
            letters += np.int64((counts - before) & _LANE)
            content += _content(counts - before)
            if i - flushed >= _FLUSH_EARLY:
                _flush(counts, row)
                counts = np.uint64(0)
                flushed = i
            if i < limit or i >= end:
                break
        at_unit = i < end and text[i] >= 0x80 and flags[kind] & _UNSPACED != 0
        if i > start:
            alnum += content
            if first < 0:
                first = start
                first_skipped = start_skipped
            last = i
            last_skipped = continuation
            if content > 0 or not (at_unit or start == unit_end):
                chars = (i - start) - (continuation - start_skipped)
                if keep_words:
                    words[0, n_words] = start
                    words[1, n_words] = i
                    words[2, n_words] = 2 * chars
                n_words += 1
                if content > 0:
                    nonsymbol += 1
                    nonsymbol_chars += chars
                    alphabetic += letters > 0
                    found, bit = kw.look_up(text, start, i, letters, content, begin, end)
                    phrases |= found
                    stop_words += bit != 0
                    stop_mask |= bit
        if at_unit:
            if keep_words:
                words[0, n_words] = i
                words[1, n_words] = i + size
                words[2, n_words] = 3
            n_words += 1
            units += 1
            nonsymbol += 1
            nonsymbol_chars += 1
            alphabetic += flags[kind] & _LETTER != 0
            alnum += 1
            counts += lanes[kind]
            if first < 0:
                first = i
                first_skipped = continuation
            i += size
            continuation += size - 1
            last = unit_end = i
            last_skipped = continuation
            continue
        if i < end and text[i] != 0x0A:
            spaces += 1
            size = size if text[i] >= 0x80 else 1
            i += size
            continuation += size - 1
            continue
        # The line ends here.
        if i > line_begin:
            chars = (i - line_begin) - (continuation - line_skipped)
            blank = first < 0
            lines[0, n_lines] = line_begin
            lines[1, n_lines] = i
            lines[2, n_lines] = 2 * chars + blank
            n_lines += 1
            if not blank:
                _end_line(text, i, first, last, chars, kinds, flags, row)
                row[c.LOREM_IPSUM_LINES] += phrases & kw.HAS_LOREM_IPSUM != 0
                row[c.JAVASCRIPT_LINES] += phrases & kw.HAS_JAVASCRIPT != 0
                row[c.POLICY_LINES] += phrases & kw.HAS_POLICY != 0
                phrases = 0
                if alnum > sentence_alnum:
                    sentences += 1
                    sentence_alnum = alnum
            if paragraph < 0 and last >= 0:
                # The first paragraph begins with the first word, the others with their line.
                paragraph = line_begin if n_paragraphs > 0 else first
                paragraph_skipped = line_skipped if n_paragraphs > 0 else first_skipped
        if paragraph >= 0 and (i == line_begin or i >= end):
            stop = i - 1 if i == line_begin else i
            paragraphs[0, n_paragraphs] = paragraph
            paragraphs[1, n_paragraphs] = stop
            paragraphs[2, n_paragraphs] = 2 * (
                (stop - paragraph) - (continuation - paragraph_skipped)
            )
            n_paragraphs += 1
            if last > paragraph:
                last_chars = (last - paragraph) - (last_skipped - paragraph_skipped)
            paragraph = -1
        if i >= end:
            break
        newlines += 1
        i += 1
        line_begin = i
        line_skipped = continuation
        first = -1
    # White space at the end of the document belongs to no paragraph.
    while n_paragraphs > 0 and paragraphs[0, n_paragraphs - 1] >= last:
        n_paragraphs -= 1
    if n_paragraphs > 0:
        paragraphs[1, n_paragraphs - 1] = last
        paragraphs[2, n_paragraphs - 1] = 2 * last_chars
    _flush(counts, row)
    row[c.BYTES] = end - begin
    row[c.CHARACTERS] = end - begin - continuation
    row[c.WHITESPACE] = spaces + newlines
    row[c.NEWLINES] = newlines
    row[c.HASHES] = hashes
    row[c.CURLY_BRACKETS] = curly
    row[c.ELLIPSES] = ellipses
    row[c.WORDS] = n_words
    row[c.UNSPACED_WORDS] = units
    row[c.NONSYMBOL_WORDS] = nonsymbol
    row[c.NONSYMBOL_WORD_CHARACTERS] = nonsymbol_chars
    row[c.ALPHABETIC_WORDS] = alphabetic
    row[c.STOP_WORDS] = stop_words
    while stop_mask:
        row[c.DISTINCT_STOP_WORDS] += stop_mask & 1
        stop_mask >>= 1
    row[c.SENTENCES] = sentences
    row[c.LINES] = newlines + (end > line_begin)
    row[c.NONEMPTY_LINES] = n_lines
    row[c.PARAGRAPHS] = n_paragraphs
    return n_words, n_lines, n_paragraphs
