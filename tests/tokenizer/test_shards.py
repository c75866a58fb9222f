"""Token shards: bytes, damage, and other people's readers."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.document import DOCUMENT
from schemas.errors import IntegrityError
from schemas.tokens import TOKEN_DOCUMENT, ShardInfo
from tokenizer.shards import ShardWriter, TokenShard, open_shard

INFO = ShardInfo(
    sequence_length=16,
    rows_per_batch=8,
    vocab_size=300,
    eos_id=299,
    bos_id=298,
    tokenizer_sha256="f" * 64,
    recipe_sha256="e" * 64,
    gristmill="0",
)
TEXTS = [
    "",
    "a",
    "汉字",
    "long " * 100,
    "🙂" * 9,
    *(f"document {i} " * (i % 7) for i in range(200)),
]


class Bytes:
    """A tokenizer whose ids are the text's UTF-8 bytes."""

    sha256 = "f" * 64

    def decode(self, ids: np.ndarray) -> str:
        return ids.astype(np.uint8).tobytes().decode()


def documents(texts: list[str]) -> pa.RecordBatch:
    rows = [
        {
            "id": f"id-{number}",
            "text": text,
            "source": "web" if number % 3 else "books",
            "path": "a/b.jsonl",
            "position": number * 100,
            "url": None if number % 2 else f"https://example.org/{number}",
            "language": "zh" if "汉" in text else None,
        }
        for number, text in enumerate(texts)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DOCUMENT)


