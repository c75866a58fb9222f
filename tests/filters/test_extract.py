"""Main text against pages with known content, and charsets against Python's codecs."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator

from filters.extract import decode, extract_html
from schemas.document import Repair

HTML = Path(__file__).parents[3] / "shared" / "data" / "html"
PAGE = """<!DOCTYPE html><html><head><meta charset="{}"><title>Titel</title>
<script>var x = 1;</script></head><body><nav><a href="/">Startseite</a> <a href="/x">Über</a></nav>
<main><article><h1>Größe</h1><p>Der erste Absatz über schöne Flüsse.</p>
<p>Der zweite Absatz.</p></article></main><footer>Impressum</footer></body></html>"""


def test_main_text_without_boilerplate() -> None:
    page = extract_html(PAGE.format("utf-8").encode())
    lines = [line for line in page.text.split("\n") if line]
    assert lines == ["Größe", "Der erste Absatz über schöne Flüsse.", "Der zweite Absatz."]
    assert (page.charset, page.repairs) == ("utf-8", 0)


@pytest.mark.parametrize(
    ("codec", "meta", "http", "repairs"),
    [
        ("utf-8", "utf-8", None, 0),
        ("utf-8", "", "utf-8", 0),
        ("cp1252", "iso-8859-1", None, 0),  # the label means windows-1252 on the web
        ("cp1252", "utf-8", "windows-1252", 0),  # HTTP wins over <meta>
        ("utf-8-sig", "iso-8859-1", None, 0),  # the mark wins over all
        ("utf-8-sig", "", "iso-8859-1", Repair.CHARSET),
        ("utf-16", "", None, 0),
        ("utf-8", "", "us-ascii-of-sorts", 0),
    ],
)
def test_charsets_of_pages(codec: str, meta: str, http: str | None, repairs: int) -> None:
    page = extract_html(PAGE.format(meta).encode(codec), http)
    assert "Der erste Absatz über schöne Flüsse." in page.text
    assert page.repairs == repairs


def test_a_wrong_declaration_is_noticed() -> None:
    text = "これは日本語の文章です。とても長い文章を書いています。" * 20
    found = decode(text.encode("shift_jis"), "utf-8")
    assert found.text == text
    assert found.repairs == Repair.CHARSET
    found = decode(text.encode(), "shift_jis")
    assert (found.text, found.charset) == (text, "utf-8")
    assert found.repairs == Repair.CHARSET


def test_a_few_bad_bytes_are_replaced_and_marked() -> None:
    data = "schöne Flüsse ".encode() * 50 + b"\xff" + "Größe".encode()
    found = decode(data, "utf-8")
    assert found.text.count("schöne") == 50
    assert "\ufffd" in found.text or found.repairs & Repair.CHARSET
    assert found.repairs


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), declared=st.sampled_from([None, "utf-8", "gbk", "x", ""]))
def test_any_bytes_decode_and_extract(data: bytes, declared: str | None) -> None:
    for found in (decode(data, declared), extract_html(data, declared)):
        found.text.encode()  # no surrogates
        assert 0 <= found.repairs < 32
    found = decode(data, "utf-8")
    if found.repairs == 0 and not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        assert found.text == data.decode()


def test_pages_without_content_are_empty() -> None:
    for page in (b"", b"<html></html>", b"<html><body/></html>", b"<script>x</script>"):
        assert extract_html(page).text == ""


@pytest.mark.skipif(not HTML.is_dir(), reason="needs ../shared/data/html and warc")
def test_snippets_of_real_pages() -> None:
    """trafilatura's pages: snippets that belong to the main text, and some that do not."""
    with open(HTML / "trafilatura.jsonl", encoding="utf-8") as file:
        pages = {page["url"]: page for page in map(json.loads, file)}
    wanted = found = unwanted = wrong = 0
    with open(HTML.parent / "warc" / "made__gold_pages.warc.gz", "rb") as file:
        for number, record in enumerate(ArchiveIterator(file)):
            page = pages.get(record.rec_headers.get_header("WARC-Target-URI"))
            if page is None or number % 4:
                continue
            text = _flat(extract_html(record.content_stream().read()).text)
            wanted += len(page["with"])
            found += sum(_flat(snippet) in text for snippet in page["with"])
            unwanted += len(page["without"])
            wrong += sum(_flat(snippet) in text for snippet in page["without"])
    assert wanted > 200 and unwanted > 200
    # Plain resiliparse; a parser that keeps everything has 1.0 and 1.0, one that fails 0 and 0.
    assert found / wanted > 0.8
    assert wrong / unwanted < 0.35


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)
