"""Token shards: the Arrow schema of packed rows, of their document table, and the shard's metadata.

docs/token-shards.md specifies the format for readers in other languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from schemas.errors import IntegrityError

FORMAT = 1  # of token shards; a reader refuses what it does not know
UINT16_VOCABULARY = 1 << 16  # the largest vocabulary whose ids fit uint16
_PREFIX = "gristmill."

# One row a document, in the order of the shard's token stream. `tokens` counts BOS and end token,
# and `start` is the document's first token in the stream: the row start // T, column start % T.
TOKEN_DOCUMENT = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("language", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),  # UTF-8 bytes of the text
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("text_sha256", pa.binary(32), nullable=False),  # of the text's UTF-8 bytes
    ]
)


def token_dtype(vocab_size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The dtype of stored ids: uint16 if and only if every id below `vocab_size` fits."""
    return np.dtype(np.uint16) if vocab_size <= UINT16_VOCABULARY else np.dtype(np.uint32)


@dataclass(frozen=True, kw_only=True)
class ShardInfo:
    """What a shard says about itself in its schema metadata."""

    sequence_length: int  # T, tokens a row
    rows_per_batch: int  # of every record batch but the last
    vocab_size: int  # one more than the largest id
    eos_id: int  # ends documents, and pads the last row
    bos_id: int | None = None  # None where the tokenizer has none
    begin_document: bool = False  # BOS before each document
    end_document: bool = True  # EOS after each document
    tokenizer_sha256: str = ""
    recipe_sha256: str = ""
    gristmill: str = ""  # version
    packing: str = "concat-and-chunk"
    format: int = FORMAT

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """Of the stored ids."""
        return token_dtype(self.vocab_size)

    def schema(self) -> pa.Schema:
        """Columns of a shard, with this as metadata.

        `input_ids` fixed_size_list<uint16|uint32>[T]; `seq_lengths` list<int32>, the lengths of the
        pieces of documents in the row, in order; they sum to T, and to less in a row whose tail is
        padding; `doc_idx` int64, the row in the document table of the first piece's document;
        `doc_start` int64, how many tokens of that document came before this row.
        """
        # Fields stay nullable: Hugging Face datasets casts, hence copies, anything else.
        return pa.schema(
            [
                ("input_ids", pa.list_(pa.from_numpy_dtype(self.dtype), self.sequence_length)),
                ("seq_lengths", pa.list_(pa.int32())),
                ("doc_idx", pa.int64()),
                ("doc_start", pa.int64()),
            ],
            metadata=self.to_metadata(),
        )

    def to_metadata(self) -> dict[str, str]:
        """Text by key, each key beginning with `gristmill.`; a None is left out."""
        found = {"dtype": self.dtype.name}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                found[field.name] = str(int(value)) if isinstance(value, bool) else str(value)
        return {_PREFIX + key: found[key] for key in sorted(found)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes] | None, where: str) -> ShardInfo:
        """Read schema metadata; IntegrityError if it is no token shard's of a known format."""
        found = {
            key.decode().removeprefix(_PREFIX): value.decode()
            for key, value in (metadata or {}).items()
            if key.startswith(_PREFIX.encode())
        }
        if found.get("format") != str(FORMAT):
            raise IntegrityError(
                f"{where}: expected a token shard of format {FORMAT}, "
                + (f"got format {found['format']}" if "format" in found else "got other data")
            )
        try:
            info = cls(
                sequence_length=int(found["sequence_length"]),
                rows_per_batch=int(found["rows_per_batch"]),
                vocab_size=int(found["vocab_size"]),
                eos_id=int(found["eos_id"]),
                bos_id=int(found["bos_id"]) if "bos_id" in found else None,
                begin_document=found["begin_document"] == "1",
                end_document=found["end_document"] == "1",
                tokenizer_sha256=found["tokenizer_sha256"],
                recipe_sha256=found["recipe_sha256"],
                gristmill=found["gristmill"],
                packing=found["packing"],
            )
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"{where}: broken shard metadata ({error!r})") from error
        if info.sequence_length < 1 or info.rows_per_batch < 1 or info.vocab_size < 1:
            raise IntegrityError(f"{where}: broken shard metadata ({info})")
        return info
