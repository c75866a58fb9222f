"""The counting kernels against plain-Python references, and against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import reference_signals as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import kernel_repeats, signals

NAMES = [spec.name for spec in signals.SIGNALS]
BENCH = Path(__file__).parents[3] / "shared" / "data" / "bench"

# Pieces that the definitions turn on; Hypothesis puts them together in every order.
PIECES = [
    "the", "The,", "«with»", "to-be", "of…", "...", "....", ". ", ".", "!", "?!", '."', ".)",
    "e.g. ", "3.14", "#", "##", "- ", "•", "\n", "\n\n", "\n \n", " \n", " ", "  ", "\t",
    "\u3000", "\u00a0", "\u2028", "\x1c", "漢", "字。", "かな", "カー", "ไทย", "ກ", "ក", "မ",
    "한국어", "،", "؟", "।", "é", "e\u0301", "\u0301", "Ä", "𝒳", "😀", "👩‍👩‍👧", "𠀀", "{",
    "}", "javascript", "JavaScript", "Lorem ipsum", "terms of use", "Privacy Policy",
    "cookie policy", "uses cookies", "use cookies", "use of Cookies", "abcdefgh", "abcdefghi",
    "abcdefghj", "a", "b", "a b a b a b", "\x00", "a\x00", "١٢", "ⅷ", "ﬀ", "İ", "\ufeff",
    "\u200b", "\ue000", "\U0010ffff", "line of text\n", "x" * 31,
]  # fmt: skip

LANGUAGES = [
    'The quick brown fox jumps over the lazy dog. It didn\'t wait... and "left." Then?',
    "我能吞下玻璃而不伤身体。我能吞下玻璃,而不伤身体!“真的吗?”他问。\n\n我能吞下玻璃而不伤身体。",
    "私はガラスを食べられます。それは私を傷つけません。ＡＢＣ 123",
    "ฉันกินกระจกได้ แต่มันไม่ทำให้ฉันเจ็บ",
    "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요",
    "मैं काँच खा सकता हूँ और मुझे उससे कोई चोट नहीं पहुंचती।",
    "أنا قادر على أكل الزجاج و هذا لا يؤلمني؟",
    "Я могу есть стекло, оно мне не вредит. Ich kann Glas essen, ohne mir zu schaden!",
    "ຂ້ອຍກິນແກ້ວໄດ້ ខ្ញុំអាចញុំកញ្ចក់បាន។ ကျွန်တော် မှန်စားနိုင်တယ်။",
    "",
    "\n",
    "\n\n\n",
    " \n \n",
    "a",
    "#",
    "😀😀😀",
    "\u0301\u0301\u0301",
    "no newline at the end\nno newline at the end",
    "\n\n  first\n\n\nsecond  \n\n   \n\nfirst\n\n  first\n\n \n",
]

UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
MIXED = st.lists(st.one_of(st.sampled_from(PIECES), UNICODE), max_size=30).map("".join)
REPEATING = st.lists(st.sampled_from(["a", "b", "cc", "漢", "\n", "longer-word-here"]), max_size=80)


def check(texts: list[str], array: pa.StringArray | None = None) -> None:
    """Compare every signal of every text, exactly."""
    array = pa.array(texts, pa.string()) if array is None else array
    batch = signals.compute_signals(array, None, NAMES)
    assert batch.schema.names == NAMES
    for text, row in zip(texts, batch.to_pylist(), strict=True):
        assert row == reference.signals(text), repr(text[:200])


def test_built_in_texts() -> None:
    check(LANGUAGES)


@settings(max_examples=60, deadline=None)
@given(st.lists(MIXED, max_size=4))
def test_made_up_texts(texts: list[str]) -> None:
    check(texts)


@settings(max_examples=100, deadline=None)
@given(REPEATING, st.sampled_from([" ", "", "\n"]))
def test_repeating_texts(pieces: list[str], separator: str) -> None:
    check([separator.join(pieces)])


@settings(max_examples=40, deadline=None)
@given(st.lists(MIXED, min_size=1, max_size=6), st.data())
def test_slices_see_only_their_documents(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    check(texts[start:stop], pa.array(texts, pa.string())[start:stop])


BLOCK_ENDS = [
    "the and, (with) that", "... .\" 3.14?! a",
    "cookie policy\njavascript\nLorem ipsum\nterms of use",
    "漢、字。the漢 …•", "\u3000é\u0301 \U0001f600- # {", "\n\n \n- a\n",
]  # fmt: skip


@pytest.mark.parametrize("piece", BLOCK_ENDS)
@pytest.mark.parametrize("before", ["x", " ", "é", "a b "])
def test_every_place_in_a_block_is_the_same(piece: str, before: str) -> None:
    """The scan goes in steps of 57 to 60 bytes: whatever stands across their ends must count."""
    check([before * (k // len(before.encode())) + piece + " z" for k in range(30, 126)])


def test_no_documents() -> None:
    batch = signals.compute_signals(pa.array([], pa.string()), None, NAMES)
    assert batch.num_rows == 0
    assert batch.schema == signals.signal_schema(NAMES)


@pytest.mark.parametrize("name", ["english_docs", "multilingual_docs"])
def test_real_texts(name: str) -> None:
    path = BENCH / f"{name}.jsonl.zst"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    texts = []
    with pa.input_stream(str(path), compression="zstd") as stream:
        for k, line in enumerate(stream.read(24 << 20).split(b"\n")[:-1]):
            text = json.loads(line)["text"]
            if k % 23 == 0 and len(text) < 20_000:
                texts.append(text)
    check(texts[:250])


def test_narrow_signals_have_the_same_values() -> None:
    array = pa.array(LANGUAGES)
    everything = signals.compute_signals(array, None, NAMES)
    wanted = ["words", "top_2gram_character_fraction", "bytes"]
    narrow = signals.compute_signals(array, None, wanted)
    assert narrow.schema.names == ["bytes", "words", "top_2gram_character_fraction"]
    for name in wanted:
        assert narrow.column(name).equals(everything.column(name))
    for name in NAMES:  # also where n-grams are not counted
        assert signals.compute_signals(array, None, [name]).column(0).equals(everything[name])


def test_stop_words_are_null_for_other_languages() -> None:
    array = pa.array(["the and"] * 5)
    language = pa.array(["en", None, "de", "en-GB", "enm"])
    batch = signals.compute_signals(array, language, ["stop_words", "words"])
    assert batch.column("stop_words").to_pylist() == [2, 2, None, 2, None]
    assert batch.column("words").to_pylist() == [2] * 5


def test_unknown_signal_is_named() -> None:
    with pytest.raises(KeyError, match="no_such_signal"):
        signals.compute_signals(pa.array(["a"]), None, ["no_such_signal"])


def one(text: str) -> dict[str, int | float | None]:
    row: dict[str, int | float | None] = signals.compute_signals(
        pa.array([text]), None, NAMES
    ).to_pylist()[0]
    return row


def test_counts_made_by_hand() -> None:
    """The reference could share a wrong idea with the kernel; these numbers were counted."""
    row = one("To be, or not to be... that's #1?\n- Yes.\n\nTo be, or not to be... that's #1?")
    assert row["words"] == 8 + 2 + 8
    assert row["nonsymbol_words"] == 17  # less the dash
    assert row["sentences"] == 2 + 1 + 2
    assert (row["lines"], row["nonblank_lines"], row["paragraphs"]) == (4, 3, 2)
    assert row["bullet_line_fraction"] == 1 / 4
    assert row["terminal_line_fraction"] == 1.0
    assert row["short_line_fraction"] == 1 / 3
    assert row["stop_words"] == 2
    assert row["stop_word_fraction"] == 8 / 18
    assert row["hash_word_ratio"] == 2 / 18
    assert row["duplicate_line_fraction"] == 1 / 3
    assert row["duplicate_line_character_fraction"] == 33 / 75
    assert row["duplicate_paragraph_fraction"] == 0.0
    assert row["duplicate_5gram_character_fraction"] == 12 / 75  # To be, or not to


def test_chinese_counted_by_hand() -> None:
    row = one("你好,世界。你好!")
    assert row["words"] == row["nonsymbol_words"] == 6
    assert row["alphabetic_word_fraction"] == 1.0
    assert row["mean_word_length"] is None
    assert row["sentences"] == 2
    assert row["top_2gram_character_fraction"] == 4 / 9


PATHOLOGICAL = {
    "one line": "word " * 400_000,
    "one word": "x" * 2_000_000,
    "empty lines": "\n" * 1_000_000,
    "lines of a space": " \n" * 500_000,
    "emoji": "😀" * 500_000,
    "marks": "\u0301" * 1_000_000,
    "dots": "." * 2_000_000,
    "words of dots": ". " * 1_000_000,
    "han": "漢" * 700_000,
    "brackets": "javascrip" * 200_000,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_pathological_texts_end(name: str) -> None:
    """Quadratic time would take hours here; the values are those of a short text of the kind."""
    text = PATHOLOGICAL[name]
    row = one(text)
    short = one(text[: len(text) // 100])
    assert row["characters"] == len(text)
    for ratio in ("letter_fraction", "whitespace_fraction", "symbol_fraction"):
        assert row[ratio] == short[ratio]
    assert row["words"] == len(reference.words(text[:4000])) * len(text) // 4000 or name in (
        "one word", "emoji", "marks", "dots", "brackets",
    )  # fmt: skip


def test_words_that_share_a_hash_table_stay_apart() -> None:
    """More distinct words than the first table has places, each twice."""
    texts = [" ".join(f"w{k:x}" if k % 2 else f"longer-word-{k:x}" for k in range(5000))] * 2
    row = one("\n".join(texts))
    total = len(texts[0]) * 2 + 1
    assert row["duplicate_10gram_character_fraction"] == (len(texts[0]) - 4999) / total
    assert np.isclose(float(row["duplicate_line_fraction"] or 0), 0.5)


def test_one_compilation_serves_all_buffers() -> None:
    """Arrow's buffers may be writable or not; a second type would compile everything again."""
    data = np.frombuffer(b"one two three", np.uint8).copy()
    offsets = np.array([0, 3, 13], np.int32)
    writable = pa.StringArray.from_buffers(2, pa.py_buffer(offsets), pa.py_buffer(data))
    check(["one", " two three"], writable)
    check(["a"], pa.array(["b", "a"])[1:])
    assert len(kernel_repeats.measure.signatures) == 1
