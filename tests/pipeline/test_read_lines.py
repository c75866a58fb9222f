"""Every line is read exactly once, however a file is cut, and damage is told in one place."""

import bz2
import gzip
import io
import json
import lzma
import zlib
from pathlib import Path

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.read import group, plan_inputs, read_slice, read_slices
from pipeline.read.compression import ChunkReader, Damaged, chunks, gzip_members
from pipeline.read.lines import Block, Defect, line_blocks
from schemas.document import BATCH_DOCUMENTS, RAW_DOCUMENT, REJECT, Repair
from schemas.errors import InputError
from schemas.recipe import Recipe

COMPRESS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstandard.ZstdCompressor(level=3).compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lz4": lambda data: pa.Codec("lz4").compress(data, asbytes=True),
}
SUFFIX = {"gzip": ".gz", "zstd": ".zst", "bz2": ".bz2", "xz": ".xz", "lz4": ".lz4"}

content = st.lists(
    st.one_of(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"a", b"{}"]), st.binary(max_size=12)),
    max_size=40,
).map(b"".join)


def recipe(*paths: Path, **settings: object) -> Recipe:
    source = {"name": "s", "paths": [str(p) for p in paths], **settings.pop("source", {})}
    return Recipe.model_validate({"name": "r", "sources": [source], **settings})


def read(made: Recipe) -> tuple[list[dict], list[dict]]:
    documents, rejects = [], []
    for one in plan_inputs(made):
        for batch in read_slice(one, made):
            assert batch.documents.schema == RAW_DOCUMENT
            assert batch.rejects.schema == REJECT
            batch.documents.validate(full=True)
            assert batch.documents.num_rows <= BATCH_DOCUMENTS
            documents += batch.documents.to_pylist()
            rejects += batch.rejects.to_pylist()
    return documents, rejects


def one_file(tmp_path: Path, data: bytes, name: str = "a.jsonl") -> tuple[list[dict], list[dict]]:
    path = tmp_path / name
    path.write_bytes(data)
    return read(recipe(path))


def lines_with_offsets(data: bytes) -> list[tuple[int, bytes]]:
    """The reference: what splitting the whole content gives."""
    found, offset = [], 0
    for line in data.split(b"\n"):
        if line:
            found.append((offset, line))
        offset += len(line) + 1
    return found


def lines_of(blocks: list[Block | Defect]) -> list[tuple[int, bytes]]:
    found = []
    for block in blocks:
        assert isinstance(block, Block)
        found += [(block.offset + at, line) for at, line in lines_with_offsets(block.data)]
    return found


@settings(max_examples=100, deadline=None)
@given(data=content, cuts=st.lists(st.integers(0, 500), max_size=6), window=st.integers(1, 40))
def test_byte_ranges_give_each_line_once(data: bytes, cuts: list[int], window: int) -> None:
    borders = sorted({0, len(data), *(min(c, len(data)) for c in cuts)})
    found = []
    for start, stop in zip(borders[:-1], borders[1:], strict=True):
        blocks = list(line_blocks(io.BytesIO(data), "", start=start, stop=stop, window=window))
        assert all(start <= offset < stop for offset, _ in lines_of(blocks))
        found += lines_of(blocks)
    assert found == lines_with_offsets(data)


