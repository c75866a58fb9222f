"""What repeats inside a document: lines, paragraphs and word n-grams.

Equal spans get equal numbers in the order of their first occurrence. Numbers are exact: hashes only
find the place in the table, and spans are compared byte by byte. An n-gram is numbered by the
numbers of its two (n-1)-grams, and only positions whose n-gram occurs again are carried on to n+1:
an (n+1)-gram cannot repeat unless both of its n-grams do.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from filters import counts as c
from filters import kernel_scan as scan
from filters import kernel_words as kw

_MIX = np.uint64(0x9E3779B97F4A7C15)
_FINISH = np.uint64(0xD6E8FEB86659FD93)
_LONG = np.uint64(1 << 63)
_FIRST_BYTES = np.array([(1 << (8 * k)) - 1 for k in range(9)], np.uint64)
_HALF = np.uint64(32)
_MOST_SLOTS = 1 << 14  # at first; a table has at least twice as many slots as distinct keys


@kw.inner
def _cleared(slots, n):  # type: ignore[no-untyped-def]
    """How many slots (a power of two) the table of n keys has at first; they are cleared."""
    used = 64
    while used < 2 * n and used < _MOST_SLOTS:
        used *= 2
    slots[:used] = -1
    return used


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

    From eight bytes on: a hash that has its highest bit set, which no short span has.
    """
    if begin + 8 > text.size:
        head = tail = np.uint64(0)
        for i in range(min(size, 8)):
            head |= np.uint64(text[begin + i]) << np.uint64(8 * i)
    else:
        head = _load(text, begin) & _FIRST_BYTES[min(size, 8)]
        tail = _load(text, begin + max(size - 8, 0))
    short = head | np.uint64(size) << np.uint64(56)
    if size > 16:
        for at in range(begin + 8, begin + size - 8, 8):
            head = ((head ^ (head >> _HALF)) * _MIX) ^ _load(text, at)
    long = (((head ^ (head >> _HALF)) * _MIX) ^ tail) * _FINISH
    # No branch: which of the two it is cannot be predicted.
    return short if size < 8 else (long ^ np.uint64(size)) | _LONG


@kw.inner
def _same(text, a, b, size):  # type: ignore[no-untyped-def]
    """Whether two spans of at least eight bytes are equal."""
    for k in range(0, size - 8, 8):
        if _load(text, a + k) != _load(text, b + k):
            return False
    return _load(text, a + size - 8) == _load(text, b + size - 8)


@kw.inner
def _grown(slots, used, keys, found):  # type: ignore[no-untyped-def]
    """A table of four times `used` slots with the first `found` keys in it."""
    size = 4 * used
    if size > slots.size:
        slots = np.empty(size, np.int32)
    slots[:size] = -1
    mask = np.uint64(size - 1)
    for number in range(found):
        at = _place(keys[number], mask)
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = number
    return slots, size


@kw.inner
def number_spans(text, spans, n, slots, keys, firsts, times, numbers):  # type: ignore[no-untyped-def]
    """Number n spans by content: (distinct spans, slots, possibly a larger array).

    spans: int32[3, >= n]. Written: numbers int32[n]; for each number its key, the index of its
    first span and how many spans have it.
    """
    used = _cleared(slots, n)
    mask = np.uint64(used - 1)
    found = 0
    for i in range(n):
        begin = np.int64(spans[0, i])
        size = np.int64(spans[1, i]) - begin
        key = _span_key(text, begin, size)
        at = _place(key, mask)
        number = np.int64(slots[at])
        while number >= 0:
            if keys[number] == key:
                if size < 8:
                    break
                other = np.int64(spans[0, firsts[number]])
                if np.int64(spans[1, firsts[number]]) - other == size and _same(
                    text, begin, other, size
                ):
                    break
            at = (at + np.uint64(1)) & mask
            number = np.int64(slots[at])
        if number < 0:
            number = found
            slots[at] = number
            keys[number] = key
            firsts[number] = i
            times[number] = 0
            found += 1
            if 2 * found > used:
                slots, used = _grown(slots, used, keys, found)
                mask = np.uint64(used - 1)
        times[number] += 1
        numbers[i] = number
    return found, slots


@kw.inner
def _number_pairs(at_words, numbers, n, slots, keys, times):  # type: ignore[no-untyped-def]
    """Number the (n+1)-grams of neighbouring n-grams in place: (grams left, distinct, slots)."""
    used = _cleared(slots, n)
    mask = np.uint64(used - 1)
    found = 0
    kept = 0
    for k in range(n - 1):
        if at_words[k + 1] != at_words[k] + 1:
            continue
        key = (np.uint64(numbers[k]) << _HALF) | np.uint64(numbers[k + 1])
        at = _place(key, mask)
        number = np.int64(slots[at])
        while number >= 0 and keys[number] != key:
            at = (at + np.uint64(1)) & mask
            number = np.int64(slots[at])
        if number < 0:
            number = found
            slots[at] = number
            keys[number] = key
            times[number] = 0
            found += 1
            if 2 * found > used:
                slots, used = _grown(slots, used, keys, found)
                mask = np.uint64(used - 1)
        times[number] += 1
        at_words[kept] = at_words[k]
        numbers[kept] = number
        kept += 1
    return kept, found, slots


