"""Text to token ids, a batch of documents at a time.

`load_tokenizer` opens a tokenizer.json or a SentencePiece .model. Documents are data: a special
token's name inside a text, a literal `<|endoftext|>`, is encoded as the ordinary text that it is.

Two encoders stand behind it. The fast one (fastokens) encodes; the reference (Hugging Face
tokenizers, or the sentencepiece library) decodes, encodes what the fast one cannot, and checks it:
on a few odd texts when a tokenizer is loaded, and on a sample of documents during a run.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.errors import InputError, IntegrityError, RecipeError
from tokenizer.convert import to_tokenizer_json
from tokenizer.encoders import Encoder, Fast, FastPieces, HuggingFace, SentencePiece

# Names of end-of-document and begin-of-document tokens, in the order in which they are tried.
END_NAMES = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end▁of▁sentence|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
)
BEGIN_NAMES = (
    "<|begin_of_text|>",
    "<|startoftext|>",
    "<|begin▁of▁sentence|>",
    "<s>",
    "<bos>",
    "<|bos|>",
    "[BOS]",
)

GROUP_BYTES = 4 << 20  # text handed to an encoder at once
PIECE_BYTES = 4 << 20  # a longer document is encoded in pieces; see `cut`
SAMPLE_BYTES = 64 << 10  # longer documents are not encoded again by the slow reference

# Texts on which the fast encoder must agree with the reference before it is used at all.
_PROBES = (
    "",
    " ",
    "Hello, world! It's 12345 o'clock, isn't it?",
    "  two  spaces\n\n\n \t tabs \r\n and\u00a0others\u3000here\n ",
    "<|endoftext|> <s> </s> [PAD] <0x0A> ▁ <unk>",
    "\x01\x7f\u200b\ufeff\u0301e\u0301 \U0001f468\u200d\U0001f469 \ufffd\U0010ffff",
    "汉字、かな。한글 ภาษาไทย ﷽ ǅ ß ﬃ İi",
    "def f(x):\n    return {x: [1e-9, 0x1F]}  # ---- ====\n",
    "a" * 300 + " " * 300 + "中" * 300 + "\n" * 300 + "-" * 300,
)


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """A loaded tokenizer; make one with `load_tokenizer`.

    `vocab_size` is one more than the largest id. `eos_id` ends documents; `bos_id` is None where
    the tokenizer has no such token. `sha256` is that of the file, `name` its name. `cuttable` says
    whether a document may be encoded in pieces: nothing is put before a text's beginning.
    """

    name: str
    sha256: str
    vocab_size: int
    eos_id: int
    bos_id: int | None
    cuttable: bool
    encoder: Encoder
    reference: HuggingFace | SentencePiece

    def encode(self, text: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
        """Ids of each document, without BOS or end token: flat uint32[m], offsets int64[n + 1].

        Memory is bounded by GROUP_BYTES at a time, and by PIECE_BYTES within a long document.
        """
        sizes = np.asarray(pc.binary_length(text), dtype=np.int64)
        parts: list[np.ndarray] = []
        counts = np.zeros(len(sizes) + 1, dtype=np.int64)
        for start, stop in _groups(sizes):
            if stop - start == 1 and sizes[start] > PIECE_BYTES and self.cuttable:
                pieces = cut(text[start].as_buffer())
                found = [self.encoder.encode([piece])[0] for piece in pieces]
                counts[stop] = sum(len(ids) for ids in found)
                parts.extend(found)
            else:
                ids, offsets = self.encoder.encode(text.slice(start, stop - start).to_pylist())
                counts[start + 1 : stop + 1] = np.diff(offsets)
                parts.append(ids)
        if len(parts) == 1:
            return parts[0], np.cumsum(counts)
        return np.concatenate([np.empty(0, dtype=np.uint32), *parts]), np.cumsum(counts)

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """Text of these ids; special tokens show their names."""
        return self.reference.decode(np.asarray(ids).tolist())

    def decode_batch(self, batch: Iterable[np.ndarray | Sequence[int]]) -> list[str]:
        """Texts of several documents."""
        return self.reference.decode_batch([np.asarray(ids).tolist() for ids in batch])

    def check(self, text: pa.StringArray, ids: np.ndarray, offsets: np.ndarray) -> int:
        """Compare with the reference; IntegrityError at the first document with other ids.

        `ids` and `offsets` are what `encode` gave for `text`. Documents of more than SAMPLE_BYTES
        are passed over, and all of them where the reference itself encodes. Returns how many were
        compared.
        """
        if self.encoder is self.reference:
            return 0
        sizes = np.asarray(pc.binary_length(text))
        rows = np.flatnonzero(sizes <= SAMPLE_BYTES)
        expected, bounds = self.reference.encode(text.take(pa.array(rows)).to_pylist())
        for number, row in enumerate(rows):
            theirs = expected[bounds[number] : bounds[number + 1]]
            ours = ids[offsets[row] : offsets[row + 1]]
            if not np.array_equal(theirs, ours):
                shared = min(len(theirs), len(ours))
                at = int(np.argmax(np.append(theirs[:shared] != ours[:shared], True)))
                raise IntegrityError(
                    f"{self.name}: the fast encoder and the reference disagree from token {at} of "
                    f"a document of {sizes[row]} bytes: expected {theirs[at : at + 5].tolist()}, "
                    f"got {ours[at : at + 5].tolist()}; please report this tokenizer"
                )
        return len(rows)


def _groups(sizes: np.ndarray) -> Iterable[tuple[int, int]]:
    """Ranges of documents of at most GROUP_BYTES together; a longer document stands alone."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = int(ends[start] - sizes[start])
        stop = max(start + 1, int(np.searchsorted(ends, before + GROUP_BYTES, side="right")))
        yield start, stop
        start = stop