@settings(max_examples=100, deadline=None)
@given(
    data=content,
    stripes=st.integers(1, 5),
    window=st.integers(1, 40),
    compression=st.sampled_from(["", *COMPRESS]),
)
def test_stripes_give_each_line_once(
    data: bytes, stripes: int, window: int, compression: str
) -> None:
    packed = COMPRESS[compression](data) if compression else data
    found = []
    for stripe in range(stripes):
        blocks = line_blocks(
            io.BytesIO(packed), compression, stripe=stripe, stripes=stripes, window=window
        )
        mine = lines_of(list(blocks))
        assert all(offset // window % stripes == stripe for offset, _ in mine)
        found += mine
    assert sorted(found) == lines_with_offsets(data)


@settings(max_examples=100, deadline=None)
@given(
    data=content.filter(bool),
    stripes=st.integers(1, 4),
    window=st.integers(1, 40),
    cut=st.integers(1, 30),
    compression=st.sampled_from(["gzip", "zstd", "xz"]),
)
def test_one_stripe_reports_a_truncation(
    data: bytes, stripes: int, window: int, cut: int, compression: str
) -> None:
    packed = COMPRESS[compression](data)
    packed = packed[: max(1, len(packed) - cut)]
    blocks = [
        block
        for stripe in range(stripes)
        for block in line_blocks(
            io.BytesIO(packed), compression, stripe=stripe, stripes=stripes, window=window
        )
    ]
    (defect,) = (b for b in blocks if isinstance(b, Defect))
    assert defect.reason == "truncated"
    before = sorted(lines_of([b for b in blocks if isinstance(b, Block)]))
    assert before == lines_with_offsets(data)[: len(before)]
    assert all(offset < defect.offset for offset, _ in before)


@pytest.mark.parametrize("stripes", [1, 3])
def test_too_long_lines_are_rejected_without_the_others(stripes: int) -> None:
    data = b"one\n" + b"x" * 100 + b"\n" + b"three\n" + b"y" * 99
    blocks = [
        block
        for stripe in range(stripes)
        for block in line_blocks(
            io.BytesIO(data), "", stripe=stripe, stripes=stripes, window=16, max_line=50
        )
    ]
    defects = sorted((b for b in blocks if isinstance(b, Defect)), key=lambda d: d.offset)
    assert [(d.offset, d.reason) for d in defects] == [(4, "line-too-long"), (111, "line-too-long")]
    assert lines_of([b for b in blocks if isinstance(b, Block)]) == [(0, b"one"), (105, b"three")]


@pytest.mark.parametrize("compression", COMPRESS)
def test_decompression_matches_the_library(compression: str) -> None:
    data = bytes(range(256)) * 9000
    packed = COMPRESS[compression](data)
    assert b"".join(chunks(io.BytesIO(packed), compression)) == data
    if compression != "lz4":  # members and frames in a row are one stream
        twice = packed + packed
        assert b"".join(chunks(io.BytesIO(twice), compression)) == data + data


def test_zero_padding_behind_gzip_is_no_damage() -> None:
    packed = COMPRESS["gzip"](b"x") + bytes(70_000)
    assert b"".join(chunks(io.BytesIO(packed), "gzip")) == b"x"


@pytest.mark.parametrize("compression", COMPRESS)
def test_truncation_yields_the_beginning_first(compression: str) -> None:
    data = b"".join(b"%d\n" % (i * 7919 % 100_003) for i in range(200_000))
    packed = COMPRESS[compression](data)
    got: list[bytes] = []  # extend keeps what came before the exception
    with pytest.raises(Damaged) as caught:
        got.extend(chunks(io.BytesIO(packed[: len(packed) // 2]), compression))
    assert caught.value.reason == "truncated"
    assert data.startswith(b"".join(got))
    if compression in ("gzip", "zstd", "xz"):  # the others have blocks of 900 kB and 4 MB
        assert len(b"".join(got)) > len(data) // 5


def test_corrupt_gzip_yields_all_that_zlib_can_decode() -> None:
    data = b"".join(b"%d\n" % (i * 7919 % 100_003) for i in range(50_000))
    packed = bytearray(COMPRESS["gzip"](data))
    packed[len(packed) // 2 : len(packed) // 2 + 8] = b"\xff" * 8
    decoder, reference = zlib.decompressobj(wbits=31), b""
    try:
        for byte in packed:
            reference += decoder.decompress(bytes([byte]))
    except zlib.error:
        pass
    got: list[bytes] = []  # extend keeps what came before the exception
    with pytest.raises(Damaged) as caught:
        got.extend(chunks(io.BytesIO(bytes(packed)), "gzip"))
    assert caught.value.reason == "corrupt"
    assert b"".join(got) == reference


def test_gzip_members_continue_behind_a_bad_one() -> None:
    members = [gzip.compress(bytes([65 + i]) * 1000 + bytes(range(256)), mtime=0) for i in range(4)]
    bad = bytearray(members[1])
    bad[20:30] = b"\xff" * 10
    got = list(gzip_members(io.BytesIO(b"".join([members[0], bytes(bad), *members[2:]]))))
    assert sum(isinstance(piece, Damaged) for piece in got) == 1
    text = b"".join(piece for piece in got if isinstance(piece, bytes))
    assert text.count(b"C") > 1000 and text.count(b"D") > 1000


def test_chunk_reader_keeps_the_damage_for_later() -> None:
    packed = COMPRESS["zstd"](b"some text")[:-2]
    reader = ChunkReader(chunks(io.BytesIO(packed), "zstd"))
    assert b"some text".startswith(reader.readall())
    assert reader.damage is not None and reader.damage.reason == "truncated"


# JSON lines


def test_own_and_made_ids(tmp_path: Path) -> None:
    data = b"""{"text":"a","id":"x"}\n\n{"text":"b","id":""}\r\n{"text":"c","id":7}
{"id":null,"text":"d"}"""
    documents, rejects = one_file(tmp_path, data)
    assert rejects == []
    assert [d["id"] for d in documents] == ["x", "s/a.jsonl#23", "7", "s/a.jsonl#65"]
    assert [d["position"] for d in documents] == [0, 23, 45, 65]
    assert [d["text"] for d in documents] == ["a", "b", "c", "d"]


def test_ids_do_not_depend_on_where_the_corpus_lies(tmp_path: Path) -> None:
    ids = []
    for folder in ("one", "two/deeper"):
        path = tmp_path / folder / "sub" / "a.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text('{"text":"a"}\n')
        made = recipe(tmp_path / folder / "**" / "*.jsonl")
        ids.append([d["id"] for d in read(made)[0]])
    assert ids == [["s/sub/a.jsonl#0"]] * 2


def test_fields_are_mapped(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"body":"t","key":"k","u":"http://x","when":2020,"lang":"de","text":"no"}\n')
    fields = {"text": "body", "id": "key", "url": "u", "date": "when", "language": "lang"}
    (document,), _ = read(recipe(path, source={"fields": fields}))
    assert document["text"] == "t"
    assert [document[k] for k in ("id", "url", "date", "language")] == [
        "k",
        "http://x",
        "2020",
        "de",
    ]


@pytest.mark.parametrize(
    ("line", "outcome", "reason"),
    [
        (b'{"text": "a"', "failed", "json"),
        (b'["a"]', "failed", "json"),
        (b"plain", "failed", "json"),
        (b'{"text":"a"}{"text":"b"}', "failed", "json"),
        (b'{"body": "a"}', "failed", "no-text"),
        (b'{"text": null}', "failed", "no-text"),
        (b'{"text": 3}', "failed", "text-type"),
        (b'{"text": ["a"]}', "failed", "text-type"),
        (b'{"text": ""}', "removed", "empty"),
        (b"[" * 100_000, "failed", "json"),
    ],
)
def test_bad_lines_are_rejected_in_place(
    tmp_path: Path, line: bytes, outcome: str, reason: str
) -> None:
    good = b'{"text":"good"}\n'
    documents, (reject,) = one_file(tmp_path, good + line + b"\n" + good)
    assert [d["text"] for d in documents] == ["good", "good"]
    assert (reject["outcome"], reject["reason"], reject["position"]) == (outcome, reason, len(good))
    if outcome == "failed":
        assert reject["raw"] == line[:4096]
        assert reject["raw_bytes"] == len(line)
        assert reject["message"]


def test_values_that_span_lines_are_not_joined(tmp_path: Path) -> None:
    documents, rejects = one_file(tmp_path, b'{"text":\n"a"}\n{"text":"b"}\n')
    assert [d["text"] for d in documents] == ["b"]
    assert [r["position"] for r in rejects] == [0, 9]


@pytest.mark.parametrize(
    ("raw", "text", "raw_bytes", "repairs"),
    [
        (b"caf\xc3\xa9", "café", 5, 0),
        (b"caf\xe9", "caf\ufffd", 4, Repair.INVALID_UTF8),
        (b"\xe4\xbd \xff\xfe", "\ufffd \ufffd\ufffd", 5, Repair.INVALID_UTF8),
        (rb"a\ud800b", "a\ufffdb", 5, Repair.SURROGATE),
        (rb"\udc80", "\ufffd", 3, Repair.SURROGATE),
        (rb"\ud83d\ude00", "\U0001f600", 4, 0),
        (b"\xff\\udfff", "\ufffd\ufffd", 4, Repair.INVALID_UTF8 | Repair.SURROGATE),
    ],
)
def test_undecodable_text_is_mended_and_marked(
    tmp_path: Path, raw: bytes, text: str, raw_bytes: int, repairs: int
) -> None:
    (document,), rejects = one_file(tmp_path, b'{"text":"' + raw + b'"}\n')
    assert rejects == []
    assert (document["text"], document["raw_bytes"], document["repairs"]) == (
        text,
        raw_bytes,
        repairs,
    )


def test_byte_order_mark_crlf_and_no_last_newline(tmp_path: Path) -> None:
    documents, rejects = one_file(tmp_path, b'\xef\xbb\xbf{"text":"a"}\r\n{"text":"b"}')
    assert rejects == []
    assert [(d["text"], d["position"]) for d in documents] == [("a", 0), ("b", 17)]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_empty_files_have_no_documents(tmp_path: Path, name: str) -> None:
    assert one_file(tmp_path, b"", name) == ([], [])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=[]), max_size=20),
            st.one_of(
                st.none(), st.integers(), st.text(max_size=3), st.floats(), st.lists(st.none())
            ),
            st.booleans(),
        ),
        max_size=12,
    ),
    crlf=st.booleans(),
)
def test_json_lines_read_as_the_standard_library_does(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple], crlf: bool
) -> None:
    lines = [json.dumps({"text": t, "id": i}, ensure_ascii=a) for t, i, a in rows]
    data = b"".join(
        line.encode("utf-8", "surrogatepass") + (b"\r\n" if crlf else b"\n") for line in lines
    )
    documents, rejects = one_file(tmp_path_factory.mktemp("jsonl"), data)
    assert len(documents) + len(rejects) == len(rows)
    expected = []
    for line in data.split(b"\n")[:-1]:
        text = json.loads(line.decode("utf-8", "replace"))["text"]
        text = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        if text:
            expected.append(text)
    assert [d["text"] for d in documents] == expected


