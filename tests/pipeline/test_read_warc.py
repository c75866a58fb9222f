"""WARC, WET and ARC: genuine records are extracted, the rest is quarantined or counted."""

import gzip
import io
import zlib
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.exceptions import ArchiveLoadFailed
from warcio.warcwriter import WARCWriter

from pipeline.read import plan_inputs, read_slice
from pipeline.read.compression import Damaged
from pipeline.read.http import media_type, parse_response
from pipeline.read.warc import BadRecord, Record, records
from schemas.recipe import Recipe

WARC = Path(__file__).parents[3] / "shared" / "data" / "warc"
PAGE = (
    b"<html><head><title>T</title></head><body><nav><a href='/'>Home</a></nav><main><article>"
    b"<h1>Head</h1><p>A paragraph of the main text, long enough to be taken for one.</p>"
    b"</article></main><footer>Imprint</footer></body></html>"
)


def read(path: Path) -> tuple[list[dict], list[dict]]:
    made = Recipe.model_validate({"name": "r", "sources": [{"name": "s", "paths": [str(path)]}]})
    documents, rejects = [], []
    for one in plan_inputs(made):
        for batch in read_slice(one, made):
            batch.documents.validate(full=True)
            documents += batch.documents.to_pylist()
            rejects += batch.rejects.to_pylist()
    return documents, rejects


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = "".join(f"{h}\r\n" for h in (f"HTTP/1.1 {status}", *headers))
    return head.encode() + b"\r\n" + body


def record(block: bytes, kind: str = "response", length: int | None = None, **extra: str) -> bytes:
    """A WARC record, written out by hand so that it can be wrong."""
    headers = {
        "WARC-Type": kind,
        "WARC-Target-URI": "http://example.org/a",
        "WARC-Date": "2024-01-02T03:04:05Z",
        "Content-Type": "application/http; msgtype=response",
        **{k.replace("_", "-"): v for k, v in extra.items()},
        "Content-Length": str(len(block) if length is None else length),
    }
    head = "WARC/1.0\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return head.encode() + b"\r\n" + block + b"\r\n\r\n"


# Real files

files = sorted(p.name for p in WARC.glob("*")) if WARC.is_dir() else []
real = pytest.mark.skipif(not files, reason="needs ../shared/data/warc")


def oracle(path: Path) -> Counter[str] | None:
    """Records by type as warcio reads them; None where it gives up."""
    try:
        with open(path, "rb") as file:
            return Counter(
                "warcinfo" if r.rec_type == "arc_header" else r.rec_type
                for r in ArchiveIterator(file, no_record_parse=True)
            )
    except ArchiveLoadFailed:
        return None


def framed(data: bytes, compression: str = "") -> list[Record | BadRecord]:
    return list(records(io.BytesIO(data), compression))


@real
@pytest.mark.parametrize("name", files)
def test_real_files_have_the_records_that_warcio_finds(name: str) -> None:
    documents, rejects = read(WARC / name)
    assert len({r["id"] for r in documents + rejects}) == len(documents) + len(rejects)
    failed = [r for r in rejects if r["outcome"] == "failed"]
    assert all(r["message"] and r["raw"] for r in failed)
    compression = {".gz": "gzip", ".lz4": "lz4"}.get(Path(name).suffix, "")
    with open(WARC / name, "rb") as file:
        found = list(records(file, compression))
    assert len(found) == len(documents) + len(rejects)
    expected = oracle(WARC / name)
    if expected is None:
        return
    got = Counter(r.headers["warc-type"] for r in found if isinstance(r, Record))
    got += Counter(r.headers["warc-type"] for r in found if isinstance(r, BadRecord) and r.headers)
    if name == "warcio__bad.arc":  # warcio takes lengths of -1 and "abc" for empty records
        assert sum(isinstance(r, BadRecord) for r in found) == 2
        assert got == {"response": 1}
    else:
        assert got == expected