def ids_of(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    parts = [np.frombuffer(text.encode(), dtype=np.uint8) for text in texts]
    offsets = np.cumsum([0, *(len(part) for part in parts)], dtype=np.int64)
    return np.concatenate([np.empty(0, np.uint8), *parts]).astype(np.uint32), offsets


def write(
    folder: Path, texts: list[str] = TEXTS, info: ShardInfo = INFO, size: int = 50
) -> tuple[Path, ShardWriter]:
    tokens = folder / "shard.arrow"
    with ShardWriter(tokens, folder / "shard.documents.parquet", info) as writer:
        table = documents(texts)
        for start in range(0, len(texts), size):
            some = texts[start : start + size]
            writer.write(table.slice(start, size), *ids_of(some))
    return tokens, writer


@pytest.fixture
def shard(tmp_path: Path) -> TokenShard:
    return open_shard(write(tmp_path)[0])


def test_every_document_comes_back(shard: TokenShard) -> None:
    assert len(shard.documents) == len(TEXTS)
    assert [shard.text(number, Bytes()) for number in range(len(TEXTS))] == TEXTS
    assert shard.document(1).tolist() == [ord("a")]
    assert shard.document(1, marks=True).tolist() == [ord("a"), 299]


def test_marks_are_taken_off_as_they_were_put_on(tmp_path: Path) -> None:
    for begin in (False, True):
        for end in (False, True):
            info = replace(INFO, begin_document=begin, end_document=end)
            found = open_shard(write(tmp_path, info=info)[0])
            found.check()
            assert [found.text(number, Bytes()) for number in range(len(TEXTS))] == TEXTS


def test_document_table_describes_the_text(shard: TokenShard) -> None:
    table = shard.documents
    assert table.schema == TOKEN_DOCUMENT
    assert table.column("bytes").to_pylist() == [len(t.encode()) for t in TEXTS]
    assert table.column("tokens").to_pylist() == [len(t.encode()) + 1 for t in TEXTS]
    assert table.column("text_sha256").to_pylist() == [sha256(t.encode()).digest() for t in TEXTS]
    given = documents(TEXTS)
    for name in ("id", "url", "source", "path", "position", "language"):
        assert table.column(name).to_pylist() == given.column(name).to_pylist()


def test_bytes_do_not_depend_on_batches(tmp_path: Path) -> None:
    found = set()
    for size in (1, 7, len(TEXTS)):
        path, _ = write(tmp_path, size=size)
        table = path.with_name("shard.documents.parquet").read_bytes()
        found.add((sha256(path.read_bytes()).hexdigest(), sha256(table).hexdigest()))
    assert len(found) == 1


def test_totals_agree(shard: TokenShard, tmp_path: Path) -> None:
    _, writer = write(tmp_path)
    assert (len(shard), shard.tokens) == (writer.rows, writer.tokens)
    assert writer.rows * 16 == writer.tokens + writer.padding
    stream = b"".join(np.append(ids_of([t])[0], 299).astype("<u4").tobytes() for t in TEXTS)
    assert shard.logical_sha256() == writer.logical_sha256() == sha256(stream).hexdigest()


def test_views_are_of_the_file(shard: TokenShard) -> None:
    before = pa.total_allocated_bytes()
    rows = [shard[number] for number in range(len(shard))]
    assert pa.total_allocated_bytes() == before
    assert all(not row.flags.owndata and not row.flags.writeable for row in rows)
    assert np.array_equal(np.stack(rows), shard.input_ids)
    assert shard.rows(9, 15).base is not None  # within one batch of 8 to 16
    assert np.array_equal(shard.rows(5, 30), shard.input_ids[5:30])
    assert shard.rows(3, 3).shape == (0, 16)
    for wrong in (-1, len(shard)):
        with pytest.raises(IndexError):
            shard.row(wrong)


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    shard = open_shard(write(tmp_path, texts=[])[0])
    assert (len(shard), shard.tokens, len(shard.documents)) == (0, 0, 0)
    assert shard.input_ids.shape == (0, 16)
    shard.check()


def test_pyarrow_reads_the_same(shard: TokenShard) -> None:
    with pa.ipc.open_stream(shard.path) as stream:
        table = stream.read_all()
    lengths = table.column("seq_lengths").combine_chunks().flatten()
    assert pa.compute.sum(lengths).as_py() == shard.tokens
    assert np.array_equal(np.stack(table.column("input_ids").to_numpy()), shard.input_ids)


def test_polars_reads_the_same(shard: TokenShard) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.read_ipc_stream(shard.path)
    assert frame["input_ids"].dtype == polars.Array(polars.UInt16, 16)
    assert frame["seq_lengths"].list.sum().sum() == shard.tokens
    assert np.array_equal(frame["input_ids"].to_numpy(), shard.input_ids)
    assert frame["doc_start"].to_list() == shard.table.column("doc_start").to_pylist()


@pytest.mark.parametrize("vocab_size", [300, 70_000])
def test_hugging_face_maps_the_same(tmp_path: Path, vocab_size: int) -> None:
    datasets = pytest.importorskip("datasets")
    path, writer = write(tmp_path, info=replace(INFO, vocab_size=vocab_size))
    shard = open_shard(path)
    before = pa.total_allocated_bytes()
    dataset = datasets.Dataset.from_file(str(path))
    # The table lies in the mapped file: nothing but offsets was allocated for it.
    assert isinstance(dataset.data, datasets.table.MemoryMappedTable)
    assert pa.total_allocated_bytes() - before < writer.tokens
    mapped = dataset.data.table.column("input_ids").chunk(0).values.buffers()[1]
    assert _is_mapped(mapped.address, path)
    assert dataset.num_rows == len(shard)
    assert sum(sum(lengths) for lengths in dataset["seq_lengths"]) == shard.tokens
    found = np.asarray(dataset.with_format("numpy")["input_ids"][:])
    assert np.array_equal(found, shard.input_ids)


def _is_mapped(address: int, path: Path) -> bool:
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("needs /proc/self/maps to tell mapped memory from copies")
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return line.endswith(str(path))
    return False


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    whole = path.read_bytes()
    # pyarrow alone takes a stream that ends between two batches for a whole one.
    ends = []
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for _ in stream:
            ends.append(file.tell())
    for size in [0, 1, 8, 200, *ends, *(end - 1 for end in ends), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(IntegrityError, match=r"shard\.arrow"):
            open_shard(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(IntegrityError):
        open_shard(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.arrow"
    path.write_bytes(b"no Arrow at all, but long enough to be one" * 10)
    with pytest.raises(IntegrityError, match="cannot read"):
        open_shard(path)
    table = pa.table({"input_ids": [[1, 2]]})
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table)
    with pytest.raises(IntegrityError, match="got other data"):
        open_shard(path)
    later = table.replace_schema_metadata({"gristmill.format": "2"})
    with pa.ipc.new_stream(path, later.schema) as stream:
        stream.write_table(later)
    with pytest.raises(IntegrityError, match="got format 2"):
        open_shard(path)


def rewrite(path: Path, column: str, values: object) -> None:
    """The same shard with another column, as somebody's script would write it."""
    with pa.ipc.open_stream(path.read_bytes()) as stream:  # not mapped: the file is written anew
        table = stream.read_all()
    at = table.schema.get_field_index(column)
    table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.types[at]))
    with pa.ipc.new_stream(path, table.schema) as stream:
        stream.write_table(table.combine_chunks(), max_chunksize=INFO.rows_per_batch)


@pytest.mark.parametrize("column", ["doc_idx", "doc_start", "seq_lengths"])
def test_check_finds_wrong_columns(tmp_path: Path, column: str) -> None:
    path, _ = write(tmp_path)
    values = open_shard(path).table.column(column).to_pylist()
    values[0], values[3] = values[3], values[0]
    rewrite(path, column, values)
    with pytest.raises(IntegrityError, match=column):
        open_shard(path).check()


def test_check_finds_a_piece_in_the_wrong_row(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    values = open_shard(path).table.column("seq_lengths").to_pylist()
    values[0].append(values[1].pop(0))
    rewrite(path, "seq_lengths", values)
    with pytest.raises(IntegrityError, match="seq_lengths"):
        open_shard(path).check()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("text", 65, "hash"),
        ("text", 300, "token id 300"),
        ("end", 65, "lacks its mark"),
        ("padding", 65, "padded tail"),
    ],
)
def test_check_finds_wrong_tokens(tmp_path: Path, place: str, value: int, message: str) -> None:
    path, writer = write(tmp_path)
    assert writer.padding
    shard = open_shard(path)
    shard.check()
    ids = shard.input_ids.copy()
    start = shard.documents.column("start")[6].as_py()
    at = {"text": start, "end": start - 1, "padding": -1}[place]
    assert ids.flat[at] != value
    ids.flat[at] = value
    rewrite(path, "input_ids", ids.tolist())
    with pytest.raises(IntegrityError, match=message):
        open_shard(path).check()