def test_batches_are_the_same_with_and_without_the_fast_path(tmp_path: Path) -> None:
    rows = [{"text": "é" * (i % 97 + 1), "id": f"d{i}"} for i in range(5000)]
    sizes = []
    for end in ("\n", " \n"):  # a space sends every line down the slow path
        path = tmp_path / f"{len(end)}.jsonl"
        path.write_text("".join(json.dumps(r) + end for r in rows))
        made = recipe(path)
        sizes.append([b.documents.num_rows for s in plan_inputs(made) for b in read_slice(s, made)])
    assert sizes[0] == sizes[1] == [1000] * 5


# Planning


def corpus(tmp_path: Path, compression: str = "", lines: int = 4000) -> Path:
    rows = [json.dumps({"text": f"{i} " + "word " * (i % 50)}) + "\n" for i in range(lines)]
    data = "".join(rows).encode()
    path = tmp_path / f"big.jsonl{SUFFIX.get(compression, '')}"
    path.write_bytes(COMPRESS[compression](data) if compression else data)
    return path


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_a_big_file_is_cut_and_read_once(tmp_path: Path, compression: str) -> None:
    path = corpus(tmp_path, compression)
    planning = {"task_bytes": 1 << 16, "min_task_bytes": 1 << 12, "min_tasks": 5}
    made = recipe(path, planning=planning)
    slices = plan_inputs(made)
    # stripes are twice as large as other tasks
    assert len(slices) >= (3 if compression else 5)
    documents, rejects = read(made)
    assert rejects == []
    assert sorted(int(d["text"].split()[0]) for d in documents) == list(range(4000))
    assert len({d["id"] for d in documents}) == 4000
    whole = recipe(path, planning={"min_task_bytes": 1 << 30})
    assert len(plan_inputs(whole)) == 1
    assert {d["id"] for d in read(whole)[0]} == {d["id"] for d in documents}