@real
@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("chatnoir-resiliparse__clipped.warc.gz", ["truncated"]),
        ("warcio__bad.arc", ["warc-header", "warc-header"]),
        ("warcio__example-trunc.warc", ["http-body", "warc-header"]),
    ],
)
def test_broken_real_files_say_what_is_broken(name: str, reasons: list[str]) -> None:
    _, rejects = read(WARC / name)
    assert [r["reason"] for r in rejects if r["outcome"] == "failed"] == reasons


@real
def test_all_compressions_of_a_file_give_the_same_documents() -> None:
    read_each = [
        read(WARC / f"chatnoir-resiliparse__warcfile.warc{suffix}")
        for suffix in ("", ".gz", ".lz4")
    ]
    keys = ("text", "url", "date", "position", "raw_bytes")
    plain, *others = [[[d[k] for k in keys] for d in documents] for documents, _ in read_each]
    assert len(plain) == 16
    assert others == [plain, plain]


@real
def test_a_warc_and_an_arc_of_the_same_crawl_have_the_same_texts() -> None:
    warc, _ = read(WARC / "aut__example.warc.gz")
    arc, _ = read(WARC / "aut__example.arc.gz")
    assert len(warc) > 100
    assert {(d["url"], d["text"], d["date"]) for d in warc} == {
        (d["url"], d["text"], d["date"]) for d in arc
    }


@real
def test_wet_records_are_taken_as_they_are() -> None:
    (document,), rejects = read(WARC / "whirlwind-python__whirlwind.warc.wet.gz")
    with open(WARC / "whirlwind-python__whirlwind.warc.wet.gz", "rb") as file:
        (body,) = (
            r.content_stream().read() for r in ArchiveIterator(file) if r.rec_type == "conversion"
        )
    assert document["text"] == body.decode()
    assert [r["reason"] for r in rejects] == ["warc-warcinfo"]


@real
def test_http_bodies_are_what_warcio_decodes() -> None:
    compared = 0
    for name in ("aut__example.warc.gz", "pywb__iana.warc.gz", "dolma__sample-0000.warc.gz"):
        with open(WARC / name, "rb") as file:
            ours = [r for r in records(file, "gzip") if r.headers.get("warc-type") == "response"]
        with open(WARC / name, "rb") as file:
            for mine, theirs in zip(
                ours, (r for r in ArchiveIterator(file) if r.rec_type == "response"), strict=True
            ):
                if theirs.http_headers is not None:
                    body = theirs.content_stream().read()
                    assert parse_response(mine.block).body == body
                    compared += 1
    assert compared > 300


# Made files


