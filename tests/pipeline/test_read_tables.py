"""CSV, Parquet, Arrow and plain text: records to documents, defects to the quarantine."""

import csv
import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.read import plan_inputs, read_slice
from schemas.document import Repair
from schemas.recipe import Recipe

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def recipe(path: Path, **settings: object) -> Recipe:
    source = {"name": "s", "paths": [str(path)], **settings.pop("source", {})}
    return Recipe.model_validate({"name": "r", "sources": [source], **settings})


def read(made: Recipe) -> tuple[list[dict], list[dict]]:
    documents, rejects = [], []
    for one in plan_inputs(made):
        for batch in read_slice(one, made):
            batch.documents.validate(full=True)
            documents += batch.documents.to_pylist()
            rejects += batch.rejects.to_pylist()
    return documents, rejects


def read_bytes(path: Path, data: bytes, **settings: object) -> tuple[list[dict], list[dict]]:
    path.write_bytes(data)
    return read(recipe(path, **settings))


# CSV

cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(cell, cell), max_size=8), tabs=st.booleans())
def test_csv_is_what_the_csv_module_wrote(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], tabs: bool
) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter="\t" if tabs else ",")
    writer.writerows([("url", "text"), *rows])
    path = tmp_path_factory.mktemp("csv") / ("a.tsv" if tabs else "a.csv")
    documents, rejects = read_bytes(path, buffer.getvalue().encode())
    filled = [(i, url, text) for i, (url, text) in enumerate(rows) if text]
    assert [(d["position"], d["url"] or "", d["text"]) for d in documents] == filled
    assert {r["reason"] for r in rejects} <= {"empty"}
    assert len(documents) + len(rejects) == len(rows)


@pytest.mark.parametrize("suffix", PACK)
def test_csv_with_mark_quoted_newlines_and_odd_rows(tmp_path: Path, suffix: str) -> None:
    data = (
        b'\xef\xbb\xbfid,text\r\n1,"a\r\nb ""c"""\r\n2\r\n3,d,e\r\n\r\n'
        b"4,caf\xe9\r\n5,\r\n6,n\0ul\r\n7,z"
    )
    documents, rejects = read_bytes(tmp_path / f"a.csv{suffix}", PACK[suffix](data))
    assert [(d["id"], d["text"], d["repairs"]) for d in documents] == [
        ("1", 'a\r\nb "c"', 0),
        ("4", "caf\ufffd", Repair.INVALID_UTF8),
        ("6", "nul", Repair.NUL),
        ("7", "z", 0),
    ]
    assert [(r["position"], r["reason"]) for r in rejects] == [
        (1, "ragged"),
        (2, "ragged"),
        (4, "empty"),
    ]
    assert rejects[0]["raw"] == b"2\r\n"
    assert documents[1]["raw_bytes"] == 4


def test_csv_without_the_text_column_says_what_it_has(tmp_path: Path) -> None:
    documents, (reject,) = read_bytes(tmp_path / "a.csv", b"id,body\n1,a\n")
    assert documents == []
    assert reject["reason"] == "no-text"
    assert "'text'" in reject["message"] and "id, body" in reject["message"]


def test_csv_with_an_unclosed_quote_is_rejected_at_its_record(tmp_path: Path) -> None:
    documents, (reject,) = read_bytes(tmp_path / "a.csv", b'text\ngood\n"open\nnever closed\n')
    assert [d["text"] for d in documents] == ["good"]
    assert (reject["position"], reject["reason"], reject["outcome"]) == (1, "csv", "failed")


