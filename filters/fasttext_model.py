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
from typing import Any

import numpy as np
import numpy.typing as npt

from filters import fasttext_kernel as kernel
from filters import unicode

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

_MAGIC, _VERSION = 793712314, 12
_SUPERVISED = 3
_CENTROIDS = 256  # of each part of a quantised vector
_DECODED_BYTES = 1 << 30  # largest quantised matrix that is decoded
_NO_TREE = np.full(1, -1, np.int32)


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
        found = np.frombuffer(self.data, np.uint8, size, self.at).copy().view(dtype)
        self.at += size
        return found

    def need(self, size: int) -> None:
        if size < 0 or self.at + size > len(self.data):
            raise MalformedModel(
                f"{size} bytes expected at {self.at}, but the file has {len(self.data)}"
            )


class FastTextModel:
    """A classifier read from a file."""

    def __init__(self, path: str) -> None:
        """Raises OSError, MalformedModel or UnsupportedModel."""
        with open(path, "rb") as raw:
            file = _File(raw.read())
        self.labels, self._tables = _read(file)
        self._prefix = np.frombuffer(kernel.LABEL_PREFIX, np.uint8)

    def predict(
        self, text: npt.NDArray[np.uint8], starts: Ints, ends: Ints
    ) -> tuple[Ints, Floats]:
        """Best label (index into `labels`, -1 where there is none) and probability of each text.

        text: uint8[], read-only, valid UTF-8 from starts[k] to ends[k] for each text k. White space
        separates words, line ends and NUL too. A text without a letter has no label. The score is
        fastText's: the exponential of log(p + 1e-5), in float32.
        """
        labels = np.empty(len(starts), np.int32)
        scores = np.empty(len(starts), np.float32)
        kernel.predict(
            text, starts, ends, unicode.classes(), self._prefix, self._tables, labels, scores
        )
        return labels, scores