def test_zstd_says_how_big_it_is(tmp_path: Path) -> None:
    path = corpus(tmp_path, "zstd")
    (one,) = plan_inputs(recipe(path))
    assert one.text_bytes == len(zstandard.decompress(path.read_bytes()))


def test_small_files_share_a_task_and_big_ones_do_not(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}.txt").write_text("x" * 1000)
    (tmp_path / "99.txt").write_text("x" * 50_000)
    made = recipe(tmp_path / "*.txt", planning={"min_task_bytes": 10_000, "min_tasks": 1_000})
    slices = plan_inputs(made)
    groups = group(slices, made)
    assert [s for g in groups for s in g] == slices
    assert [len(g) for g in groups] == [10, 10, 1]


def test_limit_takes_the_first_of_each_source_in_file_order(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(f'{{"text":"{name}{i}"}}\nbroken\n' for i in range(4))
        )
    made = Recipe.model_validate(
        {
            "name": "r",
            "sources": [
                {"name": "one", "paths": [str(tmp_path / "[ab].jsonl")]},
                {"name": "two", "paths": [str(tmp_path / "c.jsonl")]},
            ],
            "input": {"limit": 6},
        }
    )
    groups = group(plan_inputs(made), made)
    assert len(groups) == 2
    batches = [b for g in groups for b in read_slices(g, made)]
    texts = [t for b in batches for t in b.documents.column("text").to_pylist()]
    assert texts == ["a0", "a1", "a2", "a3", "b0", "b1", "c0", "c1", "c2", "c3"]
    # Lines behind the last document of a source were not looked at.
    assert sum(b.rejects.num_rows for b in batches) == 4 + 1 + 4


