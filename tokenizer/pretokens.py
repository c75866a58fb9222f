"""Counting pretokens: all that BPE training has to know about a corpus.

A worker counts the texts of its task and writes one count file (tokenizer.counts). The table is an
open-addressing hash of 64-bit slots (32-bit tag, 32-bit entry number) over an arena that holds each
distinct pretoken once. When it would outgrow its memory bound it is sorted into a file, and the
runs are merged at the end, so the result does not depend on the bound.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numpy import uint64 as U

from schemas.recipe import GivenTokenizer, Tokenizer, TrainBPE
from schemas.text import utf8
from tokenizer.codepoints import classes
from tokenizer.counts import COUNTS, merge_counts, write_counts
from tokenizer.split import RULES, find_ends, rule_table

_SLOTS = 1 << 16
_ARENA = 1 << 20
_BLOCK = 512  # pretokens looked up together, so that the waits for memory overlap
_ENTRY_BYTES = 4 * 8 + 2 * 8  # start, length, count, first eight bytes; and two slots each
_MAX_ARENA = 1 << 30  # Arrow's binary offsets are 32 bits wide

_TEXT, _POSITION, _ENTRIES, _USED, _TOTAL = range(
    5
)  # of the kernel's state: where it is, what it has


def pretokenizer_of(settings: Tokenizer) -> str | None:
    """What a PretokenCounter has to count for this tokenizer; None if nothing is trained."""
    if isinstance(settings, GivenTokenizer):
        return None
    return settings.pretokenizer if isinstance(settings, TrainBPE) else "whitespace"


class PretokenCounter:
    """Exact 64-bit counts of the pretokens of texts, in bounded memory.

    pretokenizer: "llama3", "gpt2" (the split regexes of these models) or "whitespace"
        (SentencePiece's words; spaces stay U+0020).
    memory_bytes: bound of the table; sorted runs go to temporary files beyond it. Only a single
        pretoken that is larger itself can exceed it. Sorting a run takes as much again, for a
        moment.
    """

    def __init__(self, pretokenizer: str, memory_bytes: int = 256 << 20) -> None:
        if pretokenizer not in RULES:
            raise ValueError(f"expected a pretokenizer of {', '.join(RULES)}, got {pretokenizer!r}")
        self.pretokenizer = pretokenizer
        self._memory_bytes = memory_bytes
        self._folder: Path | None = None
        self._runs: list[Path] = []
        self._block: npt.NDArray[np.int64] = np.empty((4, _BLOCK), dtype=np.int64)
        self.total = 0  # pretokens counted so far, repeats included
        self._clear()

    def _clear(self) -> None:
        self._slots: npt.NDArray[np.uint64] = np.zeros(_SLOTS, dtype=np.uint64)
        self._entries: npt.NDArray[np.int64] = np.zeros((_SLOTS // 2, 4), dtype=np.int64)
        self._arena: npt.NDArray[np.uint8] = np.empty(_ARENA, dtype=np.uint8)
        self._state = np.zeros(5, dtype=np.int64)

    def add(self, text: pa.StringArray) -> None:
        """Count the pretokens of every text."""
        rule = RULES[self.pretokenizer]
        buffer, offsets = utf8(text)
        self._state[[_TEXT, _TOTAL]] = 0
        self._state[_POSITION] = offsets[0]
        while True:
            need = _count(
                buffer, offsets, classes(), rule_table(rule), rule, self._block,
                self._slots, self._entries, self._arena, self._state,
            )  # fmt: skip
            if need < 0:
                break
            self._make_room(int(need))
        self.total += int(self._state[_TOTAL])

    def _make_room(self, need: int) -> None:
        """Grow what is full, or spill, so that one more pretoken of `need` bytes fits."""
        n, used = int(self._state[_ENTRIES]), int(self._state[_USED])
        entries, arena = len(self._entries), self._arena.size
        entries *= 2 if n == entries else 1
        while arena < used + need:
            arena *= 2
        if n and entries * _ENTRY_BYTES + arena > min(self._memory_bytes, _MAX_ARENA):
            place = self._state.copy()
            self._spill()
            self._state[[_TEXT, _POSITION, _TOTAL]] = place[[_TEXT, _POSITION, _TOTAL]]
            self._make_room(need)
            return
        if arena > self._arena.size:
            self._arena.resize(arena, refcheck=False)
        if entries > len(self._entries):
            self._entries.resize((entries, 4), refcheck=False)
            slots = np.zeros(2 * entries, dtype=np.uint64)
            _rehash(self._slots, slots)
            self._slots = slots

    def _sorted(self) -> Iterator[pa.RecordBatch]:
        n, used = int(self._state[_ENTRIES]), int(self._state[_USED])
        offsets = np.append(self._entries[:n, 0], used).astype(np.int32)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(self._arena[:used])]
        pretokens = pa.Array.from_buffers(pa.binary(), n, buffers)
        counts = pa.array(np.ascontiguousarray(self._entries[:n, 2]))
        order = pc.array_sort_indices(pretokens)
        for first in range(0, n, 1 << 16):
            some = order.slice(first, 1 << 16)
            yield pa.RecordBatch.from_arrays(
                [pretokens.take(some), counts.take(some)], schema=COUNTS
            )

    def _spill(self) -> None:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="gristmill-counts-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._runs.append(self._folder / f"{len(self._runs)}.arrow")
        write_counts(self._runs[-1], self._sorted())
        self._clear()

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the count file and empty the counter."""
        if not self._runs:
            write_counts(path, self._sorted())
        else:
            self._spill()
            write_counts(path, merge_counts(self._runs))
        for run in self._runs:
            run.unlink()
        self._runs, self.total = [], 0
        self._clear()


@numba.njit(nogil=True, cache=True)
def _load(buffer, i, length):  # type: ignore[no-untyped-def]
    """The first min(length, 8) bytes at i as a little-endian number."""
    if i + U(8) <= U(buffer.size):  # LLVM makes one load of this
        word = (
            U(buffer[i])
            | U(buffer[i + U(1)]) << U(8)
            | U(buffer[i + U(2)]) << U(16)
            | U(buffer[i + U(3)]) << U(24)
            | U(buffer[i + U(4)]) << U(32)
            | U(buffer[i + U(5)]) << U(40)
            | U(buffer[i + U(6)]) << U(48)
            | U(buffer[i + U(7)]) << U(56)
        )
        return word if length >= U(8) else word & ((U(1) << (length * U(8))) - U(1))
    word = U(0)
    for p in range(min(length, U(8))):
        word |= U(buffer[i + U(p)]) << (U(8) * U(p))
    return word


@numba.njit(nogil=True, cache=True)
def _count(buffer, offsets, table, rules, rule, block, slots, entries, arena, state):  # type: ignore[no-untyped-def]
    """Count on from `state`; -1 when done, else the bytes of the pretoken that found no room."""
    ends, heads, tags, found = block[0], block[1], block[2], block[3]
    mask = U(slots.size - 1)
    used = U(state[_USED])
    n = U(state[_ENTRIES])
    total = state[_TOTAL]
    i = U(state[_POSITION])
    k = state[_TEXT]
    texts = offsets.size - 1
    while k < texts:
        # cut texts, which lie one behind the other, until the block is full
        first = i
        size = np.int64(0)
        while k < texts and size < ends.size - 2:
            end = U(offsets[k + 1])
            i, size = find_ends(buffer, i, end, table, rules, rule, ends, size)
            if i < end:
                break
            k += 1
        # hash: multiply and fold, eight bytes at a time; the tag is the high half
        start = first
        for b in range(size):
            if ends[b] < 0:
                start = U(-ends[b])
                continue
            after = U(ends[b])
            length = after - start
            head = _load(buffer, start, length)
            code = (head ^ length) * U(0x9E3779B97F4A7C15)
            p = start + U(8)
            while p < after:
                code ^= (code >> U(32)) ^ _load(buffer, p, after - p)
                code *= U(0xBF58476D1CE4E5B9)
                p += U(8)
            code = (code ^ (code >> U(29))) * U(0xBF58476D1CE4E5B9)
            heads[b] = np.int64(head)
            tags[b] = np.int64(code >> U(32))
            start = after
        for b in range(size):
            found[b] = np.int64(slots[U(tags[b]) & mask])
        for b in range(size):  # only to have the entries in cache
            entry = U(found[b]) & U(0xFFFFFFFF)
            found[b] = entries[entry - U(1), 3] if entry else 0
        start = first
        for b in range(size):
            if ends[b] < 0:
                start = U(-ends[b])
                continue
            after = U(ends[b])
            length = after - start
            head = heads[b]
            tag = U(tags[b])
            slot = tag & mask
            while True:
                content = slots[slot]
                if content == 0:
                    if n == U(entries.shape[0]) or used + length > U(arena.size):
                        # this pretoken will be the first of the next block
                        k = np.int64(state[_TEXT])
                        while U(offsets[k + 1]) <= start:
                            k += 1
                        state[_TEXT], state[_POSITION] = k, start
                        state[_ENTRIES], state[_USED], state[_TOTAL] = n, used, total
                        return np.int64(length)
                    entries[n, 0], entries[n, 1] = used, length
                    entries[n, 2], entries[n, 3] = 1, head
                    for p in range(length):
                        arena[used + U(p)] = buffer[start + U(p)]
                    used += length
                    n += U(1)
                    slots[slot] = tag << U(32) | n
                    break
                if content >> U(32) == tag:
                    entry = (content & U(0xFFFFFFFF)) - U(1)
                    if U(entries[entry, 1]) == length and entries[entry, 3] == head:
                        p, at = U(8), U(entries[entry, 0])
                        while p < length and arena[at + p] == buffer[start + p]:
                            p += U(1)
                        if p >= length:
                            entries[entry, 2] += 1
                            break
                slot = (slot + U(1)) & mask
            total += 1
            start = after
    state[_ENTRIES], state[_USED], state[_TOTAL] = n, used, total
    return -1


@numba.njit(nogil=True, cache=True)
def _rehash(old, new):  # type: ignore[no-untyped-def]
    mask = U(new.size - 1)
    for content in old:
        if content != 0:
            slot = (content >> U(32)) & mask
            while new[slot] != 0:
                slot = (slot + U(1)) & mask
            new[slot] = content


def warm() -> None:
    """Compile the counting kernels, or load them from the cache."""
    counter = PretokenCounter("llama3")
    counter.add(pa.array(["warm"]))
    _rehash(counter._slots, np.zeros(4, dtype=np.uint64))