@settings(max_examples=50, deadline=None)
@given(
    blocks=st.lists(st.binary(max_size=60), min_size=1, max_size=6),
    compression=st.sampled_from(["", "gzip"]),
)
def test_records_are_what_warcio_wrote(blocks: list[bytes], compression: str) -> None:
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=bool(compression))
    for i, block in enumerate(blocks):
        written = writer.create_warc_record(
            f"http://example.org/{i}",
            "resource",
            payload=io.BytesIO(block),
            length=len(block),
            warc_content_type="text/plain",
        )
        writer.write_record(written)
        written.raw_stream.close()  # a temporary file of warcio's
    found = framed(buffer.getvalue(), compression)
    assert [r.block for r in found if isinstance(r, Record)] == blocks
    assert [r.headers["warc-target-uri"] for r in found] == [
        f"http://example.org/{i}" for i in range(len(blocks))
    ]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_byte_of_a_broken_file_is_lost_or_read_twice(data: st.DataObject) -> None:
    whole = b"".join(record(response(b"body %d" % i, "Content-Type: text/plain")) for i in range(4))
    at = data.draw(st.integers(0, len(whole) - 1))
    n = data.draw(st.integers(0, 40))
    broken = whole[:at] + data.draw(st.binary(max_size=40)) + whole[at + n :]
    found = framed(broken)
    offsets = [r.offset for r in found]
    assert offsets == sorted(set(offsets))
    assert all(0 <= o < len(broken) for o in offsets)
    for one in found:
        if isinstance(one, Record):
            assert broken[one.offset : one.offset + 4] == b"WARC"
            assert one.block in broken
    # Records wholly before the defect are untouched, and so is the file's beginning.
    sound = [r for r in framed(whole) if isinstance(r, Record)]
    before = [r for r in sound if r.offset + len(whole) // 4 <= at]
    assert found[: len(before)] == before


def test_records_become_documents_or_say_why_not(tmp_path: Path) -> None:
    html, text = "Content-Type: text/html; charset=utf-8", "Content-Type: text/plain"
    parts = [
        record(b"software: x", "warcinfo", Content_Type="application/warc-fields"),
        record(b"GET / HTTP/1.1\r\n\r\n", "request"),
        record(response(PAGE, html)),
        record(response(b"plain\ntext", text)),
        record(response(PAGE, html, status="404 Not Found")),
        record(response(b"\x89PNG", "Content-Type: image/png")),
        record(response(b"<html></html>", html)),
        record(b"", "revisit"),
        record(PAGE, "resource", Content_Type="text/html"),
        record(b"converted", "conversion", Content_Type="text/plain"),
        record(b"?", "invention"),
        record(b"not http at all"),
        record(response(PAGE)),
    ]
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(gzip.compress(part) for part in parts))
    documents, rejects = read(path)
    assert [d["text"].split("\n")[0] for d in documents] == [
        "Head",
        "plain",
        "Head",
        "converted",
        "Head",
    ]
    for d in documents:
        assert "Imprint" not in d["text"]
        assert (d["url"], d["date"]) == ("http://example.org/a", "2024-01-02T03:04:05Z")
    starts = [sum(map(len, parts[:i])) for i in range(len(parts))]
    assert [d["position"] for d in documents] == [starts[i] for i in (2, 3, 8, 9, 12)]
    assert documents[0]["raw_bytes"] == len(PAGE)
    assert [(r["outcome"], r["reason"]) for r in rejects] == [
        ("removed", "warc-warcinfo"),
        ("removed", "warc-request"),
        ("removed", "http-status"),
        ("removed", "warc-not-text"),
        ("removed", "empty"),
        ("removed", "warc-revisit"),
        ("removed", "warc-other"),
        ("failed", "http"),
    ]


def test_a_corrupt_member_costs_one_record(tmp_path: Path) -> None:
    bodies = [bytes([65 + i]) * 300 for i in range(4)]
    members = [gzip.compress(record(response(b, "Content-Type: text/plain"))) for b in bodies]
    bad = bytearray(members[1])
    bad[len(bad) // 2 : len(bad) // 2 + 6] = b"\xff" * 6
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join([members[0], bytes(bad), *members[2:]]))
    documents, (reject,) = read(path)
    assert [d["text"][0] for d in documents] == ["A", "C", "D"]
    assert (reject["outcome"], reject["reason"]) == ("failed", "corrupt")


def test_a_wrong_content_length_costs_what_it_covers() -> None:
    good = record(response(b"x" * 50, "Content-Type: text/plain"))
    short = record(b"HTTP/1.1 200 OK\r\n\r\n" + b"y" * 50, length=30)
    long = record(b"z", length=10_000)
    found = framed(good + short + good + long)
    kinds = [type(r).__name__ for r in found]
    assert kinds == ["Record", "Record", "BadRecord", "Record", "BadRecord"]
    assert found[2].reason == "warc-header"
    assert found[4].reason == "truncated"
    for value in ("", "-1", "12x", "9" * 40):
        bad = good.replace(b"Content-Length: ", b"Content-Length: " + value.encode() + b"#")
        assert framed(bad + good)[0].reason == "warc-header"
        assert isinstance(framed(bad + good)[-1], Record)