def cut(text: pa.Buffer, limit: int = PIECE_BYTES) -> Iterable[str]:
    """Cut a long UTF-8 text into pieces of at most `limit` bytes.

    A cut falls behind a line feed between two ASCII letters, or else before a space between two:
    the last such place in the second half of the piece. Pretokenizers (GPT-2's, Llama 3's and
    their kin) end a pretoken there whatever surrounds it, so ids are those of the whole text. A
    text with no such place, one run of one character, is cut between any two characters: encoders
    need tens of bytes of memory for each byte of a pretoken, and a document must not decide how
    much memory a worker takes.
    """
    data = np.frombuffer(text, dtype=np.uint8)
    start = 0
    while len(data) - start > limit:
        window = data[start : start + limit + 1]
        half = limit // 2
        folded = window | 0x20
        letter = (folded >= ord("a")) & (folded <= ord("z"))
        between = letter[half - 2 : -2] & letter[half:]
        middle = window[half - 1 : -1]
        lines = np.flatnonzero(between & (middle == ord("\n")))
        spaces = np.flatnonzero(between & (middle == ord(" ")))
        if len(lines):
            stop = half + int(lines[-1])
        elif len(spaces):
            stop = half - 1 + int(spaces[-1])
        else:
            stop = limit
            while window[stop] & 0xC0 == 0x80:
                stop -= 1
        yield window[:stop].tobytes().decode()
        start += stop
    yield data[start:].tobytes().decode()


