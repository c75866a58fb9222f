"""The scrubber: spans in the original bytes, fixed points, bounds, windows against full text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.pii import ENTITIES, FINDING, PLACEHOLDERS, Bounds, Scrubbed, Scrubber
from filters.pii_domains import TOP_LEVEL_DOMAINS
from filters.pii_recognizers import recognizers

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
SCRUBBER = Scrubber()

VALUES = {
    "email": ["jane.doe@example.com", "müller@web.de", "a+b@mail.co.uk"],
    "phone": ["+49 30 1234567", "(212) 555-0187", "138-1234-5678", "0755-12345678", "030/1234567"],
    "ip": ["8.8.4.100", "2a00:1450:4001:81b::200e"],
    "card": ["4111 1111 1111 1111", "378282246310005"],
    "iban": ["DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432"],
}
FRAGMENTS = [v for values in VALUES.values() for v in values] + [
    *(
        "tel",
        "Tel.: ",
        "电话",
        "手机：",
        "fax ",
        "phone 2125550187",
        "13812345678",
        "020 7946 0958",
    ),
    *("@", "a@", ".", "-", " ", "\n", "0", "1", "+", "(", ")", "/", ":", "::", "中", "é", "€"),
    *("192.168.0.1", "v1.2.3.4", "04.02.2022", "2001:db8::1", "<EMAIL>", "<PHONE>", "DE89", "💥"),
    *("xn--80ak6aa92e", "example.com", "\u00a0", "01 23 45 67 89", "4111", "1111", "\u200b"),
]
TEXT = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)), max_size=12).map(
    "".join
)


def spans(scrubbed: Scrubbed) -> list[tuple[int, str, int, int]]:
    return [
        (f["document"], f["entity"], f["start"], f["end"]) for f in scrubbed.findings.to_pylist()
    ]


def replace(text: str, found: list[tuple[int, str, int, int]]) -> str:
    """The plain reference: cut out the spans, put placeholders in."""
    data = text.encode()
    for _, entity, start, end in reversed(found):
        data = data[:start] + PLACEHOLDERS[entity].encode() + data[end:]
    return data.decode()


@pytest.mark.parametrize("entity", ENTITIES)
@pytest.mark.parametrize(
    "around",
    [("", ""), ("before ", " after"), ("请看", "。谢谢"), ("«", "»"), ("(", ")"), ("é\n", "\n")],
)
def test_values_are_found_whole(entity: str, around: tuple[str, str]) -> None:
    for value in VALUES[entity]:
        left, right = around
        result = SCRUBBER.scrub(pa.array(["nothing", left + value + right]))
        start = len(left.encode())
        assert spans(result) == [(1, entity, start, start + len(value.encode()))], value
        assert result.text.to_pylist() == ["nothing", left + PLACEHOLDERS[entity] + right]
        assert result.findings.schema.equals(FINDING)
        assert not result.failed


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, max_size=5))
def test_only_spans_change_and_nothing_is_left(texts: list[str]) -> None:
    array = pa.array(texts, pa.string())
    result = SCRUBBER.scrub(array)
    found = spans(result)
    assert found == sorted(found, key=lambda f: (f[0], f[2]))
    for (d1, _, _, end), (d2, _, start, _) in zip(found, found[1:], strict=False):
        assert d1 < d2 or end <= start, "spans of a document do not overlap"
    expected = [replace(t, [f for f in found if f[0] == i]) for i, t in enumerate(texts)]
    assert result.text.to_pylist() == expected
    result.text.validate(full=True)
    # Downstream data is scrubbed again without harm: the result is a fixed point.
    again = SCRUBBER.scrub(result.text)
    assert spans(again) == []
    assert again.text.equals(result.text)
    # Neither the neighbours in a batch nor the array's offset matter.
    alone = [spans(SCRUBBER.scrub(pa.array([t]))) for t in texts]
    assert [[(0, *f[1:]) for f in found if f[0] == i] for i in range(len(texts))] == alone
    padded = pa.array(["tel ", *texts, "138"], pa.string()).slice(1, len(texts))
    assert SCRUBBER.scrub(padded).text.to_pylist() == expected


def windows_and_full(
    texts: list[str], entity: str
) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Bytes covered by the scrubber's first pass, and by the recognizer on whole documents."""
    scrubber = Scrubber((entity,), bounds=Bounds(rounds=1))
    recognizer = recognizers()[entity]
    windowed: set[tuple[int, int]] = set()
    full: set[tuple[int, int]] = set()
    result = scrubber.scrub(pa.array(texts, pa.string()))
    for row, _, start, end in spans(result):
        windowed.update((row, at) for at in range(start, end))
    for row, text in enumerate(texts):
        if row in result.failed:  # only settles in a later round, which is another text
            continue
        for found in recognizer.analyze(text, recognizer.supported_entities):
            start = len(text[: found.start].encode())
            end = start + len(text[found.start : found.end].encode())
            full.update((row, at) for at in range(start, end))
    return windowed, full


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, max_size=4), st.sampled_from(sorted(ENTITIES)))
def test_windows_lose_nothing(texts: list[str], entity: str) -> None:
    """The scan and its windows find what the recognizer finds in the whole text."""
    windowed, full = windows_and_full(texts, entity)
    assert full <= windowed


