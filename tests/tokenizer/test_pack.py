"""Packing against a plain-Python reference."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import IntegrityError
from schemas.tokens import ShardInfo, token_dtype
from tokenizer.pack import BATCH_TOKENS, Packer, batch_rows

EOS, BOS = 0, 1

Row = tuple[list[int], list[int], int, int]


def info(length: int = 8, rows: int = 4, **changes: object) -> ShardInfo:
    values = {
        "sequence_length": length,
        "rows_per_batch": rows,
        "vocab_size": 100,
        "eos_id": EOS,
        "bos_id": BOS,
    }
    return ShardInfo(**(values | changes))


def reference(documents: Sequence[Sequence[int]], shard: ShardInfo) -> tuple[list[Row], int]:
    """Rows of (ids, piece lengths, document, start in it), token by token, and the padding."""
    stream: list[tuple[int, int, int]] = []  # token, document, position in it
    for number, document in enumerate(documents):
        marked = [*([BOS] if shard.begin_document else []), *document]
        marked += [EOS] if shard.end_document else []
        stream += [(token, number, place) for place, token in enumerate(marked)]
    rows: list[Row] = []
    for start in range(0, len(stream), shard.sequence_length):
        part = stream[start : start + shard.sequence_length]
        lengths: list[int] = []
        for place, (_, number, _) in enumerate(part):
            if place == 0 or number != part[place - 1][1]:
                lengths.append(0)
            lengths[-1] += 1
        ids = [token for token, _, _ in part]
        ids += [EOS] * (shard.sequence_length - len(ids))
        rows.append((ids, lengths, part[0][1], part[0][2]))
    return rows, -len(stream) % shard.sequence_length


def pack(
    documents: Sequence[Sequence[int]], shard: ShardInfo, batches: Sequence[int]
) -> tuple[list[pa.RecordBatch], Packer]:
    """Feed the packer batches of so many documents each, the rest at the end."""
    packer = Packer(shard)
    out: list[pa.RecordBatch] = []
    start = 0
    for size in [*batches, len(documents)]:
        part = documents[start : start + size]
        start += size
        offsets = np.array([0, *accumulate(len(d) for d in part)], dtype=np.int64)
        ids = np.array([token for d in part for token in d], dtype=np.uint32)
        out += packer.add(*packer.with_marks(ids, offsets))
    out += packer.finish()
    return out, packer


DOCUMENTS = st.lists(st.lists(st.integers(2, 99), max_size=40), max_size=30)


@settings(max_examples=100, deadline=None)
@given(
    documents=DOCUMENTS,
    length=st.integers(1, 16),
    rows=st.integers(1, 5),
    begin=st.booleans(),
    end=st.booleans(),
    batches=st.lists(st.integers(0, 10), max_size=6),
)
def test_rows_equal_the_reference_however_documents_are_fed(
    documents: list[list[int]], length: int, rows: int, begin: bool, end: bool, batches: list[int]
) -> None:
    shard = info(length, rows, begin_document=begin, end_document=end)
    expected, padding = reference(documents, shard)
    found, packer = pack(documents, shard, batches)
    assert [
        (row["input_ids"], row["seq_lengths"], row["doc_idx"], row["doc_start"])
        for batch in found
        for row in batch.to_pylist()
    ] == expected
    assert packer.padding == padding
    assert packer.rows == len(expected)
    assert packer.documents == len(documents)
    assert packer.tokens == sum(sum(lengths) for _, lengths, _, _ in expected)
    # Rows per batch are constant, so that a row is found by division.
    assert all(batch.num_rows == rows for batch in found[:-1])
    assert all(0 < batch.num_rows <= rows for batch in found[-1:])


def test_logical_hash_is_free_of_row_length_and_dtype() -> None:
    documents = [[5, 6, 7], [], [8] * 20]
    stream = [5, 6, 7, EOS, EOS, *[8] * 20, EOS]
    expected = sha256(np.array(stream, dtype="<u4").tobytes()).hexdigest()
    for shard in (info(8), info(5, 1), info(7, vocab_size=70_000)):
        assert pack(documents, shard, [1])[1].logical_sha256() == expected


def test_dtype_is_uint16_up_to_65536_ids() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
    shard = info(vocab_size=65_536)
    (batch,), _ = pack([[65_535]], shard, [])
    assert batch.column("input_ids").type == pa.list_(pa.uint16(), 8)
    assert batch.column("input_ids")[0].as_py()[:2] == [65_535, EOS]


def test_a_slice_of_offsets_takes_only_its_ids() -> None:
    packer = Packer(info())
    ids, offsets = packer.with_marks(
        np.array([9, 9, 5, 6, 7, 9], dtype=np.uint32), np.array([2, 4, 5], dtype=np.int64)
    )
    assert ids.tolist() == [5, 6, EOS, 7, EOS]
    assert offsets.tolist() == [0, 3, 5]


def test_bos_without_a_bos_token_is_refused() -> None:
    packer = Packer(info(bos_id=None, begin_document=True))
    with pytest.raises(ValueError, match="BOS"):
        packer.with_marks(np.array([5], dtype=np.uint32), np.array([0, 1]))


def test_a_mark_inside_a_text_is_refused() -> None:
    packer = Packer(info())
    with pytest.raises(IntegrityError, match="id 0"):
        packer.with_marks(np.array([5, EOS], dtype=np.uint32), np.array([0, 2]))
    packer.with_marks(np.array([5, BOS], dtype=np.uint32), np.array([0, 2]))  # not a mark here


def test_batches_are_bounded_for_long_rows() -> None:
    assert batch_rows(1024, 2048) == 1024
    assert batch_rows(1024, 1 << 20) == BATCH_TOKENS >> 20
    assert batch_rows(1024, BATCH_TOKENS * 2) == 1
