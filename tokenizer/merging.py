"""BPE training at its core: repeated merging of the most frequent pair, incrementally.

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
entries' word numbers in one pool, compacted when full. `advance` merges until some array may be too
small for the next merge, and is called again when there is room.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy import uint64 as U

from tokenizer.merge_kernels import (
    DONE,
    EMPTY,
    KNOWN,
    LONGEST,
    POOL,
    SIZE,
    USED,
    add_token,
    advance,
    count_pairs,
    insert,
    list_words,
    pack,
)


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
            add_token(self.text, self.ends, self.token_slots, i, int(self.ends[i]) + len(token))
        self.state[KNOWN], self.state[LONGEST] = len(tokens), max(map(len, tokens))

    def _init_pairs(self, first: int, min_frequency: int) -> None:
        """Pairs of bytes; `first` is the id of the first byte."""
        square = np.zeros((65536, 3), dtype=np.int64)
        count_pairs(self.symbols, self.starts, self.word_counts, first, square)
        seen = np.flatnonzero(square[:, 0])
        left, right = (seen >> 8) + first, (seen & 255) + first
        pairs = left.astype(np.uint64) << U(32) | right.astype(np.uint64)
        counts = square[seen, 0]
        self._set_table(pairs, counts, 0)

        # a sorted array is a heap
        order = np.lexsort((pairs, -counts))
        order = order[counts[order] >= min_frequency]
        self.state[SIZE] = size = order.size
        capacity = max(2 * size, 1024)
        self.heap = np.arange(capacity, dtype=np.int32)
        self.free = np.arange(capacity, dtype=np.int32)  # free[size:] are unused entries
        self.pairs = _resized(pairs[order], capacity)
        self.counts = _resized(counts[order], capacity)
        sizes = square[seen, 1][order]
        ends = np.cumsum(sizes)
        self.sizes, self.begins = _resized(sizes, capacity), _resized(ends - sizes, capacity)
        self.state[POOL] = used = int(ends[-1]) if size else 0
        self.pool = np.empty(used + (used >> 1) + 1024, dtype=np.int32)
        cursor = np.zeros((65536, 2), dtype=np.int64)
        cursor[:, 0] = -1
        cursor[seen[order], 0] = ends - sizes
        list_words(self.symbols, self.starts, first, cursor, self.pool)

    def _set_table(
        self, pairs: npt.NDArray[np.uint64], counts: npt.NDArray[np.int64], more: int
    ) -> None:
        """A new table of these pairs, with room for as many again and `more`."""
        size = _power(4 * pairs.size + 2 * more)
        self.keys = np.full(size, EMPTY, dtype=np.uint64)
        self.totals = np.zeros(size, dtype=np.int64)
        self.local = np.full(size, -1, dtype=np.int32)
        self.state[USED] = pairs.size
        insert(self.keys, self.totals, pairs, counts)

    # The kernel returns False before a merge for which room might be short.
    def run(self, reserved: int, vocab_size: int, min_frequency: int) -> npt.NDArray[np.int32]:
        while not advance(
            self.symbols, self.starts, self.lengths, self.word_counts,
            self.text, self.ends, self.token_slots, self.keys, self.totals, self.local,
            self.heap, self.free, self.counts, self.pairs, self.begins, self.sizes, self.pool,
            self.merges, self.changed, self.sign, self.fresh, self.tally, self.state,
            reserved, vocab_size, min_frequency,
        ):  # fmt: skip
            self._make_room()
        return self.merges[: self.state[DONE]]

    def _make_room(self) -> None:
        """At least what `advance` asks for, each array at its own time."""
        known, size, used, pool, done, longest, need = self.state.tolist()
        most = min(need, 2 * known + 2)
        if 2 * need > self.changed.size:
            self.changed, self.sign = np.empty(2 * need, np.uint64), np.empty(2 * need, np.int32)
        if most > self.fresh.size:
            self.fresh = np.empty(2 * most, np.uint64)
            self.tally = np.empty((2 * most, 3), np.int64)
        if done == len(self.merges):
            self.merges = np.concatenate([self.merges, np.empty_like(self.merges)])
        if self.ends[known] + 2 * longest > self.text.size:
            self.text = _resized(self.text, 2 * self.text.size + 2 * longest)
        if (used + most) * 5 > self.keys.size * 3:
            live = np.flatnonzero((self.keys != EMPTY) & (self.totals != 0))
            self._set_table(self.keys[live], self.totals[live], most)
        if size + most > self.heap.size:
            old, capacity = self.heap.size, 2 * (size + most)
            self.heap = _resized(self.heap, capacity)
            self.free = np.concatenate([self.free, np.arange(old, capacity, dtype=np.int32)])
            self.counts = _resized(self.counts, capacity)
            self.pairs = _resized(self.pairs, capacity)
            self.begins = _resized(self.begins, capacity)
            self.sizes = _resized(self.sizes, capacity)
        if pool + need > self.pool.size:
            heap = self.heap[:size]
            live_words = int(self.sizes[heap].sum())
            packed = np.empty(live_words + max(need, live_words >> 1), dtype=np.int32)
            pack(self.pool, packed, heap, self.begins, self.sizes)
            self.pool = packed
            self.state[POOL] = live_words


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