@kw.inner
def _keep_repeated(at_words, numbers, n, times):  # type: ignore[no-untyped-def]
    """Drop the n-grams that occur once; returns how many are left."""
    kept = 0
    for k in range(n):
        if times[numbers[k]] > 1:
            at_words[kept] = at_words[k]
            numbers[kept] = numbers[k]
            kept += 1
    return kept


@kw.inner
def _characters(words, at, n, spaced):  # type: ignore[no-untyped-def]
    """Characters of the n words from `at`; with one for each space between them if `spaced`."""
    total = 0
    for k in range(at, at + n):
        total += words[2, k] >> 1
        if spaced and k > at and (words[2, k] | words[2, k - 1]) & 1 == 0:
            total += 1
    return total


@kw.inner
def count_ngrams(text, words, n_words, slots, keys, firsts, times, at_words, numbers, row):  # type: ignore[no-untyped-def]
    """Characters in the top 2- to 4-grams and in repeated 5- to 10-grams; returns slots."""
    _, slots = number_spans(text, words, n_words, slots, keys, firsts, times, numbers)
    for k in range(n_words):
        at_words[k] = k
    n = _keep_repeated(at_words, numbers, n_words, times)
    for length in range(2, 11):
        if n_words < length:
            break
        if n > 1:
            n, distinct, slots = _number_pairs(at_words, numbers, n, slots, keys, times)
        else:
            n = distinct = 0
        if length <= 4:
            # The most frequent n-gram, the first of several; where nothing repeats, the first.
            best = most = 0
            for number in range(distinct):
                if times[number] > most:
                    best, most = number, times[number]
            where = 0
            if most > 1:
                k = 0
                while numbers[k] != best:
                    k += 1
                where = at_words[k]
            else:
                most = 1
            row[c.TOP_2GRAM_CHARACTERS + length - 2] = most * _characters(
                words, where, length, True
            )
        n = _keep_repeated(at_words, numbers, n, times)
        if length >= 5:
            # From left to right: an n-gram that stood before counts and is stepped over, any other
            # is remembered (`times` below zero); as in datatrove's find_all_duplicate.
            free = 0
            total = 0
            for k in range(n):
                where = at_words[k]
                if where < free:
                    continue
                if times[numbers[k]] < 0:
                    total += _characters(words, where, length, False)
                    free = where + length
                else:
                    times[numbers[k]] = -1
            row[c.DUPLICATE_5GRAM_CHARACTERS + length - 5] = total
    return slots


@kw.inner
def count_lines(text, lines, n, slots, keys, firsts, times, numbers, row, column, column_blank):  # type: ignore[no-untyped-def]
    """Count lines (or paragraphs) that stood in the document before, and their characters.

    Into `column` their number, into the next one their characters, and into `column_blank`, if it
    is not negative, the characters without those of lines of white space. Returns slots.
    """
    _, slots = number_spans(text, lines, n, slots, keys, firsts, times, numbers)
    for i in range(n):
        if firsts[numbers[i]] != i:
            row[column] += 1
            row[column + 1] += lines[2, i] >> 1
            if column_blank >= 0 and lines[2, i] & 1 == 0:
                row[column_blank] += lines[2, i] >> 1
    return slots


@njit(nogil=True, cache=True)
def measure(text, offsets, by_byte, kinds, flags, lanes, ngrams, out):  # type: ignore[no-untyped-def]
    """Fill out[n, COLUMNS] (int64, zeroed) with the counts of the documents.

    text: uint8[]; offsets: int32[n + 1] or int64, where documents begin in it. Memory is
    proportional to the largest document.
    """
    longest = 0
    for i in range(offsets.size - 1):
        longest = max(longest, np.int64(offsets[i + 1]) - np.int64(offsets[i]))
    # "a b c" has one word to two bytes, "a\nb\n" one line; a paragraph has at least three.
    capacity = longest // 2 + 2
    words = np.empty((3, capacity), np.int32)
    lines = np.empty((3, capacity), np.int32)
    paragraphs = np.empty((3, longest // 3 + 2), np.int32)
    keys = np.empty(capacity, np.uint64)
    firsts = np.empty(capacity, np.int32)
    times = np.empty(capacity, np.int32)
    numbers = np.empty(capacity, np.int32)
    at_words = np.empty(capacity, np.int32)
    slots = np.empty(_MOST_SLOTS, np.int32)
    for i in range(offsets.size - 1):
        begin = np.int64(offsets[i])
        end = np.int64(offsets[i + 1])
        row = out[i]
        n_words, n_lines, n_paragraphs = scan.scan_document(
            text, begin, end, by_byte, kinds, flags, lanes, row, words, lines, paragraphs, ngrams
        )
        if n_lines > 1:
            slots = count_lines(
                text, lines, n_lines, slots, keys, firsts, times, numbers, row,
                c.DUPLICATE_LINES, c.DUPLICATE_NONBLANK_LINE_CHARACTERS,
            )  # fmt: skip
        if n_paragraphs > 1:
            slots = count_lines(
                text, paragraphs, n_paragraphs, slots, keys, firsts, times, numbers, row,
                c.DUPLICATE_PARAGRAPHS, -1,
            )  # fmt: skip
        if ngrams and n_words > 1:
            slots = count_ngrams(
                text, words, n_words, slots, keys, firsts, times, at_words, numbers, row
            )
