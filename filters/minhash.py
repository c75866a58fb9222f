"""MinHash signatures and text hashes over batches of documents, natively.

`signatures` equals, value for value, `datasketch.MinHash(num_perm=bands * rows, seed=1,
scheme="affine64", hashfunc=shingle_hash)` of datasketch >= 2.0 over `shingles(text)`: with
h = fmix64(shingle hash), slot k is the minimum over shingles of a_k * h + b_k mod 2 ** 64, a_k odd.
See `filters.shingles` for what a shingle is.

Documents go through in blocks of a few kilobytes: letters are looked up, word ends found, words
hashed and rolled into shingle hashes, these permuted. The loops are kept apart because each alone
runs without unpredictable branches; the last, which takes most of the time, vectorises.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from filters.shingles import (
    FMIX_1,
    FMIX_2,
    IGNORED,
    MASK,
    SHINGLE_BASE,
    UNSPACED,
    word_table,
)
from schemas.recipe import MinHash
from schemas.text import utf8

SEED = 1  # datasketch's default
EMPTY_SLOT = MASK  # every slot of a document without shingles, as in datasketch
BLOCK = 4096  # bytes of text that go through all loops at once, in the first-level cache
_LANES = 16  # the shingle buffer is filled up to a multiple of this: no scalar remainder loop

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]


def signatures(text: pa.StringArray, settings: MinHash) -> U64:
    """uint64[len(text), bands * rows]; rows of documents without a word are all EMPTY_SLOT."""
    slots = settings.bands * settings.rows
    a, b = _permutations(slots)
    out = np.full((len(text), len(a)), np.iinfo(np.int64).max, np.int64)
    if len(text):
        data, offsets = utf8(text)
        low = np.uint64(pow(SHINGLE_BASE, settings.ngram, 1 << 64))
        # In `letters`, lower case can be longer (U+023A has 2 bytes, U+2C65 3), and unspaced code
        # points, of 3 bytes and more, have a separator on both sides: never twice as long.
        letters = np.empty(2 * int(np.max(np.diff(offsets))) + 16, np.uint8)
        n = settings.ngram
        edges = np.empty(2 * BLOCK + 8, np.int64)
        mixed = np.empty(n + BLOCK + 8, np.uint64)
        grams = np.empty(BLOCK + 8 + _LANES, np.int64)
        table = word_table(settings.words)
        _sign(data, offsets, table, letters, edges, mixed, grams, n, low, a, b, out)
    # The kernel works on values with the top bit flipped, whose signed order is the unsigned one.
    out ^= np.int64(-1 << 63)
    return out.view(np.uint64)[:, :slots]


def band_hashes(signature: U64, settings: MinHash) -> U64:
    """uint64[n, bands]: one well-mixed hash of each band's `rows` slots."""
    out = np.empty((len(signature), settings.bands), np.uint64)
    _fold_bands(np.ascontiguousarray(signature), settings.rows, out)
    return out


