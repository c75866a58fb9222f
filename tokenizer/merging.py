"""The kernel of BPE training: repeated merging of the most frequent pair, incrementally.

It follows HF tokenizers' BpeTrainer step by step, so that merges come out identical, with one
difference: counts have 64 bits, where HF's wrap at 2**31. What identity takes, besides adding up:

- The queue is ordered by count, then by the smaller pair of ids.
- An entry of the queue keeps the count that its pair had when it was pushed. At its turn it is put
  back if the count has changed since. Counts of merged pairs are not reset.
- An entry knows the words that had its pair when it was pushed, and merges in these only. A pair
  that forms anew later (possible after overlaps as in "aaa") gets an entry of its own.
- A merge whose text is a token already gets that token's id.

Entries of pairs below the minimum frequency are never pushed: HF stops before it would use them.

Everything is in flat arrays: words as runs of `symbols`, which shrink in place; an open-addressing
table from pair (left << 32 | right) to count; entries with a binary heap of their numbers; and the
entries' word numbers in one pool, compacted when full. The kernel allocates nothing (that would
take most of its compile time): it returns before a merge for which room might be short.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from numpy import uint64 as U

_EMPTY = U(0xFFFFFFFFFFFFFFFF)  # no pair: ids are below 2**31

# The kernel's state
_KNOWN, _SIZE, _USED, _POOL, _DONE, _LONGEST, _NEED = range(7)
#   tokens, heap entries, slots of the pair table, words in the pool, merges, bytes of the longest
#   token, and upper bound of the symbols in the words of the next merge


@numba.njit(nogil=True, cache=True)
def _find(keys, key):  # type: ignore[no-untyped-def]
    """Slot that holds the pair, or the empty one where it belongs."""
    mask = U(keys.size - 1)
    slot = ((key ^ (key >> U(29))) * U(0x9E3779B97F4A7C15) >> U(20)) & mask
    while keys[slot] != key and keys[slot] != _EMPTY:
        slot = (slot + U(1)) & mask
    return slot


@numba.njit(nogil=True, cache=True)
def _insert(keys, totals, pairs, counts):  # type: ignore[no-untyped-def]
    """Put pairs and their counts into a table that has none of them."""
    for i in range(pairs.size):
        slot = _find(keys, pairs[i])
        keys[slot], totals[slot] = pairs[i], counts[i]


@numba.njit(nogil=True, cache=True)
def _count_pairs(symbols, starts, word_counts, first, square):  # type: ignore[no-untyped-def]
    """Fill square: int64[65536, 3] by pair of bytes: count, words that have it, last of them + 1."""
    for w in range(word_counts.size):
        for p in range(starts[w], starts[w + 1] - 1):
            k = (symbols[p] - first) << 8 | (symbols[p + 1] - first)
            square[k, 0] += word_counts[w]
            if square[k, 2] != w + 1:
                square[k, 2] = w + 1
                square[k, 1] += 1


@numba.njit(nogil=True, cache=True)
def _list_words(symbols, starts, first, cursor, pool):  # type: ignore[no-untyped-def]
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
def _token(text, ends, slots, known, n):  # type: ignore[no-untyped-def]
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
def _pack(pool, packed, heap, begins, sizes):  # type: ignore[no-untyped-def]
    """Copy the words of all entries in the heap to another pool."""
    n = 0
    for entry in heap:
        begin = begins[entry]
        begins[entry] = n
        for p in range(begin, begin + sizes[entry]):
            packed[n] = pool[p]
            n += 1


@numba.njit(nogil=True, cache=True)
def _advance(
    symbols, starts, lengths, word_counts, text, ends, token_slots,
    keys, totals, local, heap, free, counts, pairs, begins, sizes, pool,
    merges, changed, sign, fresh, tally, state, reserved, vocab_size, min_frequency,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Merge until done (True) or until an array may be too small for the next merge (False)."""
    while state[_KNOWN] < vocab_size and state[_SIZE] > 0:
        known, size = state[_KNOWN], state[_SIZE]
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
            state[_NEED] = need
            most = min(need, 2 * known + 2)  # pairs that can come: the new token with any other
            if (
                2 * need > changed.size
                or state[_POOL] + need > pool.size
                or (state[_USED] + most) * 5 > keys.size * 3
                or most > fresh.size
                or size + most > heap.size
                or state[_DONE] == len(merges)
                or ends[known] + 2 * state[_LONGEST] > text.size
            ):
                return False
        size -= 1
        state[_SIZE] = size
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
        new = _token(text, ends, token_slots, known, n)
        if new < reserved:
            continue
        if new == known:
            state[_KNOWN] = known + 1
            state[_LONGEST] = max(state[_LONGEST], n - ends[known])
        done = state[_DONE]
        merges[done, 0], merges[done, 1], merges[done, 2] = left, right, new
        state[_DONE] = done + 1

        n = 0
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
                state[_USED] += 1
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
                begins[entry], sizes[entry] = state[_POOL], tally[number, 0]
                tally[number, 2] = state[_POOL]
                state[_POOL] += tally[number, 0]
                heap[size] = entry
                size += 1
                _sift_up(heap, size - 1, counts, pairs)
        state[_SIZE] = size
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


