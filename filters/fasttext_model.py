"""fastText's model files (.bin, .ftz), and their labels for batches of texts.

    model = FastTextModel("lid.176.ftz")
    labels, scores = model.predict(data, starts, ends)
    model.labels[labels[0]]  # "__label__en"

The format is that of fastText 0.9 (version 12): settings, dictionary, input matrix (dense or
product-quantised, Jegou et al. 2011), output matrix (likewise). Integers and floats are
little-endian. A quantised input matrix is decoded once, so that a feature costs one row to add.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from filters import fasttext_kernel as kernel
from filters import unicode

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
_Dictionary = tuple[
    npt.NDArray[np.int8],
    npt.NDArray[np.int64],
    npt.NDArray[np.uint32],
    Ints,
    Ints,
    int,
    int,
    np.uint64,
]

_MAGIC, _VERSION = 793712314, 12
_SUPERVISED = 3
_CENTROIDS = 256  # of each part of a quantised vector
_DECODED_BYTES = 1 << 30  # largest quantised matrix that is decoded
_HIERARCHICAL, _NEGATIVE, _SOFTMAX, _ONE_VS_ALL = 1, 2, 3, 4  # losses


class UnsupportedModel(ValueError):
    """A model that fastText may read, but this module does not; the message tells why."""


class MalformedModel(ValueError):
    """Not a model, or only a part of one; the message tells what is wrong."""


class _File:
    """Reads values from the bytes of a file, in order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def values(self, layout: str) -> tuple[Any, ...]:
        layout = "<" + layout
        self.need(struct.calcsize(layout))
        found = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return found

    def array(self, dtype: type[np.generic], count: int) -> npt.NDArray[Any]:
        size = np.dtype(dtype).itemsize * count
        self.need(size)
        found: npt.NDArray[Any] = (
            np.frombuffer(self.data, np.uint8, size, self.at).copy().view(dtype)
        )
        self.at += size
        return found

    def need(self, size: int) -> None:
        if size < 0 or self.at + size > len(self.data):
            raise MalformedModel(
                f"{size} bytes expected at {self.at}, but the file has {len(self.data)}"
            )