def text_hashes(text: pa.StringArray) -> U64:
    """uint64[len(text), 2]: 128-bit hash (first, second half) of each text's exact form.

    Two texts are exact duplicates if they are equal after every run of white space (Unicode
    White_Space) became one space and white space at both ends went. Letter case, punctuation and
    everything else count. The hash is MurmurHash3_x64_128 (Appleby, public domain), seed 0, of that
    form in UTF-8; among 10**10 texts two different ones meet with probability 1.5e-19. (0, 0) means
    that there is nothing but white space, which is no duplicate of anything.
    """
    out = np.zeros((len(text), 2), np.uint64)
    if len(text):
        data, offsets = utf8(text)
        words = np.empty(int(np.max(np.diff(offsets))) // 8 + 5, np.uint64)
        _hash_texts(data, offsets, _SPACED, words.view(np.uint8), words, out)
    return out


def warm() -> None:
    """Compile (or load from cache) all kernels of this module."""
    text = pa.array(["a word"], pa.string())
    settings = MinHash()
    band_hashes(signatures(text, settings), settings)
    text_hashes(text)


@lru_cache(maxsize=8)
def _permutations(slots: int) -> tuple[I64, I64]:
    """datasketch's affine64 parameters a and b; b with the top bit flipped, both as signed.

    One more for odd `slots`, since the kernel works on pairs.
    """
    generator = np.random.RandomState(SEED)  # its streams are frozen: the same in every NumPy
    a = generator.randint(0, 1 << 63, slots, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    b = generator.randint(0, 1 << 64, slots, dtype=np.uint64) ^ np.uint64(1 << 63)
    pad = (0, slots % 2)
    return np.pad(a.view(np.int64), pad), np.pad(b.view(np.int64), pad)


_C1, _C2 = np.uint64(FMIX_1), np.uint64(FMIX_2)
_33 = np.uint64(33)
_BASE = np.uint64(SHINGLE_BASE)
_CODE = np.uint32(UNSPACED - 1)
# Every byte as it is, ASCII white space as a space.
_SPACED = np.array([0x20 if 9 <= byte <= 13 else byte for byte in range(256)], np.uint8)


@njit(inline="always")
def _fmix(h: np.uint64) -> np.uint64:
    """The 64-bit finalizer of MurmurHash3 (Appleby, public domain): a bijection."""
    h = (h ^ (h >> _33)) * _C1
    h = (h ^ (h >> _33)) * _C2
    mixed: np.uint64 = h ^ (h >> _33)
    return mixed


@njit(inline="always")
def _transcribe(data: U8, i: int, end: int, table: U32, letters: U8, size: int) -> int:
    """Write what words are made of to letters[size:], in UTF-8 with a 0 for every separator, and
    one around every unspaced code point. Returns the new size."""
    while i < end:
        while i < end:  # ASCII
            byte = data[np.uint64(i)]
            if byte >= 0x80:
                break
            letters[np.uint64(size)] = np.uint8(table[np.uint64(byte)])
            size += 1
            i += 1
        if i >= end:
            break
        byte = data[np.uint64(i)]
        if byte < 0xE0:
            code = np.uint32(byte & 0x1F) << 6 | np.uint32(data[i + 1] & 0x3F)
            i += 2
        elif byte < 0xF0:
            code = np.uint32(byte & 0x0F) << 12 | np.uint32(data[i + 1] & 0x3F) << 6
            code |= np.uint32(data[i + 2] & 0x3F)
            i += 3
        else:
            code = np.uint32(byte & 0x07) << 18 | np.uint32(data[i + 1] & 0x3F) << 12
            code |= np.uint32(data[i + 2] & 0x3F) << 6 | np.uint32(data[i + 3] & 0x3F)
            i += 4
        entry = table[np.uint64(code)]
        if entry == IGNORED:
            continue
        alone = np.int64(entry >> 31)
        entry &= _CODE
        letters[size] = 0
        size += alone
        if entry < 0x80:
            letters[size] = entry
        else:
            if entry < 0x800:
                letters[size] = 0xC0 | entry >> 6
            else:
                if entry < 0x10000:
                    letters[size] = 0xE0 | entry >> 12
                else:
                    letters[size] = 0xF0 | entry >> 18
                    size += 1
                    letters[size] = 0x80 | entry >> 12 & 0x3F
                size += 1
                letters[size] = 0x80 | entry >> 6 & 0x3F
            size += 1
            letters[size] = 0x80 | entry & 0x3F
        size += 1
        letters[size] = 0
        size += alone
    return size


@njit(inline="always")
def _hash_words(
    letters: U8, edges: I64, count: int, n: int, low: np.uint64, mixed: U64, grams: I64, seen: int
) -> int:
    """Hash the words letters[edges[2 * i] : edges[2 * i + 1]] and the shingles that they end.

    `seen` words came before; mixed[:n] holds the hashes of the last n of them (0: none), mixed[n]
    the rolled hash so far. Returns the number of shingles.
    """
    roll = mixed[n]
    shingles = 0
    for i in range(count):
        start, stop = edges[np.uint64(2 * i)], edges[np.uint64(2 * i + 1)]
        word = np.uint64(0)
        while True:
            chunk = np.uint64(0)
            for j in range(8):  # compiles to one load
                chunk |= np.uint64(letters[np.uint64(start + j)]) << np.uint64(8 * j)
            left = stop - start
            if left <= 8:
                cut = np.uint64(64 - 8 * left)
                word = _fmix(word ^ (chunk << cut >> cut))
                break
            word = _fmix(word ^ chunk)
            start += 8
        mixed[np.uint64(n + i)] = word
        roll = roll * _BASE + word - mixed[np.uint64(i)] * low
        grams[np.uint64(shingles)] = np.int64(_fmix(roll))
        shingles += np.int64(seen + i + 1 >= n)
    for i in range(n):
        mixed[i] = mixed[count + i]
    mixed[n] = roll
    return shingles


@njit(inline="always")
def _permute(grams: I64, count: int, a: I64, b: I64, out: I64) -> None:
    """out[k] = min(out[k], minimum over grams[:count] of a[k] * h + b[k])."""
    padded = (count + _LANES - 1) // _LANES * _LANES  # a minimum does not mind repetition
    for i in range(count, padded):
        grams[i] = grams[count - 1]
    for k in range(0, a.shape[0], 2):
        a0, a1, b0, b1 = a[k], a[k + 1], b[k], b[k + 1]
        m0, m1 = out[k], out[k + 1]
        for j in range(padded):
            h = grams[j]
            m0 = min(m0, a0 * h + b0)
            m1 = min(m1, a1 * h + b1)
        out[k], out[k + 1] = m0, m1


@njit(nogil=True, cache=True)
def _sign(
    data: U8, offsets: I32, table: U32, letters: U8, edges: I64, mixed: U64, grams: I64,
    n: int, low: np.uint64, a: I64, b: I64, out: I64,
) -> None:  # fmt: skip
    """Signatures of all documents. `edges` (where words begin and end, in turn), `mixed`, `grams`
    and `letters` are scratch memory."""
    for row in range(offsets.shape[0] - 1):
        i, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        for j in range(n + 1):
            mixed[j] = 0
        seen = 0
        size = 0  # bytes in `letters`
        found = 0  # edges
        inside = 0  # 1 while a word is open
        while i < end:
            stop = min(end, i + BLOCK)
            while stop < end and data[stop] & 0xC0 == 0x80:  # not inside a code point
                stop -= 1
            begin = size
            size = _transcribe(data, i, stop, table, letters, size)
            i = stop
            if i == end:
                letters[size] = 0
                size += 1
            for j in range(begin, size):  # without a branch: words are short
                letter = np.int64(letters[np.uint64(j)] != 0)
                edges[np.uint64(found)] = j
                found += inside ^ letter
                inside = letter
            count = found // 2
            if count == 0 and i < end:
                continue  # inside one long word
            shingles = _hash_words(letters, edges, count, n, low, mixed, grams, seen)
            seen += count
            if 0 < seen < n and i == end:  # one shingle of all words
                grams[0] = np.int64(_fmix(mixed[n]))
                shingles = 1
            if shingles:
                _permute(grams, shingles, a, b, out[row])
            # An open word moves to the front.
            start = edges[2 * count] if inside else size
            for j in range(start, size):
                letters[j - start] = letters[j]
            size -= start
            edges[0] = 0
            found = inside


@njit(nogil=True, cache=True)
def _fold_bands(signature: U64, rows: int, out: U64) -> None:
    for i in range(out.shape[0]):
        for band in range(out.shape[1]):
            h = np.uint64(0)
            for k in range(band * rows, band * rows + rows):
                h = _fmix(h * _BASE + signature[i, k])
            out[i, band] = h


@njit(inline="always")
def _rotl(x: np.uint64, r: int) -> np.uint64:
    rotated: np.uint64 = x << np.uint64(r) | x >> np.uint64(64 - r)
    return rotated


@njit(inline="always")
def _murmur3_128(words: U64, length: int, out: U64) -> None:
    """MurmurHash3_x64_128, seed 0; `words` little-endian, zero for 16 bytes after `length`."""
    c1, c2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
    h1 = np.uint64(0)
    h2 = np.uint64(0)
    full = length // 16
    for block in range(full + 1):
        h1 ^= _rotl(words[2 * block] * c1, 31) * c2
        if block < full:
            h1 = (_rotl(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729)
        h2 ^= _rotl(words[2 * block + 1] * c2, 33) * c1
        if block < full:  # the tail is only mixed in: its zero bytes change nothing
            h2 = (_rotl(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5)
    h1 ^= np.uint64(length)
    h2 ^= np.uint64(length)
    h1 += h2
    h2 += h1
    h1 = _fmix(h1)
    h2 = _fmix(h2)
    h1 += h2
    h2 += h1
    out[0], out[1] = h1, h2


@njit(inline="always")
def _space_length(data: U8, i: int) -> int:
    """Bytes of the White_Space character at i, which is not ASCII; 0 if it is another one."""
    byte, second = data[i], data[i + 1]
    if byte == 0xC2:  # U+0085, U+00A0
        return 2 if second == 0x85 or second == 0xA0 else 0
    if byte < 0xE1 or byte > 0xE3:
        return 0
    third = data[i + 2]
    if byte == 0xE1:  # U+1680
        return 3 if second == 0x9A and third == 0x80 else 0
    if byte == 0xE3:  # U+3000
        return 3 if second == 0x80 and third == 0x80 else 0
    if second == 0x80:  # U+2000..200A, 2028, 2029, 202F
        return 3 if third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF else 0
    return 3 if second == 0x81 and third == 0x9F else 0  # U+205F


@njit(nogil=True, cache=True)
def _hash_texts(data: U8, offsets: I32, spaced: U8, exact: U8, words: U64, out: U64) -> None:
    """`exact`, the bytes of `words`, is scratch memory; `spaced` is _SPACED."""
    for row in range(offsets.shape[0] - 1):
        i, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        length = 0
        before = 1  # whether white space came before: 1 at the beginning, to trim it
        while i < end:
            while i < end:
                byte = spaced[np.uint64(data[np.uint64(i)])]
                if byte >= 0xC2:  # continuation bytes are copied as they come
                    break
                space = np.int64(byte == 0x20)
                exact[np.uint64(length)] = byte
                length += 1 - (space & before)
                before = space
                i += 1
            if i < end:
                step = _space_length(data, i)
                space = np.int64(step > 0)
                exact[np.uint64(length)] = 0x20 if step > 0 else data[np.uint64(i)]
                length += 1 - (space & before)
                before = space
                i += max(step, 1)
        length -= before & np.int64(length > 0)
        if length:
            for j in range(length, length + 32):
                exact[np.uint64(j)] = 0
            _murmur3_128(words, length, out[row])