def _read(file: _File) -> tuple[tuple[str, ...], kernel.Tables]:
    magic, version = file.values("ii") if len(file.data) >= 8 else (0, 0)
    if magic != _MAGIC:
        raise MalformedModel("it does not begin like a model of fastText")
    if version != _VERSION:
        raise UnsupportedModel(f"version {version} of the format, expected {_VERSION}")
    settings = file.values("12id")
    dimensions, word_ngrams, loss, kind, bucket, shortest, longest = (
        settings[k] for k in (0, 5, 6, 7, 8, 9, 10)
    )
    if kind != _SUPERVISED:
        raise UnsupportedModel("vectors of words, not a classifier")
    if loss not in (kernel.HIERARCHICAL, kernel.NEGATIVE, kernel.SOFTMAX, kernel.ONE_VS_ALL):
        raise UnsupportedModel(f"loss {loss}")
    if dimensions < 1 or bucket < 0 or (bucket == 0 and (longest > 0 or word_ngrams > 1)):
        raise MalformedModel(f"{dimensions} dimensions, {bucket} buckets")

    size, word_count, label_count, _, pruned_size = file.values("iiiqq")
    if label_count < 1 or word_count < 0 or size != word_count + label_count:
        raise MalformedModel(f"{size} entries, {word_count} words, {label_count} labels")
    entries, counts = _entries(file, size, word_count)
    pruned = pruned_size >= 0
    pairs = file.array(np.int32, 2 * max(0, pruned_size)).reshape(-1, 2)

    (quantised,) = file.values("?")
    rows, norms = _matrix(file, quantised, dimensions)
    rows = rows if norms is None else rows * norms[:, None]
    if pruned and not quantised:
        raise UnsupportedModel("an old form of pruned dictionary")
    (quantised_output,) = file.values("?")
    output, output_norms = _matrix(file, quantised and quantised_output, dimensions)
    if len(output) != label_count:
        raise MalformedModel(f"{len(output)} rows of output, {label_count} labels")
    if output_norms is None:
        output_norms = np.ones(label_count, np.float32)

    if pruned:
        rows, present, rank = _pruned(rows, pairs, bucket, word_count)
    else:
        present, rank = np.zeros(1, np.uint64), np.zeros(1, np.int32)
        if len(rows) != word_count + bucket:
            raise MalformedModel(f"{len(rows)} rows, {word_count} words, {bucket} buckets")
    left = right = _NO_TREE
    if loss == kernel.HIERARCHICAL:
        left, right = _tree(counts)
    words, offsets = b"".join(entries), np.zeros(size + 1, np.int64)
    np.cumsum([len(entry) for entry in entries], out=offsets[1:])
    word_bytes = np.frombuffer(words + b"\0", np.uint8)
    hashes = _hashes(word_bytes, offsets)
    slots = 1 << max(4, (2 * size - 1).bit_length())
    slot = hashes & np.uint32(slots - 1)
    # Of equal entries fastText finds the last.
    members = np.lexsort((-np.arange(size), slot)).astype(np.int32)
    divisor_bits = 32 + max(0, bucket.bit_length() - 1)
    tables = kernel.Tables(
        words=word_bytes,
        word_offsets=offsets,
        word_hashes=hashes,
        chains=np.searchsorted(slot[members], np.arange(slots + 1)).astype(np.int32),
        members=members,
        word_count=word_count,
        eos=entries.index(kernel.EOS) if kernel.EOS in entries[:word_count] else -1,
        bucket=bucket,
        multiplier=-(-(1 << divisor_bits) // max(1, bucket)),
        shift=divisor_bits,
        shortest=shortest,
        longest=max(0, longest),
        word_ngrams=word_ngrams,
        pruned=pruned,
        present=present,
        rank=rank,
        rows=rows,
        loss=loss,
        output=output if loss == kernel.HIERARCHICAL else np.ascontiguousarray(output.T),
        output_norms=output_norms,
        left=left,
        right=right,
        sigmoid=np.array(
            [1.0 / (1.0 + math.exp(8 - k / 32)) for k in range(513)], dtype=np.float32
        ),
    )
    return tuple(entry.decode() for entry in entries[word_count:]), tables


def _entries(file: _File, size: int, word_count: int) -> tuple[list[bytes], list[int]]:
    """Words and labels, and how often each label was seen."""
    entries, counts = [], []
    for k in range(size):
        end = file.data.find(b"\0", file.at)
        if end < 0:
            raise MalformedModel("the dictionary has no end")
        entries.append(file.data[file.at : end])
        file.at = end + 1
        count, is_label = file.values("qb")
        if is_label != (k >= word_count):
            raise UnsupportedModel("a dictionary where labels do not follow words")
        if is_label:
            counts.append(count)
    return entries, counts


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


def _pruned(
    rows: Floats, pairs: Ints, bucket: int, word_count: int
) -> tuple[Floats, npt.NDArray[np.uint64], Ints]:
    """Rows in the order of their features, with a bit for each feature and the ranks of the bits.

    pairs: (n-gram bucket, its row after those of the words).
    """
    if len(pairs) and not (
        0 <= pairs.min() and pairs[:, 0].max() < bucket and pairs[:, 1].max() + word_count < len(rows)
    ):
        raise MalformedModel("n-grams without a row")
    if len(rows) < word_count:
        raise MalformedModel(f"{len(rows)} rows, {word_count} words")
    buckets, first = np.unique(pairs[:, 0], return_index=True)
    features = np.concatenate([buckets.astype(np.int64), bucket + np.arange(word_count)])
    order = np.concatenate([word_count + pairs[first, 1], np.arange(word_count)])
    bits = np.zeros((bucket + word_count) // 64 * 64 + 64, np.uint8)
    bits[features] = 1
    present = np.packbits(bits, bitorder="little").view(np.uint64)
    rank = np.zeros(len(present), np.int32)
    np.cumsum(bits.reshape(-1, 64).sum(axis=1)[:-1], out=rank[1:])
    return np.ascontiguousarray(rows[order]), present, rank


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


def _hashes(words: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """FNV-1a with sign-extended bytes, of every word; a column of bytes at a time."""
    hashes = np.full(len(offsets) - 1, 2166136261, np.uint32)
    signed = words.view(np.int8)
    active = np.arange(len(hashes))
    column = 0
    while True:
        active = active[offsets[active + 1] - offsets[active] > column]
        if not len(active):
            return hashes
        byte = signed[offsets[active] + column].astype(np.int32).view(np.uint32)
        hashes[active] = (hashes[active] ^ byte) * np.uint32(16777619)
        column += 1