class FastTextModel:
    """A classifier read from a file; `labels` are its labels."""

    def __init__(self, path: str) -> None:
        """Raises OSError, MalformedModel or UnsupportedModel."""
        with open(path, "rb") as raw:
            file = _File(raw.read())
        settings = _settings(file)
        entries, counts, pairs = _entries(file)
        words = len(entries) - len(counts)
        self.labels = tuple(entry.decode() for entry in entries[words:])
        (quantised,) = file.values("?")
        rows, norms = _matrix(file, quantised, settings.dimensions)
        if norms is not None:
            rows *= norms[:, None]
        (quantised_output,) = file.values("?")
        output, norms = _matrix(file, quantised and quantised_output, settings.dimensions)
        if len(output) != len(counts):
            raise MalformedModel(f"{len(output)} rows of output, {len(counts)} labels")
        self._output, self._norms = output, norms
        if norms is None:
            self._norms = np.ones(len(counts), np.float32)
        if pairs is not None and not quantised:
            raise UnsupportedModel("a pruned dictionary with a dense matrix")
        self._features = _features(rows, pairs, settings.bucket, words)
        self._dictionary = _dictionary(entries, words)
        self._ngrams = settings.ngrams()
        self._tree = _tree(counts) if settings.loss == _HIERARCHICAL else None
        if self._tree is None:
            self._output = np.ascontiguousarray(output.T)
        self._sigmoid = np.zeros(0, np.float32)
        if settings.loss in (_NEGATIVE, _ONE_VS_ALL):
            table = [1.0 / (1.0 + math.exp(8 - k / 32)) for k in range(513)]
            self._sigmoid = np.array(table, np.float32)

    def predict(self, text: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> tuple[Ints, Floats]:
        """Best label (index into `labels`, -1 where there is none) and probability of each text.

        text: uint8[], read-only, valid UTF-8 from starts[k] to ends[k] for each text k. White space
        separates words, line ends and NUL too. A text without a letter has no label. The score is
        fastText's: the exponential of log(p + 1e-5), in float32.
        """
        count = len(starts)
        hidden = np.zeros((count, self._features[2].shape[1]), np.float32)
        lettered = np.empty(count, np.bool_)
        kernel.average(
            text,
            starts,
            ends,
            unicode.classes(),
            self._dictionary,
            self._ngrams,
            *self._features,
            self._scratch(int((ends - starts).max(initial=0))),
            hidden,
            lettered,
        )
        labels, scores = np.empty(count, np.int32), np.empty(count, np.float32)
        if self._tree is not None:
            left, right = self._tree
            stack = np.empty(len(left) + 2, np.int32), np.empty(len(left) + 2, np.float32)
            kernel.best_leaf(hidden, self._output, self._norms, left, right, *stack, labels, scores)
        else:
            outputs = np.empty(len(self.labels), np.float32)
            kernel.best_output(
                hidden, self._output, self._norms, self._sigmoid, outputs, labels, scores
            )
        labels[~lettered] = -1
        return labels, scores

    def _scratch(self, size: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.uint32], Ints]:
        """A word, features and word hashes: enough for a text of `size` bytes."""
        *_, shortest, longest, word_ngrams = self._ngrams
        words = size // 2 + 2
        lengths = max(0, longest - max(1, shortest) + 1)
        features = (size + 2 * words) * lengths + words * max(1, word_ngrams) + 1
        return np.zeros(size + 4, np.int8), np.empty(features, np.uint32), np.empty(words, np.int32)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    dimensions: int
    loss: int
    bucket: int
    shortest: int  # characters of n-grams
    longest: int
    word_ngrams: int  # words of the longest n-gram of words

    def ngrams(self) -> tuple[np.uint64, np.uint64, np.uint64, int, int, int]:
        """(bucket, multiplier, shift, shortest, longest, n-grams of words).

        h * multiplier >> shift is h // bucket, or one more, for h below 2^32.
        """
        shift = 32 + max(0, self.bucket.bit_length() - 1)
        multiplier = -(-(1 << shift) // max(1, self.bucket))
        numbers = np.uint64(self.bucket), np.uint64(multiplier), np.uint64(shift)
        return *numbers, self.shortest, self.longest, self.word_ngrams


def _settings(file: _File) -> _Settings:
    magic, version = file.values("ii") if len(file.data) >= 8 else (0, 0)
    if magic != _MAGIC:
        raise MalformedModel("it does not begin like a model of fastText")
    if version != _VERSION:
        raise UnsupportedModel(f"version {version} of the format, expected {_VERSION}")
    numbers = file.values("12id")
    if numbers[7] != _SUPERVISED:
        raise MalformedModel("it has vectors of words, and does not classify")
    found = _Settings(
        dimensions=numbers[0],
        loss=numbers[6],
        bucket=numbers[8],
        shortest=numbers[9],
        longest=max(0, numbers[10]),
        word_ngrams=numbers[5],
    )
    if found.loss not in (_HIERARCHICAL, _NEGATIVE, _SOFTMAX, _ONE_VS_ALL):
        raise UnsupportedModel(f"loss {found.loss}")
    if found.dimensions < 1 or found.bucket < int(found.longest > 0 or found.word_ngrams > 1):
        raise MalformedModel(f"{found.dimensions} dimensions, {found.bucket} buckets")
    return found


def _entries(file: _File) -> tuple[list[bytes], list[int], Ints | None]:
    """Words and then labels; counts of the labels; and where n-grams are, if some were dropped.

    These are int32[n, 2]: a bucket, and its row after those of the words.
    """
    size, words, labels, _, pruned = file.values("iiiqq")
    if labels < 1 or words < 0 or size != words + labels:
        raise MalformedModel(f"{size} entries, {words} words, {labels} labels")
    entries, counts = [], []
    for k in range(size):
        end = file.data.find(b"\0", file.at)
        if end < 0:
            raise MalformedModel("the dictionary has no end")
        entries.append(file.data[file.at : end])
        file.at = end + 1
        count, is_label = file.values("qb")
        if is_label != (k >= words):
            raise UnsupportedModel("a dictionary where labels do not follow words")
        if is_label:
            counts.append(count)
    if kernel.EOS not in entries[:words]:
        raise UnsupportedModel("a dictionary without </s>")
    if pruned < 0:
        return entries, counts, None
    return entries, counts, file.array(np.int32, 2 * pruned).reshape(-1, 2)


def _dictionary(entries: list[bytes], words: int) -> _Dictionary:
    """What the kernel looks words up in.

    Bytes of all words and labels: int8[]; where each begins: int64[n + 1]; their hashes: uint32[n];
    where each slot (hash modulo 2^k) begins in the next array: int32[2^k + 1]; entries in the order
    of their slots: int32[n]; number of words; number and hash of </s>.
    """
    data = np.frombuffer(b"".join(entries), np.int8)
    offsets = np.zeros(len(entries) + 1, np.int64)
    np.cumsum([len(entry) for entry in entries], out=offsets[1:])
    hashes = _hashes(data, offsets)
    slots = 1 << max(4, (2 * len(entries) - 1).bit_length())
    slot = hashes & np.uint32(slots - 1)
    # Of equal entries fastText finds the last.
    members = np.lexsort((-np.arange(len(entries)), slot)).astype(np.int32)
    chains = np.searchsorted(slot[members], np.arange(slots + 1)).astype(np.int32)
    eos = entries.index(kernel.EOS)
    return data, offsets, hashes, chains, members, words, eos, np.uint64(hashes[eos])


def _matrix(file: _File, quantised: bool, dimensions: int) -> tuple[Floats, Floats | None]:
    """(rows, norms to multiply them with if there are any)."""
    if not quantised:
        height, width = file.values("qq")
        if width != dimensions:
            raise MalformedModel(f"a matrix of width {width}, expected {dimensions}")
        return file.array(np.float32, height * width).reshape(height, width), None
    has_norms, height, width, code_size = file.values("?qqi")
    if 4 * height * width > _DECODED_BYTES:
        raise UnsupportedModel(f"a quantised matrix of {height} x {width} numbers")
    codes = file.array(np.uint8, code_size)
    parts, part_width, last_width, centroids = _quantiser(file, dimensions)
    if width != dimensions or code_size != height * parts:
        raise MalformedModel(f"{code_size} codes for {height} x {width} numbers")
    codes = codes.reshape(height, parts)
    rows = np.empty((height, width), np.float32)
    for part in range(parts):
        begin = part * part_width
        size = last_width if part == parts - 1 else part_width
        table = centroids[begin * _CENTROIDS : (begin + size) * _CENTROIDS]
        rows[:, begin : begin + size] = table.reshape(_CENTROIDS, size)[codes[:, part]]
    if not has_norms:
        return rows, None
    norm_codes = file.array(np.uint8, height)
    *_, norms = _quantiser(file, 1)
    return rows, norms[norm_codes]


def _quantiser(file: _File, dimensions: int) -> tuple[int, int, int, Floats]:
    width, parts, part_width, last_width = file.values("4i")
    if width != dimensions or (parts - 1) * part_width + last_width != width or parts < 1:
        raise MalformedModel(f"a quantiser of {parts} parts for {dimensions} dimensions")
    return parts, part_width, last_width, file.array(np.float32, width * _CENTROIDS)


def _features(
    rows: Floats, pairs: Ints | None, bucket: int, words: int
) -> tuple[npt.NDArray[np.uint64], Ints, Floats]:
    """(a bit for each feature that has a row, bits before each 64 of them, rows in that order)."""
    bits = np.zeros((words + bucket) // 64 * 64 + 64, np.uint8)
    if pairs is None:
        if len(rows) != words + bucket:
            raise MalformedModel(f"{len(rows)} rows, {words} words, {bucket} buckets")
        bits[: words + bucket] = 1
    else:
        buckets, first = np.unique(pairs[:, 0], return_index=True)
        order = np.concatenate([np.arange(words), words + pairs[first, 1]])
        if order.max() >= len(rows) or (len(pairs) and (pairs.min() < 0 or buckets[-1] >= bucket)):
            raise MalformedModel("n-grams without a row")
        bits[:words] = 1
        bits[words + buckets.astype(np.int64)] = 1
        rows = rows[order]
    rank = np.zeros(len(bits) // 64, np.int32)
    np.cumsum(bits.reshape(-1, 64).sum(axis=1, dtype=np.int32)[:-1], out=rank[1:])
    return np.packbits(bits, bitorder="little").view(np.uint64), rank, rows


def _tree(counts: Sequence[int]) -> tuple[Ints, Ints]:
    """Children of the Huffman tree's nodes; leaves are labels, and have none (-1).

    fastText's own way: labels come in falling order of their counts; of equal ones, the inner node
    is merged first.
    """
    size = len(counts)
    weight = [*counts, *[10**15] * (size - 1)]
    left, right = np.full(2 * size - 1, -1, np.int32), np.full(2 * size - 1, -1, np.int32)
    leaf, node = size - 1, size
    for parent in range(size, 2 * size - 1):
        children = []
        for _ in range(2):
            if leaf >= 0 and weight[leaf] < weight[node]:
                children.append(leaf)
                leaf -= 1
            else:
                children.append(node)
                node += 1
        left[parent], right[parent] = children
        weight[parent] = weight[children[0]] + weight[children[1]]
    return left, right


def _hashes(words: npt.NDArray[np.int8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """FNV-1a with sign-extended bytes, of every word; a column of bytes at a time."""
    hashes = np.full(len(offsets) - 1, 2166136261, np.uint32)
    active = np.arange(len(hashes))
    column = 0
    while True:
        active = active[offsets[active + 1] - offsets[active] > column]
        if not len(active):
            return hashes
        byte = words[offsets[active] + column].astype(np.int32).view(np.uint32)
        hashes[active] = (hashes[active] ^ byte) * np.uint32(16777619)
        column += 1