@pytest.mark.parametrize("entity", ENTITIES)
def test_windows_lose_nothing_on_real_text(entity: str) -> None:
    path = SHARED / "pii" / "presidio_research.jsonl"
    if not path.exists():
        pytest.skip(f"needs {path}")
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    windowed, full = windows_and_full(texts, entity)
    assert windowed == full
    assert full or entity == "iban", "these texts have no IBAN, but all the others"


def test_overlapping_spans_become_one() -> None:
    # An address inside a mail address; the union goes, under the name that comes first.
    result = SCRUBBER.scrub(pa.array(["write to jo@8.8.4.100.example.com now"]))
    assert result.text.to_pylist() == ["write to <EMAIL> now"]


def test_a_context_word_that_comes_into_reach_is_settled_in_one_call() -> None:
    text = f"tel: {'x' * 60}@example.com 0171 1234567"
    first = SCRUBBER.scrub(pa.array([text]))
    assert first.text.to_pylist() == ["tel: <EMAIL> <PHONE>"]
    assert [text.encode()[s:e].decode() for _, _, s, e in spans(first)] == [
        "x" * 60 + "@example.com",
        "0171 1234567",
    ]


def test_only_the_wanted_entities() -> None:
    text = pa.array(["a@b.com +49 30 1234567"])
    assert Scrubber(("phone",)).scrub(text).text.to_pylist() == ["a@b.com <PHONE>"]
    assert Scrubber(()).scrub(text).text.equals(text)
    with pytest.raises(ValueError, match="unknown entities ssn; valid are iban, card"):
        Scrubber(("ssn",))


def test_empty_batches_and_texts() -> None:
    assert SCRUBBER.scrub(pa.array([], pa.string())).text.to_pylist() == []
    assert SCRUBBER.scrub(pa.array(["", ""])).text.to_pylist() == ["", ""]
    assert SCRUBBER.scrub(pa.array(["", "a@b.com", ""])).text.to_pylist() == ["", "<EMAIL>", ""]


def test_documents_beyond_a_bound_fail_closed() -> None:
    texts = ["a@b.com", "c@d.com " * 4, "x" * 50, "last e@f.com"]
    result = Scrubber(bounds=Bounds(bytes=40, candidates=3)).scrub(pa.array(texts))
    assert sorted(result.failed) == [1, 2]
    assert "4 places" in result.failed[1] and "50 bytes" in result.failed[2]
    assert result.text.to_pylist() == ["<EMAIL>", "", "", "last <EMAIL>"]
    assert spans(result) == [(0, "email", 0, 7), (3, "email", 5, 12)]
    assert "@" not in str(result.failed)
    unsettled = Scrubber(bounds=Bounds(rounds=1)).scrub(
        pa.array([f"tel: {'x' * 60}@example.com 0171 1234567", "a@b.com"])
    )
    assert list(unsettled.failed) == [0]
    assert unsettled.text.to_pylist() == ["", "<EMAIL>"]


ATTACKS = [
    *("@", "a@a", "a@a.", "a.b@c.d.e.f@", "1", ".", "1.", "1.1.", "01 ", "0-", "(0", "+1", "1-"),
    *("00 49 ", "555-", "2001:", "::", "4111 ", "411111111111111 ", "DE89 ", "DE", "é@é.", "-"),
    "a" * 300 + "@" + "b." * 200,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_attack_strings_of_a_megabyte(attack: str) -> None:
    """Anything worse than linear would not end: a quadratic pattern needs 10^12 steps here."""
    text = attack * ((1 << 20) // len(attack.encode()))
    result = SCRUBBER.scrub(pa.array([text, "then a@b.com"]))
    assert result.text[1].as_py() == "then <EMAIL>"
    assert not result.failed
    assert replace(text, [s for s in spans(result) if s[0] == 0]) == result.text[0].as_py()


@pytest.mark.parametrize(
    ("dense", "placeholder"),
    [("a@b.co ", "<EMAIL> "), ("中13812345678", "中<PHONE>"), ("81.2.69.142 ", "<IP> ")],
)
def test_dense_findings(dense: str, placeholder: str) -> None:
    n = (1 << 18) // len(dense.encode())
    result = SCRUBBER.scrub(pa.array([dense * n]))
    assert result.findings.num_rows == n
    assert result.text[0].as_py() == placeholder * n


def test_findings_point_into_the_original_bytes_of_a_slice() -> None:
    array = pa.array(["skipped x@y.org", "é tel +49 30 1234567", "中a@b.com"]).slice(1)
    result = SCRUBBER.scrub(array)
    values = [
        array[row].as_py().encode()[start:end].decode() for row, _, start, end in spans(result)
    ]
    assert values == ["+49 30 1234567", "a@b.com"]
    assert np.all(np.diff(result.findings["document"].to_numpy()) >= 0)


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        ("Tel: 555-1234 / 2024-05-01", "Tel: <PHONE> / 2024-05-01"),
        ("Tel. 22 33 44 55 2024-05-01", "Tel. <PHONE> 2024-05-01"),
        ("AB12 DE89 3704 0044 0532 0130 00", "AB12 <IBAN>"),
        ("DE00370400440532013000 DE89370400440532013000.", "DE00370400440532013000 <IBAN>."),
    ],
)
def test_a_number_is_found_beside_another(text: str, scrubbed: str) -> None:
    assert Scrubber().scrub(pa.array([text])).text.to_pylist() == [scrubbed]


def test_top_level_domains_are_letters() -> None:
    assert all(name.isalpha() for name in TOP_LEVEL_DOMAINS)
