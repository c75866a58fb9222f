"""Inference of fastText classifiers over a batch of texts: features, their mean, the best label.

The results are fastText's own, bit for bit where it is built without fused multiply-add: rows are
added in its order (a word, its character n-grams by start and then length, then the next word),
in float32, and the Huffman tree is searched as it does, ties included. Sources: Joulin et al. 2016
(arXiv 1607.01759) and Bojanowski et al. 2017 (arXiv 1607.04606, section 3.2); what papers leave
open follows fastText 0.9.2.

Features have numbers: words come first, then buckets of n-grams. A bit for each tells whether it
is in the model, and its row is the number of bits before it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from filters import unicode as u
from filters.kernel_words import inner

EOS = b"</s>"

_OFFSET = np.uint64(2166136261)  # FNV-1a, 32 bits
_PRIME = np.uint64(16777619)
_LOW = np.uint64(0xFFFFFFFF)
_NGRAM_PRIME = np.uint64(116049371)  # for n-grams of words
_LETTER = np.uint16(u.LETTER)
_SPACE = np.zeros(256, np.bool_)
_SPACE[list(b"\0\t\n\v\f\r ")] = True
_LABEL = np.frombuffer(b"__label__", np.int8)  # no file says so, but what has it is no word
_LESS, _MORE = np.int8(ord("<")), np.int8(ord(">"))
_CONTINUATION = np.int8(-64)  # bytes of UTF-8 below this one continue a character

_ONE, _TWO, _FOUR, _SIX, _TOP_BYTE, _63 = (np.uint64(n) for n in (1, 2, 4, 6, 56, 63))
_PAIRS, _QUADS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_NIBBLES, _BYTES = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x0101010101010101)

_EPSILON = 1e-5  # what fastText adds before each logarithm
_FLOOR = np.float32(math.log(_EPSILON))  # it gives up on branches below its threshold, 0
_ZERO, _UNIT, _EIGHT = np.float32(0), np.float32(1), np.float32(8)
_SIGMOID_STEP = np.float32(32)  # 512 entries over [-8, 8]
_NEAR = np.float32(0.999)


@inner
def _step(h, b):  # type: ignore[no-untyped-def]
    """FNV-1a of one more byte, sign-extended as in fastText."""
    return ((h ^ np.uint64(np.int64(b))) * _PRIME) & _LOW


@njit(nogil=True, cache=True)
def average(  # type: ignore[no-untyped-def]
    text, starts, ends, classes, dictionary, ngrams, present, rank, rows, scratch, hidden, lettered
):
    """The mean of the rows of each text's features.

    text: uint8[], valid UTF-8 in [starts[k], ends[k]) for each text k; classes as in unicode.py;
    present: uint64[], a bit for each feature; rank: int32[], bits before each item of `present`;
    rows: float32[features, dimensions]; dictionary, ngrams and scratch as in fasttext_model.py;
    hidden: float32[n, dimensions], the result, zeros before; lettered: bool[n], to fill: whether a
    text has a letter; it has no mean if not. All white space separates words, LF and NUL too.
    """
    words, offsets, hashes, chains, members, word_count, eos, eos_hash = dictionary
    bucket, multiplier, shift, shortest, longest, word_ngrams = ngrams
    word, features, seen = scratch
    for row in range(starts.size):
        i, end = np.int64(starts[row]), np.int64(ends[row])
        j, letter = i, False
        while j < end and not letter:
            code, size = np.int64(text[j]), 1
            if code >= 0x80:
                size += 1 + (code >= 0xE0) + (code >= 0xF0)
                code &= 0x7F >> size
                for k in range(j + 1, j + size):
                    code = (code << 6) | (np.int64(text[k]) & 0x3F)
            letter = classes[code] & _LETTER != 0
            j += size
        lettered[row] = letter
        if not letter:
            continue
        count, seen_count, closed = 0, 0, False
        while not closed:
            # The next word, as <word>. At the end of the text comes </s>, which ends a line; it
            # does so in the middle, too.
            while i < end and _SPACE[text[i]]:
                i += 1
            h, size = _OFFSET, 0
            while i < end and not _SPACE[text[i]]:
                size += 1
                word[size] = np.int8(text[i])
                h = _step(h, word[size])
                i += 1
            found = np.int64(-1)
            if size > 0:
                slot = np.int64(h) & (chains.size - 2)
                for k in range(chains[slot], chains[slot + 1]):
                    at = offsets[members[k]]
                    if hashes[members[k]] == h and offsets[members[k] + 1] - at == size:
                        j = 0
                        while j < size and words[at + j] == word[1 + j]:
                            j += 1
                        if j == size:
                            found = np.int64(members[k])
                            break
            closed = size == 0 or found == eos
            if closed:
                found, size, h = eos, -2, eos_hash
            elif found >= word_count:
                continue
            elif found < 0 and size >= _LABEL.size:
                j = 0
                while j < _LABEL.size and word[1 + j] == _LABEL[j]:
                    j += 1
                if j == _LABEL.size:
                    continue
            if word_ngrams > 1:
                seen[seen_count] = np.int32(h)  # signed in fastText
                seen_count += 1
            if found >= 0:
                features[count] = found
                count += 1
            past = size + 2 if longest > 0 else 0
            if past > 0:
                word[0], word[size + 1], word[size + 2] = _LESS, _MORE, 0
            at = 0
            while at < past:
                h = _OFFSET
                j = at
                for n in range(1, longest + 1):
                    h = _step(h, word[j])
                    j += 1
                    while word[j] < _CONTINUATION:
                        h = _step(h, word[j])
                        j += 1
                    if n >= shortest and (n > 1 or (at > 0 and j < past)):
                        # h modulo bucket: the quotient is at most one too large.
                        rest = h - ((h * multiplier) >> shift) * bucket
                        if rest > h:
                            rest += bucket
                        rest += np.uint64(word_count)
                        features[count] = rest
                        count += np.int64((present[rest >> _SIX] >> (rest & _63)) & _ONE)
                    if j >= past:
                        break
                at += 1
                while word[at] < _CONTINUATION:
                    at += 1
        for first in range(seen_count):
            h = np.uint64(seen[first])
            for second in range(first + 1, first + word_ngrams):
                if second == seen_count:
                    break
                h = h * _NGRAM_PRIME + np.uint64(seen[second])
                rest = h % bucket + np.uint64(word_count)
                features[count] = rest
                count += np.int64((present[rest >> _SIX] >> (rest & _63)) & _ONE)
        for k in range(count):
            feature = np.uint64(features[k])
            bits = present[feature >> _SIX] & ((_ONE << (feature & _63)) - _ONE)
            bits -= (bits >> _ONE) & _PAIRS
            bits = (bits & _QUADS) + ((bits >> _TWO) & _QUADS)
            bits = (((bits + (bits >> _FOUR)) & _NIBBLES) * _BYTES) >> _TOP_BYTE
            at = np.int64(np.uint64(rank[feature >> _SIX]) + bits)
            for d in range(rows.shape[1]):
                hidden[row, d] += rows[at, d]
        factor = np.float32(1.0 / count)
        for d in range(rows.shape[1]):
            hidden[row, d] *= factor


@inner
def _log(x):  # type: ignore[no-untyped-def]
    return np.float32(math.log(np.float64(x) + _EPSILON))


@njit(nogil=True, cache=True)
def best_leaf(hidden, output, norms, left, right, stack, stack_scores, labels, scores):  # type: ignore[no-untyped-def]
    """The most probable leaf of a tree for each row of `hidden`, by depth-first search, left first.

    hidden: float32[n, dimensions]; output: float32[labels, dimensions] and norms: float32[labels],
    whose product has a row for each inner node; left, right: int32[nodes], -1 for leaves, which
    come first and are labels; stack, stack_scores: int32 and float32[nodes + 2]; labels: int32[n]
    (-1 where none is likely enough) and scores: float32[n], to fill.
    """
    leaves = (left.size + 1) // 2
    for row in range(hidden.shape[0]):
        best, best_score = np.int32(-1), _ZERO
        stack[0], stack_scores[0] = left.size - 1, _ZERO
        depth = 1
        while depth > 0:
            depth -= 1
            node, score = stack[depth], stack_scores[depth]
            if score < _FLOOR or (best >= 0 and score < best_score):
                continue
            if left[node] < 0:
                best, best_score = node, score
                continue
            at = node - leaves
            product = _ZERO
            for d in range(hidden.shape[1]):
                product += output[at, d] * hidden[row, d]
            product *= norms[at]
            f = np.float32(1.0 / np.float64(_UNIT + math.exp(-product)))
            stack[depth], stack_scores[depth] = right[node], score + _log(f)
            stack[depth + 1] = left[node]
            stack_scores[depth + 1] = score + _log(np.float32(1.0 - np.float64(f)))
            depth += 2
        labels[row], scores[row] = best, math.exp(best_score)


@njit(nogil=True, cache=True)
def best_output(hidden, output, norms, sigmoid, outputs, labels, scores):  # type: ignore[no-untyped-def]
    """The most probable label for each row of `hidden`; of equal ones the last, as in fastText.

    hidden: float32[n, dimensions]; output: float32[dimensions, labels] and norms: float32[labels],
    whose product is the matrix; sigmoid: float32[513] over [-8, 8], or empty for a softmax;
    outputs: float32[labels], for working; labels: int32[n] and scores: float32[n], to fill.
    """
    for row in range(hidden.shape[0]):
        for k in range(outputs.size):
            outputs[k] = _ZERO
        for d in range(hidden.shape[1]):
            factor = hidden[row, d]
            for k in range(outputs.size):
                outputs[k] += output[d, k] * factor
        highest, total = outputs[0] * norms[0], _ZERO
        for k in range(outputs.size):
            outputs[k] *= norms[k]
            if outputs[k] > highest:
                highest = outputs[k]
        for k in range(outputs.size):
            x = outputs[k]
            if sigmoid.size == 0:
                outputs[k] = np.float32(math.exp(np.float64(x - highest)))
                total += outputs[k]
            elif -_EIGHT <= x <= _EIGHT:
                outputs[k] = sigmoid[np.int64((x + _EIGHT) * _SIGMOID_STEP)]
            else:
                outputs[k] = _UNIT if x > _ZERO else _ZERO
        best, best_score, near = np.int32(-1), _ZERO, _ZERO
        for k in range(outputs.size):
            x = outputs[k] / total if sigmoid.size == 0 else outputs[k]
            if x >= near:  # else its logarithm is less
                score = _log(x)
                if best < 0 or score >= best_score:
                    best, best_score, near = np.int32(k), score, x * _NEAR
        labels[row], scores[row] = best, math.exp(best_score)