class _Merger:
    """The arrays of one training; makes room in them when the kernel asks for it."""

    def __init__(
        self,
        symbols: npt.NDArray[np.int32],
        starts: npt.NDArray[np.int64],
        word_counts: npt.NDArray[np.int64],
        tokens: list[bytes],
        vocab_size: int,
        min_frequency: int,
    ) -> None:
        self.symbols, self.starts, self.word_counts = symbols, starts, word_counts
        self.lengths = np.diff(starts).astype(np.int32)
        self.state = np.zeros(7, dtype=np.int64)
        self._init_tokens(tokens, vocab_size)
        self._init_pairs(len(tokens) - 256, min_frequency)
        self.merges = np.empty((vocab_size, 3), dtype=np.int32)
        self.changed, self.sign = np.empty(0, np.uint64), np.empty(0, np.int32)
        self.fresh, self.tally = np.empty(0, np.uint64), np.empty((0, 3), np.int64)

    def _init_tokens(self, tokens: list[bytes], vocab_size: int) -> None:
        joined = np.frombuffer(b"".join(tokens), dtype=np.uint8)
        self.text = np.zeros(joined.size + 16 * vocab_size, dtype=np.uint8)
        self.text[: joined.size] = joined
        self.ends = np.zeros(vocab_size + 2, dtype=np.int64)
        self.token_slots = np.full(_power(2 * vocab_size), -1, dtype=np.int32)
        for i, token in enumerate(tokens):
            _token(self.text, self.ends, self.token_slots, i, int(self.ends[i]) + len(token))
        self.state[_KNOWN], self.state[_LONGEST] = len(tokens), max(map(len, tokens))

    def _init_pairs(self, first: int, min_frequency: int) -> None:
        """Pairs of bytes; `first` is the id of the first byte."""
        square = np.zeros((65536, 3), dtype=np.int64)
        _count_pairs(self.symbols, self.starts, self.word_counts, first, square)
        seen = np.flatnonzero(square[:, 0])
        pairs = ((seen >> 8) + first).astype(np.uint64) << U(32) | ((seen & 255) + first).astype(
            np.uint64
        )
        counts = square[seen, 0]
        self._set_table(pairs, counts, 0)

        # a sorted array is a heap
        order = np.lexsort((pairs, -counts))
        order = order[counts[order] >= min_frequency]
        self.state[_SIZE] = size = order.size
        capacity = max(2 * size, 1024)
        self.heap = np.arange(capacity, dtype=np.int32)
        self.free = np.arange(capacity, dtype=np.int32)  # free[size:] are unused entries
        self.pairs, self.counts = _resized(pairs[order], capacity), _resized(counts[order], capacity)
        sizes = square[seen, 1][order]
        ends = np.cumsum(sizes)
        self.sizes, self.begins = _resized(sizes, capacity), _resized(ends - sizes, capacity)
        self.state[_POOL] = used = int(ends[-1]) if size else 0
        self.pool = np.empty(used + (used >> 1) + 1024, dtype=np.int32)
        cursor = np.zeros((65536, 2), dtype=np.int64)
        cursor[:, 0] = -1
        cursor[seen[order], 0] = ends - sizes
        _list_words(self.symbols, self.starts, first, cursor, self.pool)

    def _set_table(
        self, pairs: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], more: int
    ) -> None:
        """A new table of these pairs, with room for as many again and `more`."""
        size = _power(4 * pairs.size + 2 * more)
        self.keys = np.full(size, _EMPTY, dtype=np.uint64)
        self.totals = np.zeros(size, dtype=np.int64)
        self.local = np.full(size, -1, dtype=np.int32)
        self.state[_USED] = pairs.size
        _insert(self.keys, self.totals, pairs, counts)

    def run(self, reserved: int, vocab_size: int, min_frequency: int) -> npt.NDArray[np.int32]:
        while not _advance(
            self.symbols, self.starts, self.lengths, self.word_counts,
            self.text, self.ends, self.token_slots, self.keys, self.totals, self.local,
            self.heap, self.free, self.counts, self.pairs, self.begins, self.sizes, self.pool,
            self.merges, self.changed, self.sign, self.fresh, self.tally, self.state,
            reserved, vocab_size, min_frequency,
        ):  # fmt: skip
            self._make_room()
        return self.merges[: self.state[_DONE]]

    def _make_room(self) -> None:
        """At least what `_advance` asks for, each array at its own time."""
        known, size, used, pool, done, longest, need = self.state.tolist()
        most = min(need, 2 * known + 2)
        if 2 * need > self.changed.size:
            self.changed, self.sign = np.empty(2 * need, np.uint64), np.empty(2 * need, np.int32)
        if most > self.fresh.size:
            self.fresh, self.tally = np.empty(2 * most, np.uint64), np.empty((2 * most, 3), np.int64)
        if done == len(self.merges):
            self.merges = np.concatenate([self.merges, np.empty_like(self.merges)])
        if self.ends[known] + 2 * longest > self.text.size:
            self.text = _resized(self.text, 2 * self.text.size + 2 * longest)
        if (used + most) * 5 > self.keys.size * 3:
            live = np.flatnonzero((self.keys != _EMPTY) & (self.totals != 0))
            self._set_table(self.keys[live], self.totals[live], most)
        if size + most > self.heap.size:
            old, capacity = self.heap.size, 2 * (size + most)
            self.heap = _resized(self.heap, capacity)
            self.free = np.concatenate([self.free, np.arange(old, capacity, dtype=np.int32)])
            self.counts, self.pairs = _resized(self.counts, capacity), _resized(self.pairs, capacity)
            self.begins, self.sizes = _resized(self.begins, capacity), _resized(self.sizes, capacity)
        if pool + need > self.pool.size:
            heap = self.heap[:size]
            live_words = int(self.sizes[heap].sum())
            packed = np.empty(live_words + max(need, live_words >> 1), dtype=np.int32)
            _pack(self.pool, packed, heap, self.begins, self.sizes)
            self.pool = packed
            self.state[_POOL] = live_words


def _power(n: int) -> int:
    """The next power of two, at least 1024."""
    return max(1024, 1 << (n - 1).bit_length())


def _resized(array: npt.NDArray, size: int) -> npt.NDArray:  # type: ignore[type-arg]
    new = np.empty(size, dtype=array.dtype)
    new[: array.size] = array
    return new


def find_merges(
    symbols: npt.NDArray[np.int32],
    starts: npt.NDArray[np.int64],
    word_counts: npt.NDArray[np.int64],
    tokens: list[bytes],
    vocab_size: int,
    min_frequency: int,
) -> npt.NDArray[np.int32]:
    """Merges in order: int32[m, 3] of left, right, and the id of the result.

    symbols: ids of all words' bytes, changed in place; starts: [words + 1]; word_counts: [words].
    tokens: the reserved tokens, which can not be made by merging, and then the 256 bytes, by id.
    Stops at `vocab_size` tokens, or when no pair occurs `min_frequency` (>= 1) times.
    """
    merger = _Merger(symbols, starts, word_counts, tokens, vocab_size, min_frequency)
    return merger.run(len(tokens) - 256, vocab_size, min_frequency)
