"""Kernels of BPE training; see tokenizer.merging for what they do together.

They allocate nothing, which would take most of their compile time.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy import uint64 as U

EMPTY = U(0xFFFFFFFFFFFFFFFF)  # no pair: ids are below 2**31

# The kernel's state
KNOWN, SIZE, USED, POOL, DONE, LONGEST, NEED = range(7)
#   tokens, heap entries, slots of the pair table, words in the pool, merges, bytes of the longest
#   token, and upper bound of the symbols in the words of the next merge


@numba.njit(nogil=True, cache=True)
def _find(keys, key):  # type: ignore[no-untyped-def]
    """Slot that holds the pair, or the empty one where it belongs."""
    mask = U(keys.size - 1)
    slot = ((key ^ (key >> U(29))) * U(0x9E3779B97F4A7C15) >> U(20)) & mask
    while keys[slot] != key and keys[slot] != EMPTY:
        slot = (slot + U(1)) & mask
    return slot


@numba.njit(nogil=True, cache=True)
def insert(keys, totals, pairs, counts):  # type: ignore[no-untyped-def]
    """Put pairs and their counts into a table that has none of them."""
    for i in range(pairs.size):
        slot = _find(keys, pairs[i])
        keys[slot], totals[slot] = pairs[i], counts[i]


@numba.njit(nogil=True, cache=True)
def count_pairs(symbols, starts, word_counts, first, square):  # type: ignore[no-untyped-def]
    """Fill square, int64[65536, 3] by pair of bytes: count, words that have it, the last + 1."""
    for w in range(word_counts.size):
        for p in range(starts[w], starts[w + 1] - 1):
            k = (symbols[p] - first) << 8 | (symbols[p + 1] - first)
            square[k, 0] += word_counts[w]
            if square[k, 2] != w + 1:
                square[k, 2] = w + 1
                square[k, 1] += 1


@numba.njit(nogil=True, cache=True)
def list_words(symbols, starts, first, cursor, pool):  # type: ignore[no-untyped-def]
    """Write the words of each pair of bytes to the pool, from cursor: int64[65536, 2] on.

    cursor[:, 0] is -1 for pairs to leave out, cursor[:, 1] the last word + 1, 0 at first.
    """
    for w in range(starts.size - 1):
        for p in range(starts[w], starts[w + 1] - 1):
            k = (symbols[p] - first) << 8 | (symbols[p + 1] - first)
            if cursor[k, 0] >= 0 and cursor[k, 1] != w + 1:
                pool[cursor[k, 0]] = w
                cursor[k, 0] += 1
                cursor[k, 1] = w + 1


@numba.njit(nogil=True, cache=True)
def _before(counts, pairs, a, b):  # type: ignore[no-untyped-def]
    """Whether entry a is merged before entry b."""
    return counts[a] > counts[b] or (counts[a] == counts[b] and pairs[a] < pairs[b])


@numba.njit(nogil=True, cache=True)
def _sift_up(heap, i, counts, pairs):  # type: ignore[no-untyped-def]
    entry = heap[i]
    while i > 0:
        parent = (i - 1) >> 1
        if not _before(counts, pairs, entry, heap[parent]):
            break
        heap[i] = heap[parent]
        i = parent
    heap[i] = entry


@numba.njit(nogil=True, cache=True)
def _sift_down(heap, size, counts, pairs):  # type: ignore[no-untyped-def]
    i, entry = 0, heap[0]
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and _before(counts, pairs, heap[child + 1], heap[child]):
            child += 1
        if not _before(counts, pairs, heap[child], entry):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = entry


@numba.njit(nogil=True, cache=True)
def _merge_word(symbols, start, length, left, right, new, word, changed, sign, n):  # type: ignore[no-untyped-def]
    """Merge a pair in one word; record the pairs that went (sign ~word) and came (word).

    changed: uint64, sign: int32, filled from n on. Returns the word's new length and the new n.
    """
    i, j = start, start
    end = start + length
    while i < end:
        symbol = symbols[i]
        if symbol == left and i + 1 < end and symbols[i + 1] == right:
            if j > start:
                before = U(symbols[j - 1]) << U(32)
                changed[n], sign[n] = before | U(left), ~word
                changed[n + 1], sign[n + 1] = before | U(new), word
                n += 2
            if i + 2 < end:
                after = U(symbols[i + 2])
                changed[n], sign[n] = U(right) << U(32) | after, ~word
                changed[n + 1], sign[n + 1] = U(new) << U(32) | after, word
                n += 2
            symbol = new
            i += 1
        symbols[j] = symbol
        j += 1
        i += 1
    return j - start, n


@numba.njit(nogil=True, cache=True)
def add_token(text, ends, slots, known, n):  # type: ignore[no-untyped-def]
    """Id of the token text[ends[known]:n]: one that exists, or else `known`, which now does.

    text: uint8 arena, ends: int64[ids + 1] (token i is text[ends[i]:ends[i + 1]]),
    slots: int32 hash table of ids, -1 where free.
    """
    start = ends[known]
    code = U(0xCBF29CE484222325)
    for p in range(start, n):
        code = (code ^ U(text[p])) * U(0x100000001B3)
    mask = U(slots.size - 1)
    slot = (code ^ (code >> U(32))) & mask
    while slots[slot] >= 0:
        other = np.int64(slots[slot])
        if ends[other + 1] - ends[other] == n - start:
            p = 0
            while p < n - start and text[ends[other] + p] == text[start + p]:
                p += 1
            if p == n - start:
                return other
        slot = (slot + U(1)) & mask
    slots[slot] = known
    ends[known + 1] = n
    return known


@numba.njit(nogil=True, cache=True)
def pack(pool, packed, heap, begins, sizes):  # type: ignore[no-untyped-def]
    """Copy the words of all entries in the heap to another pool."""
    n = 0
    for entry in heap:
        begin = begins[entry]
        begins[entry] = n
        for p in range(begin, begin + sizes[entry]):
            packed[n] = pool[p]
            n += 1


@numba.njit(nogil=True, cache=True)
def advance(  # type: ignore[no-untyped-def]
    symbols, starts, lengths, word_counts, text, ends, token_slots,
    keys, totals, local, heap, free, counts, pairs, begins, sizes, pool,
    merges, changed, sign, fresh, tally, state, reserved, vocab_size, min_frequency,
):  # fmt: skip
    """Merge until done (True) or until an array may be too small for the next merge (False)."""
    while state[KNOWN] < vocab_size and state[SIZE] > 0:
        known, size = state[KNOWN], state[SIZE]
        entry = heap[0]
        pair = pairs[entry]
        total = totals[_find(keys, pair)]
        if total != counts[entry] and total >= min_frequency:
            counts[entry] = total
            _sift_down(heap, size, counts, pairs)
            continue
        if total >= min_frequency:
            need = 0
            for p in range(begins[entry], begins[entry] + sizes[entry]):
                need += lengths[pool[p]]
            state[NEED] = need
            most = min(need, 2 * known + 2)  # pairs that can come: the new token with any other
            if (
                2 * need > changed.size
                or state[POOL] + need > pool.size
                or (state[USED] + most) * 5 > keys.size * 3
                or most > fresh.size
                or size + most > heap.size
                or state[DONE] == len(merges)
                or ends[known] + 2 * state[LONGEST] > text.size
            ):
                return False
        size -= 1
        state[SIZE] = size
        free[size] = entry
        heap[0] = heap[size]
        if size > 0:
            _sift_down(heap, size, counts, pairs)
        if total < min_frequency:
            continue

        left, right = np.int64(pair >> U(32)), np.int64(pair & U(0xFFFFFFFF))
        n = ends[known]
        for p in range(ends[left], ends[left + 1]):
            text[n] = text[p]
            n += 1
        for p in range(ends[right], ends[right + 1]):
            text[n] = text[p]
            n += 1
        new = add_token(text, ends, token_slots, known, n)
        if new < reserved:
            continue
        if new == known:
            state[KNOWN] = known + 1
            state[LONGEST] = max(state[LONGEST], n - ends[known])
        done = state[DONE]
        merges[done, 0], merges[done, 1], merges[done, 2] = left, right, new
        state[DONE] = done + 1

        n = np.int64(0)  # not a literal, for which Numba would compile `_merge_word` again
        for p in range(begins[entry], begins[entry] + sizes[entry]):
            w = np.int64(pool[p])
            length, n = _merge_word(
                symbols, starts[w], np.int64(lengths[w]), left, right, new, w, changed, sign, n
            )
            lengths[w] = length
        # tally: int64[:, 3] by local number of a pair that came: words that have it, the last of
        # them, and where the next goes
        came = 0
        for i in range(n):
            key = changed[i]
            w = np.int64(sign[i])
            slot = _find(keys, key)
            if w < 0:
                if keys[slot] == key:
                    totals[slot] -= word_counts[~w]
                continue
            if keys[slot] != key:
                keys[slot], totals[slot] = key, 0
                state[USED] += 1
            totals[slot] += word_counts[w]
            number = np.int64(local[slot])
            if number < 0:
                number = came
                came += 1
                local[slot] = number
                fresh[number] = key
                tally[number, 0], tally[number, 1] = 0, -1
            if tally[number, 1] != w:
                tally[number, 0] += 1
                tally[number, 1] = w

        # entries for pairs that came, their words at the end of the pool
        for number in range(came):
            slot = _find(keys, fresh[number])
            tally[number, 1] = tally[number, 2] = -1
            if totals[slot] >= min_frequency:
                entry = free[size]
                counts[entry], pairs[entry] = totals[slot], fresh[number]
                begins[entry], sizes[entry] = state[POOL], tally[number, 0]
                tally[number, 2] = state[POOL]
                state[POOL] += tally[number, 0]
                heap[size] = entry
                size += 1
                _sift_up(heap, size - 1, counts, pairs)
        state[SIZE] = size
        for i in range(n):
            w = np.int64(sign[i])
            if w >= 0:
                number = np.int64(local[_find(keys, changed[i])])
                if tally[number, 2] >= 0 and tally[number, 1] != w:
                    pool[tally[number, 2]] = w
                    tally[number, 2] += 1
                    tally[number, 1] = w
        for number in range(came):
            local[_find(keys, fresh[number])] = -1
    return True
