"""Byte-level BPE from pretoken counts (Sennrich et al. 2016, with GPT-2's byte alphabet).

Merges are those of HF tokenizers' BpeTrainer on the raw text, with `initial_alphabet =
ByteLevel.alphabet()`; see tokenizer.merging for what that takes, and for the one difference
(64-bit counts). The vocabulary is: special tokens in order, the 256 bytes ordered by the character
that stands for them, then the merges' results in order. `min_frequency` is the least count of a
pair to be merged; words are never dropped for being rare. Of pairs with equal counts the one with
the smaller ids goes first.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.errors import RecipeError
from schemas.recipe import TrainBPE
from schemas.text import utf8
from tokenizer.counts import COUNTS
from tokenizer.merge_kernels import pack
from tokenizer.merging import find_merges
from tokenizer.model import BPEModel, byte_alphabet


def train_bpe(counts: Iterable[pa.RecordBatch], settings: TrainBPE) -> BPEModel:
    """Train on distinct pretokens with counts: COUNTS batches, in any order.

    If the corpus has too few pairs, the vocabulary comes out smaller than asked for. Raises
    RecipeError if the special tokens and bytes alone do not fit into the vocabulary, or a special
    token is empty, repeated, or the same as a byte's.
    """
    special = settings.special_tokens
    order = _check(special, settings.vocab_size)
    tokens = [_bytes_in_vocabulary(token) for token in special] + [bytes([b]) for b in order]
    ids = np.empty(256, dtype=np.int32)
    ids[order] = np.arange(len(special), len(tokens), dtype=np.int32)
    symbols, starts, numbers = _words(counts, ids)
    found = find_merges(
        symbols, starts, numbers, tokens, settings.vocab_size, settings.min_frequency
    ).tolist()
    ranks: dict[tuple[int, int], None] = {}
    for left, right, new in found:
        if new == len(tokens):
            tokens.append(tokens[left] + tokens[right])
        # HF keeps the last rank of a pair that was merged twice
        ranks.pop((left, right), None)
        ranks[left, right] = None
    tokens[: len(special)] = [token.encode() for token in special]
    return BPEModel(
        pretokenizer=settings.pretokenizer,
        special_tokens=special,
        tokens=tuple(tokens),
        merges=tuple(ranks),
    )


def _check(special: tuple[str, ...], vocab_size: int) -> list[int]:
    """Byte values in the order of their ids, if these settings are possible."""
    alphabet = byte_alphabet()
    if len(special) + 256 > vocab_size:
        raise RecipeError(
            f"tokenizer.vocab_size: {vocab_size} has no room for 256 bytes and {len(special)} "
            f"special tokens; make it at least {len(special) + 256}"
        )
    if len(set(special)) != len(special) or "" in special:
        raise RecipeError("tokenizer.special_tokens: expected distinct, non-empty tokens")
    for token in special:
        if token in alphabet:
            raise RecipeError(
                f"tokenizer.special_tokens: {token!r} already stands for a byte in the vocabulary"
            )
    return sorted(range(256), key=lambda b: alphabet[b])


def _bytes_in_vocabulary(token: str) -> bytes:
    """The bytes that a special token's name would stand for if it were an ordinary token.

    No merge may produce them: the vocabulary has each name once. Names with other characters
    cannot be produced; they get bytes that no UTF-8 text has.
    """
    alphabet = byte_alphabet()
    if all(c in alphabet for c in token):
        return bytes(alphabet.index(c) for c in token)
    return b"\xff\xfe\xff" + token.encode()


def _words(
    counts: Iterable[pa.RecordBatch], ids: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Symbols of all pretokens, where each starts, and how often it comes."""
    symbols, lengths, numbers = [], [], []
    for batch in counts:
        pretokens = batch["pretoken"]
        data, offsets = utf8(pretokens.view(pa.string()))
        symbols.append(ids[data[offsets[0] : offsets[-1]]])
        lengths.append(np.diff(offsets))
        numbers.append(batch["count"].to_numpy())
    if not symbols:
        return np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64)
    starts = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)
    return np.concatenate(symbols), starts, np.concatenate(numbers)


def warm() -> None:
    """Compile the training kernels, or load them from the cache."""
    batch = pa.RecordBatch.from_arrays([[b"ab"], [2]], schema=COUNTS)
    train_bpe([batch], TrainBPE(vocab_size=258))
    one = np.zeros(1, dtype=np.int64)
    pack(np.zeros(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32), one, one)
