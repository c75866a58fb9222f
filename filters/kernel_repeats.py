"""What repeats inside a document: lines, paragraphs and word n-grams.

Equal spans get equal numbers in the order of their first occurrence. Numbers are exact: hashes only
find the place in the table, and spans are compared byte by byte. An n-gram is numbered by the
numbers of its two (n-1)-grams, and only positions whose n-gram occurs again are carried on to n+1:
an (n+1)-gram cannot repeat unless both of its n-grams do.

Tables are open-addressed, sized to the document and cleared for each use; 0 is a free place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from filters import counts as c
from filters import kernel_scan as scan
from filters import kernel_text as kt
from filters import kernel_words as kw

_MIX = np.uint64(0x9E3779B97F4A7C15)
_FINISH = np.uint64(0xD6E8FEB86659FD93)
_LONG = np.uint64(1 << 63)
_FIRST_BYTES = np.array([(1 << (8 * k)) - 1 for k in range(9)], np.uint64)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_FEWEST_SLOTS = 64


@kw.inner
def _place(key, mask):  # type: ignore[no-untyped-def]
    """Where in a table of mask + 1 slots a key belongs (multiplicative hashing)."""
    key = (key ^ (key >> _HALF)) * _MIX
    return (key >> _HALF) & mask


@kw.inner
def _load(text, at):  # type: ignore[no-untyped-def]
    """The eight bytes from `at` as a little-endian number; compiles to one load."""
    at = np.uint64(at)
    word = np.uint64(text[at])
    word |= np.uint64(text[at + np.uint64(1)]) << np.uint64(8)
    word |= np.uint64(text[at + np.uint64(2)]) << np.uint64(16)
    word |= np.uint64(text[at + np.uint64(3)]) << np.uint64(24)
    word |= np.uint64(text[at + np.uint64(4)]) << np.uint64(32)
    word |= np.uint64(text[at + np.uint64(5)]) << np.uint64(40)
    word |= np.uint64(text[at + np.uint64(6)]) << np.uint64(48)
    word |= np.uint64(text[at + np.uint64(7)]) << np.uint64(56)
    return word


@kw.inner
def _span_key(text, begin, size):  # type: ignore[no-untyped-def]
    """Up to seven bytes: these and their number, so that equal keys are equal spans.

    From eight bytes on: a hash that has its highest bit set, which no short span has. There are
    eight bytes behind every span.
    """
    head = _load(text, begin)
    if size < 8:
        return (head & _FIRST_BYTES[np.uint64(size)]) | np.uint64(size) << np.uint64(56)
    other = _ZERO
    at = begin + 8
    while at + 16 < begin + size:
        head = ((head ^ (head >> _HALF)) * _MIX) ^ _load(text, at)
        other = ((other ^ (other >> _HALF)) * _FINISH) ^ _load(text, at + 8)
        at += 16
    if at + 8 < begin + size:
        head = ((head ^ (head >> _HALF)) * _MIX) ^ _load(text, at)
    head ^= other * _MIX
    tail = _load(text, begin + size - 8)
    return (((((head ^ (head >> _HALF)) * _MIX) ^ tail) * _FINISH) ^ np.uint64(size)) | _LONG


@kw.inner
def _same(text, a, b, size):  # type: ignore[no-untyped-def]
    """Whether two spans of at least eight bytes are equal."""
    for k in range(0, size - 8, 8):
        if _load(text, a + k) != _load(text, b + k):
            return False
    return _load(text, a + size - 8) == _load(text, b + size - 8)


@kw.inner
def _cleared(slots, names, n):  # type: ignore[no-untyped-def]
    """(slots, names, size) of an empty table for n keys: a power of two, at least 2 * n."""
    size = _FEWEST_SLOTS
    while size < 2 * n:
        size *= 2
    if size > slots.size:
        slots = np.empty(size, np.uint64)
        names = np.empty(size, np.int32)
    for k in range(size):
        slots[k] = _ZERO
    return slots, names, size


@kw.inner
def number_spans(text, begins, ends, n, slots, names, firsts, times, numbers):  # type: ignore[no-untyped-def]
    """Number n spans by content: (distinct spans, slots, names), the tables perhaps larger ones.

    begins, ends: int32[]. Written: numbers int32[n]; for each number the index of its first span
    and how many spans have it.
    """
    slots, names, used = _cleared(slots, names, n)
    mask = np.uint64(used - 1)
    found = 0
    for i in range(n):
        begin = np.int64(begins[i])
        size = np.int64(ends[i]) - begin
        key = _span_key(text, begin, size)
        at = _place(key, mask)
        while True:
            there = slots[at]
            if there == key:
                number = np.uint64(names[at])
                if size >= 8:
                    first = firsts[number]
                    other = np.int64(begins[first])
                    if np.int64(ends[first]) - other != size or not _same(text, begin, other, size):
                        at = (at + _ONE) & mask
                        continue
                times[number] += 1
                break
            if there == _ZERO:
                number = np.uint64(found)
                slots[at] = key
                names[at] = found
                firsts[number] = i
                times[number] = 1
                found += 1
                break
            at = (at + _ONE) & mask
        numbers[i] = number
    return found, slots, names


@kw.inner
def _pairs(at_words, numbers, n, times, pairs):  # type: ignore[no-untyped-def]
    """Keys of neighbouring n-grams that both repeat, into `pairs`; returns how many."""
    kept = 0
    for k in range(n - 1):
        a, b = np.uint64(numbers[k]), np.uint64(numbers[k + 1])
        where = at_words[k]
        pairs[kept] = ((a << _HALF) | b) + _ONE
        both = (times[a] > 1) & (times[b] > 1) & (at_words[k + 1] == where + 1)
        at_words[kept] = where
        kept += both
    return kept


@kw.inner
def _number_pairs(pairs, n, slots, names, seen, times, numbers):  # type: ignore[no-untyped-def]
    """Number n keys: (distinct keys, slots, names); `seen` is cleared for the distinct ones."""
    slots, names, used = _cleared(slots, names, n)
    mask = np.uint64(used - 1)
    found = 0
    for i in range(n):
        key = pairs[i]
        at = _place(key, mask)
        while True:
            there = slots[at]
            if there == key:
                number = np.uint64(names[at])
                times[number] += 1
                break
            if there == _ZERO:
                number = np.uint64(found)
                slots[at] = key
                names[at] = found
                seen[number] = 0
                times[number] = 1
                found += 1
                break
            at = (at + _ONE) & mask
        numbers[i] = number
    return found, slots, names


@kw.inner
def _characters(text, begins, ends, at, n, spaced, ascii_only, kinds, flags):  # type: ignore[no-untyped-def]
    """Characters of the n words from `at`; with one for each space between them if `spaced`."""
    total = 0
    after_unit = True
    for k in range(at, at + n):
        begin, end = np.int64(begins[k]), np.int64(ends[k])
        unit = False
        if ascii_only:
            total += end - begin
        else:
            total += kt.characters(text, begin, end)
            unit = kt.class_at(text, begin, kinds, flags)[0] & kt.UNSPACED != 0
        total += spaced and not (unit or after_unit)
        after_unit = unit
    return total


@kw.inner
def count_ngrams(  # type: ignore[no-untyped-def]
    text, begins, ends, n_words, slots, names, firsts, times, at_words, numbers, pairs,
    ascii_only, kinds, flags, row,
):  # fmt: skip
    """Characters in the top 2- to 4-grams and in repeated 5- to 10-grams; returns the tables."""
    _, slots, names = number_spans(
        text, begins, ends, n_words, slots, names, firsts, times, numbers
    )
    for k in range(n_words):
        at_words[k] = k
    n = n_words
    for length in range(2, 11):
        if n_words < length:
            break
        n = _pairs(at_words, numbers, n, times, pairs)
        distinct, slots, names = _number_pairs(pairs, n, slots, names, firsts, times, numbers)
        if distinct == n:
            n = distinct = 0  # nothing repeats
        if length <= 4:
            # The most frequent n-gram, the first of several; where nothing repeats, the first.
            best = 0
            most = 1
            for number in range(distinct):
                if times[number] > most:
                    best, most = number, np.int64(times[number])
            where = 0
            if most > 1:
                k = 0
                while numbers[k] != best:
                    k += 1
                where = at_words[k]
            row[c.TOP_2GRAM_CHARACTERS + length - 2] = most * _characters(
                text, begins, ends, where, length, True, ascii_only, kinds, flags
            )
        elif n == 0:
            break
        else:
            # From left to right: an n-gram that stood before counts and is stepped over, any other
            # is remembered in `firsts`; as in datatrove's find_all_duplicate.
            free = 0
            total = 0
            for k in range(n):
                number = numbers[k]
                where = at_words[k]
                if times[number] > 1 and where >= free:
                    if firsts[number]:
                        total += _characters(
                            text, begins, ends, where, length, False, ascii_only, kinds, flags
                        )
                        free = where + length
                    else:
                        firsts[number] = 1
            row[c.DUPLICATE_5GRAM_CHARACTERS + length - 5] = total
    return slots, names


@kw.inner
def cut_paragraphs(text, lines, n_lines, first, last, paragraphs):  # type: ignore[no-untyped-def]
    """Join lines without an empty one between them; returns how many paragraphs there are.

    [first, last) is the document without white space around it. paragraphs: as lines.
    """
    n = 0
    previous = -1
    for i in range(n_lines):
        begin, end = np.int64(lines[0, i]), np.int64(lines[1, i])
        if end <= first:
            continue
        if begin >= last:
            break
        chars = np.int64(lines[2, i]) >> 1
        joined = n > 0 and begin == previous + 1
        previous = end
        if begin < first:
            chars -= kt.characters(text, begin, first)
            begin = first
        if end > last:
            chars -= kt.characters(text, last, end)
            end = last
        if joined:
            paragraphs[2, n - 1] += 2 * (chars + 1)
        else:
            paragraphs[0, n] = begin
            paragraphs[2, n] = 2 * chars
            n += 1
        paragraphs[1, n - 1] = end
    return n


@kw.inner
def count_lines(text, lines, n, slots, names, firsts, times, numbers, row, column, column_blank):  # type: ignore[no-untyped-def]
    """Count lines (or paragraphs) that stood in the document before, and their characters.

    Into `column` their number, into the next one their characters, and into `column_blank`, if it
    is not negative, the characters without those of lines of white space. Returns the tables.
    """
    found, slots, names = number_spans(
        text, lines[0], lines[1], n, slots, names, firsts, times, numbers
    )
    if found < n:
        for i in range(n):
            if firsts[numbers[i]] != i:
                row[column] += 1
                row[column + 1] += lines[2, i] >> 1
                if column_blank >= 0 and lines[2, i] & 1 == 0:
                    row[column_blank] += lines[2, i] >> 1
    return slots, names


@kw.inner
def _without_dropped(begins, ends, n):  # type: ignore[no-untyped-def]
    """Close the gaps of runs that are no words; returns how many are left."""
    kept = 0
    for k in range(n):
        begins[kept] = begins[k]
        ends[kept] = ends[k]
        kept += ends[k] > 0
    return kept


@njit(nogil=True, cache=True)
def measure(text, offsets, kinds, flags, ngrams, out):  # type: ignore[no-untyped-def]
    """Fill out[n, COLUMNS] (int64, zeroed) with the counts of the documents.

    text: uint8[]; offsets: int32[n + 1], where documents begin in it. Memory is proportional to the
    largest document.
    """
    longest = 0
    for i in range(offsets.size - 1):
        longest = max(longest, np.int64(offsets[i + 1]) - np.int64(offsets[i]))
    # "a b c" has one word to two bytes, "a\nb\n" one line; a paragraph has at least three.
    capacity = longest // 2 + 2
    padded = np.empty(longest + 3 * kt.PADDING, np.uint8)
    lines = np.empty((3, capacity), np.int32)
    paragraphs = np.empty((3, longest // 3 + 2), np.int32)
    firsts = np.empty(capacity, np.int32)
    times = np.empty(capacity, np.int32)
    numbers = np.empty(capacity, np.int32)
    words = capacity if ngrams else 1
    begins = np.empty(words, np.int32)
    ends = np.empty(words, np.int32)
    at_words = np.empty(words, np.int32)
    pairs = np.empty(words, np.uint64)
    slots = np.empty(_FEWEST_SLOTS, np.uint64)
    names = np.empty(_FEWEST_SLOTS, np.int32)
    for i in range(offsets.size - 1):
        end = kt.copy_document(text, np.int64(offsets[i]), np.int64(offsets[i + 1]), padded)
        row = out[i]
        n_words, n_lines, first, last = scan.scan_document(
            padded, end, kinds, flags, row, begins, ends, lines, ngrams
        )
        if n_lines > 1:
            slots, names = count_lines(
                padded, lines, n_lines, slots, names, firsts, times, numbers, row,
                c.DUPLICATE_LINES, c.DUPLICATE_NONBLANK_LINE_CHARACTERS,
            )  # fmt: skip
        if first >= 0:
            n = cut_paragraphs(padded, lines, n_lines, first, last, paragraphs)
            row[c.PARAGRAPHS] = n
            if n > 1:
                slots, names = count_lines(
                    padded, paragraphs, n, slots, names, firsts, times, numbers, row,
                    c.DUPLICATE_PARAGRAPHS, -1,
                )  # fmt: skip
        if ngrams and row[c.WORDS] > 1:
            if n_words > row[c.WORDS]:
                n_words = _without_dropped(begins, ends, n_words)
            slots, names = count_ngrams(
                padded, begins, ends, n_words, slots, names, firsts, times, at_words, numbers,
                pairs, row[c.BYTES] == row[c.CHARACTERS], kinds, flags, row,
            )  # fmt: skip