def test_arc_headers_of_both_versions() -> None:
    head = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 10\n0123456789\n"
    one = b"http://a.org/x y 1.2.3.4 20200102030405 text/plain 4\nbody\n"
    two = b"http://b.org/ 1.2.3.4 20200102030405 text/html 200 - - 0 a.arc 4\nbody\n"
    for data in (head + one + two, one + two):
        found = [r for r in framed(data) if r.headers["warc-type"] == "response"]
        assert [r.headers["warc-target-uri"] for r in found] == [
            "http://a.org/x y",
            "http://b.org/",
        ]
        assert [r.headers["content-type"] for r in found] == ["text/plain", "text/html"]
        assert {r.headers["warc-date"] for r in found} == {"2020-01-02T03:04:05Z"}
        assert [r.block for r in found] == [b"body", b"body"]


# HTTP

BODY = b"some body, some body, some body"
CODED = {
    "gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "zstd": zstandard.compress(BODY),
}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_content_codings(coding: str) -> None:
    coded = CODED[coding]
    header = f"Content-Encoding: {coding}"
    assert parse_response(response(coded, header)).body == BODY
    # Stored decoded, with the headers of the wire: very common.
    assert parse_response(response(BODY, header)).body == BODY
    with pytest.raises(Damaged, match=r"."):
        parse_response(response(coded[:-6], header))
    half = len(coded) // 2
    chunked = b"%x\r\n%s\r\n%x;ext=1\r\n%s\r\n0\r\n\r\n" % (
        half,
        coded[:half],
        len(coded) - half,
        coded[half:],
    )
    both = response(chunked, header, "Transfer-Encoding: chunked")
    assert parse_response(both).body == BODY


def test_brotli_bodies() -> None:
    brotli = pytest.importorskip("brotli", reason="needs an encoder for brotli")
    header = "Content-Encoding: br"
    assert parse_response(response(brotli.compress(BODY), header)).body == BODY
    assert parse_response(response(b"<html>stored decoded", header)).body == b"<html>stored decoded"
    with pytest.raises(Damaged, match="brotli"):
        parse_response(response(brotli.compress(BODY * 100)[:-3], header))


def test_raw_deflate_as_some_servers_send_it() -> None:
    coder = zlib.compressobj(wbits=-15)
    coded = coder.compress(BODY) + coder.flush()
    assert parse_response(response(coded, "Content-Encoding: deflate")).body == BODY


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"4\r\nabcd\r\n0\r\n\r\n", b"abcd"),
        (b"4\r\nabcd\r\n", b"abcd"),
        (b"4\nabcd\n0\n\n", b"abcd"),
        (b"<html>no chunks", b"<html>no chunks"),
        (b"", b""),
        (b"4\r\nabcd\r\nzz\r\n", None),
        (b"4\r\nabcd\r\n9\r\nab", None),
    ],
)
def test_chunked_bodies(body: bytes, expected: bytes | None) -> None:
    block = response(body, "Transfer-Encoding: chunked")
    if expected is None:
        with pytest.raises(Damaged):
            parse_response(block)
    else:
        assert parse_response(block).body == expected


def test_response_heads() -> None:
    assert parse_response(b"HTTP/1.1 200\nContent-Type:text/html\n\nfoo").body == b"foo"
    folded = parse_response(b"HTTP/1.0 301 Moved\r\nA: b\r\n  c\r\na: second\r\nbad\r\n\r\n")
    assert (folded.status, folded.headers) == (301, {"a": "b c"})
    assert parse_response(b"HTTP/1.1 200 OK\r\nA: b").body == b""
    assert parse_response(b"<html>").status is None
    assert media_type('Text/HTML ; Charset="ISO-8859-1"') == ("text/html", "ISO-8859-1")
    assert media_type(None) == ("", None)
