"""Inference of fastText classifiers over a batch of texts: features, their mean, the best label.

The results are fastText's own, bit for bit where it is built without fused multiply-add: rows are
added in its order (a word, its character n-grams by start and then length, then the next word),
in float32, and the Huffman tree is searched as it does, ties included. Sources: Joulin et al. 2016
(arXiv 1607.01759) and Bojanowski et al. 2017 (arXiv 1607.04606, section 3.2); what papers leave
open follows fastText 0.9.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from filters import unicode as u
from filters.kernel_scan import decode
from filters.kernel_words import inner

HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4  # the values in model files

EOS = b"</s>"
LABEL_PREFIX = b"__label__"  # no file says so, but what has it is no word

_OFFSET = np.uint64(2166136261)  # FNV-1a, 32 bits
_PRIME = np.uint64(16777619)
_LOW = np.uint64(0xFFFFFFFF)
_SIX, _63 = np.uint64(6), np.uint64(63)
_ONE = np.uint64(1)
_NGRAM = np.uint64(116049371)  # fastText's multiplier for n-grams of words
_LETTER = np.uint16(u.LETTER)
_CAPACITY = 4096  # features between two summations
_EPSILON = 1e-5  # what fastText adds before each logarithm
# fastText gives up on branches below the logarithm of its threshold, 0.
_FLOOR = np.float32(math.log(_EPSILON))
_ZERO, _UNIT, _EIGHT = np.float32(0), np.float32(1), np.float32(8)
_SIGMOID_STEP = np.float32(32)  # 512 entries over [-8, 8]


class Tables(NamedTuple):
    """A model as the kernel wants it; see fasttext_model.py for where it comes from.

    Features have numbers: buckets of n-grams come first, then words. `present` is a bit for each,
    and `rank` the number of bits before each of its items, so that a feature's row is known from
    its number; models that were not pruned have every feature, and `pruned` is False.
    """

    words: npt.NDArray[np.uint8]  # bytes of all words and labels
    word_offsets: npt.NDArray[np.int64]  # [words + 1], where each begins
    word_hashes: npt.NDArray[np.uint32]  # [words]
    chains: npt.NDArray[np.int32]  # [2^k + 1], where each slot (hash mod 2^k) begins in `members`
    members: npt.NDArray[np.int32]  # [words], words in the order of their slots
    word_count: int  # the rest are labels
    eos: int  # number of the word </s>, or -1
    bucket: int  # n-gram buckets; multiplier and shift divide by it
    multiplier: int
    shift: int
    shortest: int  # characters of n-grams
    longest: int  # 0: none
    word_ngrams: int  # words of the longest n-gram of words
    pruned: bool
    present: npt.NDArray[np.uint64]
    rank: npt.NDArray[np.int32]
    rows: npt.NDArray[np.float32]  # [features, dimensions]
    loss: int
    output: npt.NDArray[np.float32]  # [rows, dimensions] of a tree, else [dimensions, labels]
    output_norms: npt.NDArray[np.float32]  # [rows], factors of the products
    left: npt.NDArray[np.int32]  # [nodes] of the tree, -1 for labels
    right: npt.NDArray[np.int32]
    sigmoid: npt.NDArray[np.float32]  # [513]


@inner
def _has_letter(text, start, end, classes):  # type: ignore[no-untyped-def]
    i = start
    while i < end:
        b = text[i]
        if b < 0x80:
            if classes[b] & _LETTER:
                return True
            i += 1
        else:
            code, size = decode(text, i)
            if classes[code] & _LETTER:
                return True
            i += size
    return False


@inner
def _step(h, b):  # type: ignore[no-untyped-def]
    """FNV-1a of one more byte, sign-extended as in fastText."""
    return ((h ^ np.uint64(np.int64(b))) * _PRIME) & _LOW


@inner
def _modulo(h, m):  # type: ignore[no-untyped-def]
    """h % bucket for h below 2^32; the quotient is at most one too large."""
    bucket = np.uint64(m.bucket)
    rest = h - ((h * np.uint64(m.multiplier)) >> np.uint64(m.shift)) * bucket
    return rest + bucket if rest > h else rest


@inner
def _find(word, size, h, m):  # type: ignore[no-untyped-def]
    """Number of the word or label in word[1 : 1 + size], or -1."""
    slot = np.int64(h) & (m.chains.size - 2)
    for k in range(m.chains[slot], m.chains[slot + 1]):
        found = m.members[k]
        at = m.word_offsets[found]
        if m.word_hashes[found] == h and m.word_offsets[found + 1] - at == size:
            same = True
            for j in range(size):
                if m.words[at + j] != np.uint8(word[1 + j]):
                    same = False
                    break
            if same:
                return np.int64(found)
    return np.int64(-1)


@inner
def _is_label(word, size, prefix):  # type: ignore[no-untyped-def]
    if size < prefix.size:
        return False
    for j in range(prefix.size):
        if word[1 + j] != prefix[j]:
            return False
    return True


@inner
def _sum(features, count, hidden, m):  # type: ignore[no-untyped-def]
    """Add the rows of the features, one after another."""
    size = hidden.size
    for k in range(count):
        feature = features[k]
        row = np.int64(feature)
        if m.pruned:
            bits = m.present[feature >> _SIX] & ((_ONE << (feature & _63)) - _ONE)
            bits -= (bits >> _ONE) & np.uint64(0x5555555555555555)
            bits = (bits & np.uint64(0x3333333333333333)) + (
                (bits >> np.uint64(2)) & np.uint64(0x3333333333333333)
            )
            bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
            row = m.rank[feature >> _SIX] + np.int64(
                (bits * np.uint64(0x0101010101010101)) >> np.uint64(56)
            )
        for d in range(size):
            hidden[d] += m.rows[row, d]


@inner
def _log(x):  # type: ignore[no-untyped-def]
    return np.float32(math.log(np.float64(x) + _EPSILON))


@inner
def _best_leaf(hidden, m, nodes, scores):  # type: ignore[no-untyped-def]
    """(label, log score) by depth-first search, left first; (-1, 0) if none is likely enough."""
    labels = (m.left.size + 1) // 2
    best, best_score = -1, _ZERO
    nodes[0], scores[0] = m.left.size - 1, _ZERO
    depth = 1
    while depth > 0:
        depth -= 1
        node, score = nodes[depth], scores[depth]
        if score < _FLOOR or (best >= 0 and score < best_score):
            continue
        if m.left[node] < 0:
            best, best_score = node, score
            continue
        row = node - labels
        product = _ZERO
        for d in range(hidden.size):
            product += m.output[row, d] * hidden[d]
        product *= m.output_norms[row]
        f = np.float32(1.0 / np.float64(_UNIT + math.exp(-product)))
        nodes[depth], scores[depth] = m.right[node], score + _log(f)
        nodes[depth + 1] = m.left[node]
        scores[depth + 1] = score + _log(np.float32(1.0 - np.float64(f)))
        depth += 2
    return best, best_score


@inner
def _best_output(hidden, m, outputs):  # type: ignore[no-untyped-def]
    """(label, log score) over all labels; of equal ones the last, as in fastText."""
    outputs[:] = _ZERO
    for d in range(hidden.size):
        factor = hidden[d]
        for k in range(outputs.size):
            outputs[k] += m.output[d, k] * factor
    for k in range(outputs.size):
        outputs[k] *= m.output_norms[k]
    if m.loss == SOFTMAX:
        highest, total = outputs[0], _ZERO
        for k in range(outputs.size):
            highest = max(highest, outputs[k])
        for k in range(outputs.size):
            outputs[k] = np.float32(math.exp(np.float64(outputs[k] - highest)))
            total += outputs[k]
        for k in range(outputs.size):
            outputs[k] /= total
    else:
        for k in range(outputs.size):
            x = outputs[k]
            if x < -_EIGHT:
                outputs[k] = _ZERO
            elif x > _EIGHT:
                outputs[k] = _UNIT
            else:
                outputs[k] = m.sigmoid[np.int64((x + _EIGHT) * _SIGMOID_STEP)]
    best, best_score, near = -1, _ZERO, _ZERO
    for k in range(outputs.size):
        if outputs[k] >= near:  # else its logarithm is certainly less
            score = _log(outputs[k])
            if best < 0 or score >= best_score:
                best, best_score = k, score
                near = outputs[k] * np.float32(0.999) - np.float32(1e-7)
    return best, best_score


@njit(nogil=True, cache=True)
def predict(text, starts, ends, classes, prefix, m, labels, scores):  # type: ignore[no-untyped-def]
    """The best label of each text, and its probability; label -1 where there is none.

    text: uint8[], valid UTF-8 in [starts[k], ends[k]) for each text k; classes as in unicode.py;
    prefix: LABEL_PREFIX as uint8[]; labels: int32[n] and scores: float32[n], to fill. All white
    space separates words, LF and NUL too; a text without a letter has no label.
    """
    longest_text = 0
    for k in range(starts.size):
        longest_text = max(longest_text, ends[k] - starts[k])
    word = np.zeros(longest_text + 3, np.int8)
    features = np.empty(_CAPACITY + m.longest + 2, np.uint64)
    hidden = np.empty(m.rows.shape[1], np.float32)
    hashes = np.empty(longest_text // 2 + 2 if m.word_ngrams > 1 else 0, np.uint64)
    outputs = np.empty(m.output_norms.size if m.loss != HIERARCHICAL else 0, np.float32)
    nodes = np.empty(m.left.size + 2, np.int32)
    node_scores = np.empty(m.left.size + 2, np.float32)
    first_word = np.uint64(m.bucket if m.pruned else 0)
    first_ngram = np.uint64(0 if m.pruned else m.word_count)
    for row in range(starts.size):
        labels[row], scores[row] = -1, _ZERO
        i, end = np.int64(starts[row]), np.int64(ends[row])
        if not _has_letter(text, i, end, classes):
            continue
        hidden[:] = _ZERO
        count = total = words = 0
        closed = False
        while not closed:
            # The next word, as <word>; at the end of the text comes </s>, which ends a line.
            while i < end and (text[i] == 32 or 9 <= text[i] <= 13 or text[i] == 0):
                i += 1
            h, size = _OFFSET, 0
            word[0] = 0x3C
            while i < end and not (text[i] == 32 or 9 <= text[i] <= 13 or text[i] == 0):
                b = np.int8(text[i])
                size += 1
                word[size] = b
                h = _step(h, b)
                i += 1
            if size == 0 or (
                size == 4
                and word[1] == 0x3C
                and word[2] == 0x2F
                and word[3] == 0x73
                and word[4] == 0x3E
            ):
                closed = True
                found = m.eos
                h = _OFFSET
                for b in (0x3C, 0x2F, 0x73, 0x3E):
                    h = _step(h, b)
            else:
                found = _find(word, size, h, m)
                if found >= m.word_count or (found < 0 and _is_label(word, size, prefix)):
                    continue
            if m.word_ngrams > 1:
                hashes[words] = h
                words += 1
            if found >= 0:
                features[count] = first_word + np.uint64(found)
                count += 1
            word[size + 1] = 0x3E
            word[size + 2] = 0  # no continuation byte
            at, past = 0, size + 2
            if closed or m.longest <= 0:
                past = 0
            while at < past:
                h = _OFFSET
                j = at
                following = at
                for n in range(1, m.longest + 1):
                    h = _step(h, word[j])
                    j += 1
                    while word[j] < -64:  # continuation bytes
                        h = _step(h, word[j])
                        j += 1
                    if n == 1:
                        following = j
                    if n >= m.shortest and (n > 1 or (at > 0 and j < past)):
                        feature = _modulo(h, m)
                        if m.pruned:
                            features[count] = feature
                            count += np.int64((m.present[feature >> _SIX] >> (feature & _63)) & _ONE)
                        else:
                            features[count] = first_ngram + feature
                            count += 1
                    if j >= past:
                        break
                at = following
                if count >= _CAPACITY:
                    _sum(features, count, hidden, m)
                    total += count
                    count = 0
        for first in range(words):
            # fastText keeps hashes as int32.
            h = np.uint64(np.int64(np.int32(hashes[first])))
            for second in range(first + 1, min(words, first + m.word_ngrams)):
                h = h * _NGRAM + np.uint64(np.int64(np.int32(hashes[second])))
                feature = h % np.uint64(m.bucket)
                if not m.pruned or (m.present[feature >> _SIX] >> (feature & _63)) & _ONE:
                    features[count] = first_ngram + feature
                    count += 1
                if count >= _CAPACITY:
                    _sum(features, count, hidden, m)
                    total += count
                    count = 0
        _sum(features, count, hidden, m)
        total += count
        if total == 0:
            continue
        factor = np.float32(1.0 / total)
        for d in range(hidden.size):
            hidden[d] *= factor
        if m.loss == HIERARCHICAL:
            label, score = _best_leaf(hidden, m, nodes, node_scores)
        else:
            label, score = _best_output(hidden, m, outputs)
        labels[row], scores[row] = label, math.exp(score)
