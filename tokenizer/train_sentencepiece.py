"""SentencePiece BPE from word counts, through the sentencepiece library.

The library reads `word<TAB>count` lines (input_format=tsv). With identity normalisation its result
is that of training on the raw text, because it cuts sentences into the same words itself before it
counts pairs; only a tab, which no longer piece may contain, is left to its byte's piece.

Nothing is normalised, no space is put before a text and none is taken away, and what has no piece
falls back to bytes: decoding an encoded text gives the text. The exception is U+2581, the library's
own sign for a space: it is never in a training word, and an encoder has to write it as its three
bytes (tokenizer.encode does), or it would come back as a space.

Ids are LLaMA's: `<unk>` 0, `<s>` 1, `</s>` 2 (which ends documents), then the 256 bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from schemas.errors import RecipeError
from schemas.recipe import TrainSentencePiece

SPACE = "\u2581"
END_DOCUMENT = "</s>"
_THREADS = 2  # written into the model, hence the same on every machine
_MAX_LINE = 1 << 20  # longer lines would be left out; words end at tokenizer.split.MAX_WORD_BYTES


def train_sentencepiece(counts: Iterable[pa.RecordBatch], settings: TrainSentencePiece) -> bytes:
    """The .model file, from distinct words with counts: COUNTS batches of rule "whitespace".

    A corpus with too few pairs gives a smaller vocabulary than asked for. RecipeError if the
    characters to be covered alone do not fit into it.
    """
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(counts),
            model_writer=model,
            **options(settings),
            input_format="tsv",
        )
    except RuntimeError as error:
        raise RecipeError(
            f"tokenizer: sentencepiece cannot train {settings.vocab_size} pieces on this corpus: "
            f"{error}. Try a larger vocab_size or a lower character_coverage"
        ) from error
    return model.getvalue()


def options(settings: TrainSentencePiece) -> dict[str, Any]:
    """Trainer options, apart from input and output; the same for raw text."""
    return {
        "model_type": "bpe",
        "vocab_size": settings.vocab_size,
        "hard_vocab_limit": False,
        "byte_fallback": settings.byte_fallback,
        "split_digits": settings.split_digits,
        "character_coverage": settings.character_coverage,
        "normalization_rule_name": "identity",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "allow_whitespace_only_pieces": True,
        "max_sentence_length": _MAX_LINE,
        "unk_id": 0,
        "bos_id": 1,
        "eos_id": 2,
        "pad_id": -1,
        "num_threads": _THREADS,
        "minloglevel": 2,  # errors only; they come as exceptions too
    }


def vocabulary(model: bytes) -> str:
    """What sentencepiece writes as .vocab: a line for each piece, with its score."""
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = range(processor.vocab_size())
    return "".join(f"{processor.id_to_piece(i)}\t{processor.get_score(i):g}\n" for i in ids)


def _lines(counts: Iterable[pa.RecordBatch]) -> Iterator[str]:
    some = False
    for batch in counts:
        words = batch["pretoken"].to_pylist()
        for word, count in zip(words, batch["count"].to_pylist(), strict=True):
            some = True
            yield f"{word.decode().replace(' ', SPACE)}\t{count}"
    if not some:  # the library refuses an empty corpus; a space is in every vocabulary anyway
        yield f"{SPACE}\t1"
