"""The libraries that encode and decode, behind one interface.

Texts are data: a special token's name inside a text is encoded as the ordinary text that it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from tokenizer.convert import SPACE


class Encoder(Protocol):
    """Encodes texts one by one; ids come flat, uint32[m], with offsets int64[n + 1]."""

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, one after another."""


class Fast:
    """fastokens: a native encoder that returns flat buffers and releases the GIL."""

    def __init__(self, definition: str) -> None:
        # One thread a process: the runner decides how many processes there are. Both are read when
        # the library first encodes; what the caller has set stays.
        os.environ.setdefault("RAYON_NUM_THREADS", "1")
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")
        import fastokens

        self._tokenizer = fastokens.Tokenizer.from_json_str(definition)
        self._tokenizer.no_truncation()

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = self._tokenizer.encode_batch_flat(
            texts, add_special_tokens=False, split_special_tokens=True
        )
        return np.frombuffer(ids, dtype="<u4"), np.frombuffer(offsets, dtype="<u8").astype(np.int64)


class HuggingFace:
    """Hugging Face tokenizers on a tokenizer.json."""

    def __init__(self, definition: str) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers

        self.tokenizer: Any = tokenizers.Tokenizer.from_str(definition)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True  # their names in texts are text

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        found = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return flatten([encoding.ids for encoding in found])

    def decode(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def decode_batch(self, batch: list[list[int]]) -> list[str]:
        return list(self.tokenizer.decode_batch(batch, skip_special_tokens=False))


class Library:
    """The sentencepiece library's own encoding."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        return flatten(self._processor.encode(texts, out_type=int, num_threads=1))


class SentencePiece:
    """The sentencepiece library on a .model; pieces are cut from text as it is."""

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self.processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        # A dummy prefix, or a normalisation of spaces, would show here.
        self.plain: bool = self.processor.decode(self.processor.encode(" a  a ")) == " a  a "
        self.plain = self.plain and self.processor.encode("a", out_type=str) == ["a"]
        processor = self.processor
        pieces = range(processor.get_piece_size())
        self.control: list[str] = [
            processor.id_to_piece(i)
            for i in pieces
            if processor.is_control(i) or processor.is_unknown(i)
        ]
        sign = [self.processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE.encode()]
        bytewise = self.plain and all(self.processor.is_byte(i) for i in sign)
        self.sign = np.array(sign, dtype=np.uint32) if bytewise else None

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        library = Library(self.processor)
        if self.sign is None:
            return library.encode(texts)
        return keep_space_sign(library, self.sign, texts)

    def decode(self, ids: list[int]) -> str:
        return str(self.processor.decode(ids))

    def decode_batch(self, batch: list[list[int]]) -> list[str]:
        return [self.decode(ids) for ids in batch]


class FastPieces:
    """fastokens on a SentencePiece model said as a tokenizer.json.

    Texts with a control or byte piece's name in them, such as `</s>` or `<0x41>`, go to the
    library: where a word has characters outside the vocabulary, fastokens takes the name for the
    piece.
    """

    def __init__(self, definition: str, library: SentencePiece) -> None:
        assert library.sign is not None, "only models with byte fallback are converted"
        self._fast = Fast(definition)
        self._library = library
        self._sign = library.sign
        self._names = (*library.control, "<0x")

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        named = [any(name in text for name in self._names) for text in texts]
        if not any(named):
            return keep_space_sign(self._fast, self._sign, texts)
        parts = [
            self._library.encode([text])[0]
            if is_named
            else keep_space_sign(self._fast, self._sign, [text])[0]
            for text, is_named in zip(texts, named, strict=True)
        ]
        return np.concatenate(parts), np.cumsum([0, *(len(part) for part in parts)])


def keep_space_sign(
    encoder: Encoder, sign: np.ndarray, texts: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Encode U+2581 in texts as `sign`, its bytes' ids: as a piece it would decode to a space.

    What stands before and after it is encoded by itself.
    """
    if not any(SPACE in text for text in texts):
        return encoder.encode(texts)
    split = [text.split(SPACE) for text in texts]
    ids, offsets = encoder.encode([part for parts in split for part in parts])
    # Texts end where their last part does; behind every other part comes the sign.
    ends = np.cumsum([len(parts) for parts in split])
    inner = np.ones(len(offsets) - 1, dtype=bool)
    inner[ends - 1] = False
    at = np.repeat(offsets[1:][inner], len(sign))
    ids = np.insert(ids, at, np.tile(sign, int(inner.sum())))
    moved = offsets + np.append(0, np.cumsum(inner)) * len(sign)
    return ids, moved[np.append(0, ends)]


def flatten(lists: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids as flat uint32[m] and offsets int64[n + 1]."""
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids in lists], out=offsets[1:])
    flat = np.empty(int(offsets[-1]), dtype=np.uint32)
    for ids, (start, stop) in zip(lists, pairwise(offsets), strict=True):
        flat[start:stop] = ids
    return flat, offsets