def test_truncated_csv_keeps_the_beginning(tmp_path: Path) -> None:
    data = gzip.compress(b"text\n" + b"".join(b"row %d\n" % i for i in range(50_000)))
    documents, rejects = read_bytes(tmp_path / "a.csv.gz", data[: len(data) // 2])
    assert [d["text"] for d in documents] == [f"row {i}" for i in range(len(documents))]
    assert len(documents) > 10_000
    assert [r["reason"] for r in rejects] == ["truncated"]


# Parquet and Arrow


def table(rows: int) -> pa.Table:
    return pa.table(
        {
            "text": [f"text {i}" for i in range(rows)],
            "id": pa.array([i * 10 for i in range(rows)], pa.int32()),
            "url": pa.array([f"http://x/{i}" for i in range(rows)]).dictionary_encode(),
            "other": [[i] for i in range(rows)],
        }
    )


@pytest.mark.parametrize("suffix", PACK)
def test_parquet_by_row_groups(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.parquet{suffix}"
    buffer = io.BytesIO()
    pq.write_table(table(5000), buffer, row_group_size=700)
    path.write_bytes(PACK[suffix](buffer.getvalue()))
    made = recipe(path, planning={"task_bytes": 1 << 16, "min_task_bytes": 1, "min_tasks": 3})
    assert len(plan_inputs(made)) == (1 if suffix else 4)
    documents, rejects = read(made)
    assert rejects == []
    assert [d["text"] for d in documents] == [f"text {i}" for i in range(5000)]
    assert [d["id"] for d in documents] == [str(i * 10) for i in range(5000)]
    assert [d["position"] for d in documents] == list(range(5000))
    assert documents[7]["url"] == "http://x/7"


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.dictionary(pa.int8(), pa.string()),
    ],
)
def test_all_string_types_are_text(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["a", "é", None, "", "b"]
    column = pa.array(values, pa.string())
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    path = tmp_path / "a.arrow"
    with pa.ipc.new_stream(str(path), pa.schema([("text", column.type)])) as writer:
        writer.write_batch(pa.record_batch([column], names=["text"]))
    documents, rejects = read(recipe(path))
    assert [(d["position"], d["text"]) for d in documents] == [(0, "a"), (1, "é"), (4, "b")]
    assert [(r["position"], r["reason"]) for r in rejects] == [(2, "no-text"), (3, "empty")]


def test_parquet_with_undecodable_strings(tmp_path: Path) -> None:
    # Writers that do not check leave such bytes in string columns.
    raw = pa.array([b"good", b"caf\xe9"], pa.binary())
    column = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": column}), path)
    documents, rejects = read(recipe(path))
    assert rejects == []
    assert [(d["text"], d["raw_bytes"], d["repairs"]) for d in documents] == [
        ("good", 4, 0),
        ("caf\ufffd", 4, Repair.INVALID_UTF8),
    ]


def test_a_damaged_row_group_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(table(3000), path, row_group_size=1000, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 200] = b"\xff" * 200
    documents, (reject,) = read_bytes(path, bytes(data))
    assert [d["position"] for d in documents] == [*range(1000), *range(2000, 3000)]
    assert (reject["position"], reject["reason"], reject["outcome"]) == (1000, "corrupt", "failed")


@pytest.mark.parametrize("data", [b"", b"PAR1 no footer", b"x" * 100])
def test_files_that_are_no_parquet_are_rejected(tmp_path: Path, data: bytes) -> None:
    documents, (reject,) = read_bytes(tmp_path / "a.parquet", data)
    assert documents == []
    assert (reject["reason"], reject["outcome"]) == ("corrupt", "failed")


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("stream", [True, False])
def test_arrow_streams_and_files(tmp_path: Path, stream: bool, suffix: str) -> None:
    buffer = io.BytesIO()
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(buffer, table(1).schema) as writer:
        for batch in table(2500).to_batches(max_chunksize=1100):
            writer.write_batch(batch)
    name = ("a.arrow" if stream else "a.feather") + suffix
    documents, rejects = read_bytes(tmp_path / name, PACK[suffix](buffer.getvalue()))
    assert rejects == []
    assert [d["text"] for d in documents] == [f"text {i}" for i in range(2500)]
    assert [d["position"] for d in documents] == list(range(2500))


def test_a_truncated_arrow_file_keeps_its_whole_batches(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    texts = table(3000).select(["text"])
    with pa.ipc.new_file(buffer, texts.schema) as writer:
        for batch in texts.to_batches(max_chunksize=1000):
            writer.write_batch(batch)
    data = buffer.getvalue()
    documents, (reject,) = read_bytes(tmp_path / "a.arrow", data[: len(data) // 2])
    assert [d["position"] for d in documents] == list(range(1000))
    assert (reject["position"], reject["outcome"]) == (1000, "failed")


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_missing_text_column_says_what_there_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    body = pa.table({"body": ["a", "b"], "id": [1, 2]})
    if name == "a.parquet":
        pq.write_table(body, path)
    else:
        with pa.ipc.new_file(str(path), body.schema) as writer:
            writer.write_table(body)
    documents, (reject,) = read(recipe(path))
    assert documents == []
    assert reject["reason"] == "no-text" and "body, id" in reject["message"]


# Plain text


def test_text_by_file_line_and_paragraph(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfone\r\ntwo\n\n \t\nthree\nf\xffur\n"
    path = tmp_path / "a.txt"
    (whole,), rejects = read_bytes(path, b"one\ntwo\n")
    assert (whole["text"], whole["id"], rejects) == ("one\ntwo\n", "s/a.txt#0", [])
    lines, rejects = read_bytes(path, data, source={"text_unit": "line"})
    assert [(d["position"], d["text"]) for d in lines] == [
        (0, "one"),
        (8, "two"),
        (16, "three"),
        (22, "f\ufffdur"),
    ]
    assert lines[-1]["repairs"] == Repair.INVALID_UTF8 and rejects == []
    paragraphs, rejects = read_bytes(path, data, source={"text_unit": "paragraph"})
    assert [(d["position"], d["text"]) for d in paragraphs] == [
        (0, "one\r\ntwo"),
        (16, "three\nf\ufffdur"),
    ]
    assert rejects == []


@pytest.mark.parametrize(
    ("data", "text", "repairs"),
    [
        ("Grüße".encode("utf-16"), "Grüße", 0),
        ("Grüße".encode(), "Grüße", 0),
        ("Die Bücher müssen schön für Österreich sein. ".encode("cp1252") * 9, None, 0),
        (b"", None, 0),
    ],
)
def test_a_text_file_may_have_any_charset(
    tmp_path: Path, data: bytes, text: str | None, repairs: int
) -> None:
    documents, rejects = read_bytes(tmp_path / "a.md", data)
    if not data:
        assert documents == [] and [r["reason"] for r in rejects] == ["empty"]
        return
    expected = text or "Die Bücher müssen schön für Österreich sein. " * 9
    assert [(d["text"], d["repairs"], d["raw_bytes"]) for d in documents] == [
        (expected, repairs, len(data))
    ]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_of_text_are_split_like_json_lines(tmp_path: Path, suffix: str) -> None:
    data = b"".join(b"line %d\n" % i for i in range(30_000))
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(gzip.compress(data) if suffix else data)
    planning = {"task_bytes": 1 << 16, "min_task_bytes": 1 << 12}
    made = recipe(path, source={"text_unit": "line"}, planning=planning)
    assert len(plan_inputs(made)) > 3
    documents, rejects = read(made)
    assert rejects == []
    assert sorted(int(d["text"].split()[1]) for d in documents) == list(range(30_000))


def test_a_flipped_bit_in_an_arrow_offset_is_a_reject(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    table = pa.table({"text": [f"text {n}" for n in range(100)]})
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data = bytearray(sink.getvalue().to_pybytes())
    at = bytes(data).index((6 * 50 + 40).to_bytes(4, "little"))  # an offset in the middle
    data[at + 3] = 0x40
    documents, rejects = read_bytes(tmp_path / "a.arrow", bytes(data))
    assert documents == []
    assert [r["reason"] for r in rejects] == ["corrupt"]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_two_columns_of_one_name_are_no_text(tmp_path: Path, suffix: str) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(path, table.schema) as stream:
            stream.write_table(table)
    documents, rejects = read(recipe(path))
    assert (documents, [r["outcome"] for r in rejects]) == ([], ["failed"])


def test_a_paragraph_larger_than_a_window_is_one_document(tmp_path: Path) -> None:
    paragraph = "".join(f"line {n} of a long paragraph\n" for n in range(80_000))
    data = f"first\n\n{paragraph}\nlast\n".encode()
    assert len(data) > 2 << 20
    documents, rejects = read_bytes(tmp_path / "a.txt", data, source={"text_unit": "paragraph"})
    assert rejects == []
    assert [d["text"] for d in documents] == ["first", paragraph.rstrip("\n"), "last"]