def test_sample_is_by_id_and_loses_nothing(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    all_ids = {d["id"] for d in read(recipe(path))[0]}
    documents, rejects = read(recipe(path, input={"sample": 0.25}))
    assert {d["id"] for d in documents} | {r["id"] for r in rejects} == all_ids
    assert {(r["outcome"], r["reason"], r["raw"]) for r in rejects} == {
        ("removed", "not-sampled", None)
    }
    assert abs(len(documents) - 1000) < 150  # five standard deviations
    planning = {"task_bytes": 1 << 16, "min_task_bytes": 1 << 12}
    again, _ = read(recipe(path, input={"sample": 0.25}, planning=planning))
    assert {d["id"] for d in again} == {d["id"] for d in documents}
    other, _ = read(recipe(path, input={"sample": 0.25}, seed=1))
    assert {d["id"] for d in other} != {d["id"] for d in documents}


def test_slices_survive_json(tmp_path: Path) -> None:
    (one,) = plan_inputs(recipe(corpus(tmp_path, "gzip")))
    assert type(one).from_json(json.loads(json.dumps(one.to_json()))) == one


def test_a_file_that_changed_after_planning_is_refused(tmp_path: Path) -> None:
    path = corpus(tmp_path)
    made = recipe(path)
    (one,) = plan_inputs(made)
    path.write_bytes(path.read_bytes() + b'{"text":"more"}\n')
    with pytest.raises(InputError, match="has changed since the run was planned"):
        list(read_slice(one, made))


def test_input_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"source 's'.*nothing-\*\.jsonl"):
        plan_inputs(recipe(tmp_path / "nothing-*.jsonl"))
    (tmp_path / "a.docx").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.docx.*\.jsonl.*\.zst"):
        plan_inputs(recipe(tmp_path / "a.docx"))
    (tmp_path / "a.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match="not below the root"):
        plan_inputs(recipe(tmp_path / "a.jsonl", source={"root": str(tmp_path / "other")}))


def test_names_with_brackets_are_found(tmp_path: Path) -> None:
    (tmp_path / "part[1].jsonl").write_text('{"text":"a"}\n')
    assert len(read(recipe(tmp_path / "part[1].jsonl"))[0]) == 1


def test_a_file_matched_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text":"a"}\n')
    assert len(read(recipe(tmp_path / "*.jsonl", tmp_path / "a.jsonl"))[0]) == 1


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_documents_before_the_damage_are_read(tmp_path: Path, compression: str) -> None:
    path = corpus(tmp_path, compression, lines=30_000)
    packed = path.read_bytes()
    path.write_bytes(packed[: len(packed) * 3 // 4])
    planning = {"task_bytes": 1 << 16, "min_task_bytes": 1 << 12}
    for made in (recipe(path), recipe(path, planning=planning)):
        documents, (reject,) = read(made)
        numbers = sorted(int(d["text"].split()[0]) for d in documents)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 10_000
        assert (reject["outcome"], reject["reason"]) == ("failed", "truncated")