def load_tokenizer(path: str | os.PathLike[str], end_of_document: str | None = None) -> Tokenizer:
    """Open a tokenizer.json or a SentencePiece .model.

    `end_of_document` names the token that ends documents; by default it is the first of END_NAMES
    that the tokenizer has, or a .model's own end token. InputError if the file is no tokenizer,
    RecipeError if it has no such token.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot open tokenizer {path}: {error.strerror}") from error
    if data.lstrip()[:1] == b"{":
        return _load_json(path.name, data, end_of_document)
    return _load_model(path.name, data, end_of_document)


def _load_json(name: str, data: bytes, end_of_document: str | None) -> Tokenizer:
    try:
        value = json.loads(data)
        # The end token must not be found in texts, even if the file has it as a plain added token.
        for token in value.get("added_tokens") or ():
            token["special"] = token["special"] or token["content"] == end_of_document
        definition = json.dumps(value, ensure_ascii=False)
        reference = HuggingFace(definition)
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{name} is not a tokenizer.json that can be loaded: {error}") from error
    vocabulary = reference.tokenizer.get_vocab(with_added_tokens=True)
    if not vocabulary:
        raise InputError(f"{name} has no vocabulary")
    added = sorted(reference.tokenizer.get_added_tokens_decoder().items())
    special = {token.content: number for number, token in added if token.special}
    return Tokenizer(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=max(vocabulary.values()) + 1,
        eos_id=_end_id(name, special, end_of_document),
        bos_id=next((special[n] for n in BEGIN_NAMES if n in special), None),
        cuttable=_cuttable(value),
        encoder=_if_equal(lambda: Fast(definition), reference) or reference,
        reference=reference,
    )


def _load_model(name: str, data: bytes, end_of_document: str | None) -> Tokenizer:
    try:
        reference = SentencePiece(data)
    except Exception as error:  # whatever the parser makes of arbitrary bytes
        raise InputError(
            f"{name} is neither a tokenizer.json nor a SentencePiece model: {error}"
        ) from error
    processor = reference.processor
    definition = to_tokenizer_json(data)
    fast = None
    if definition is not None:
        fast = _if_equal(lambda: FastPieces(definition, reference), reference)
    size = processor.get_piece_size()
    control = {processor.id_to_piece(i): i for i in range(size) if processor.is_control(i)}
    if end_of_document is None and processor.eos_id() >= 0:
        end_of_document = processor.id_to_piece(processor.eos_id())
    return Tokenizer(
        name=name,
        sha256=hashlib.sha256(data).hexdigest(),
        vocab_size=size,
        eos_id=_end_id(name, control, end_of_document),
        bos_id=processor.bos_id() if processor.bos_id() >= 0 else None,
        cuttable=reference.plain,  # a dummy prefix would come again with each piece
        encoder=fast or reference,
        reference=reference,
    )


def _end_id(name: str, special: dict[str, int], wanted: str | None) -> int:
    """Id of the end token among the special ones: ordinary tokens occur in texts."""
    for candidate in END_NAMES if wanted is None else (wanted,):
        if candidate in special:
            return special[candidate]
    has = f"its special tokens are {', '.join(special)}" if special else "it has no special tokens"
    raise RecipeError(
        f"tokenizer.end_of_document: {name} has no special token "
        + (f"{wanted!r}" if wanted is not None else "that is known to end documents")
        + f"; {has}"
    )


def _cuttable(definition: dict[str, Any]) -> bool:
    """Whether only ByteLevel and patterns stand before the model, so that no start is special."""

    def parts(component: dict[str, Any] | None, key: str) -> list[dict[str, Any]]:
        if component is None:
            return []
        if component["type"] == "Sequence":
            return [p for part in component[key] for p in parts(part, key)]
        return [component]

    before = parts(definition.get("pre_tokenizer"), "pretokenizers")
    return (
        any(part["type"] == "ByteLevel" for part in before)
        # Something has to keep merges from crossing white space.
        and any(
            part["type"] == "Split" or (part["type"] == "ByteLevel" and part.get("use_regex", True))
            for part in before
        )
        and all(part["type"] in ("ByteLevel", "Split", "Digits") for part in before)
        and not any(part.get("add_prefix_space") for part in before)
        and not parts(definition.get("normalizer"), "normalizers")
    )


def _if_equal(make: Callable[[], Encoder], reference: Encoder) -> Encoder | None:
    """The fast encoder, if it can load this tokenizer and encodes the probes as the reference."""
    try:
        fast = make()
    except (ValueError, RuntimeError, NotImplementedError):
        return None
    texts = list(_PROBES)
    ours, theirs = fast.encode(texts), reference.encode(texts)
    equal = all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    return fast if equal else None