def test_another_document_table_is_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", texts=TEXTS[:-1])
    shard = open_shard(path, tmp_path / "other" / "shard.documents.parquet")
    with pytest.raises(IntegrityError, match="do not belong together"):
        _ = shard.documents


def test_a_damaged_document_table_is_refused(tmp_path: Path) -> None:
    path, _ = write(tmp_path)
    table = path.with_name("shard.documents.parquet")
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(IntegrityError, match="cannot be read"):
        _ = open_shard(path).documents


def test_another_tokenizer_is_refused(shard: TokenShard) -> None:
    other = Bytes()
    other.sha256 = "0" * 64
    with pytest.raises(IntegrityError, match="tokenizer"):
        shard.text(0, other)


def test_metadata_says_what_made_the_shard(tmp_path: Path) -> None:
    path, writer = write(tmp_path)
    assert open_shard(path).info == INFO
    stored = pq.read_metadata(path.with_name("shard.documents.parquet")).metadata
    assert stored[b"gristmill.tokens"] == str(writer.tokens).encode()
    assert stored[b"gristmill.tokenizer_sha256"] == b"f" * 64


def test_an_error_leaves_no_shard_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "shard.arrow"
    writer = ShardWriter(path, tmp_path / "shard.documents.parquet", INFO)
    with pytest.raises(ValueError, match="token sequences"), writer:
        writer.write(documents(TEXTS), *ids_of(TEXTS[1:]))
    with pytest.raises(IntegrityError):
        open_shard(path)
