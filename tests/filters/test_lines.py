"""The transform c4-lines against a plain-Python version, and line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
import reference_signals as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import lines

BENCH = Path(__file__).parents[3] / "shared" / "data" / "bench"

PIECES = [
    "One two three.", "One two.", "a b c", "...", "…", ".", "!", '"', "'", "”", "»", "。", "」",
    "字字字", "[1]", "[]", "[12", "[edit]", "[Edit]", "[citation needed]", "[citation need",
    "] ", "\n", "\n\n", " ", "\t", "\u3000", "javascript", "JAVAscript ", "lorem ipsum",
    "Lorem Ipsum ", "{", "}", "terms of use", "we use cookies", "privacy policy", " ,", "- ",
    "漢", "ไทย", "é", "😀", "x" * 999,
]  # fmt: skip

TEXT = st.lists(
    st.one_of(
        st.sampled_from(PIECES), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    ),
    max_size=30,
).map("".join)


def check(texts: list[str], array: pa.StringArray | None = None, min_words: int = 3) -> None:
    array = pa.array(texts, pa.string()) if array is None else array
    result = lines.c4_lines(array, min_words)
    result.validate(full=True)
    assert result.to_pylist() == [reference.c4_lines(text, min_words) for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, max_size=4), st.sampled_from([0, 1, 3, 5]))
def test_made_up_texts(texts: list[str], min_words: int) -> None:
    check(texts, min_words=min_words)


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6), st.data())
def test_slices(texts: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    check(texts[start:stop], pa.array(texts, pa.string())[start:stop])


@pytest.mark.parametrize("name", ["english_docs", "multilingual_docs"])
def test_real_texts(name: str) -> None:
    path = BENCH / f"{name}.jsonl.zst"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    texts = []
    with pa.input_stream(str(path), compression="zstd") as stream:
        for k, line in enumerate(stream.read(24 << 20).split(b"\n")[:-1]):
            text = json.loads(line)["text"]
            if k % 31 == 0 and len(text) < 20_000:
                texts.append(text)
    check(texts[:200])


def kept(line: str) -> bool:
    return lines.c4_lines(pa.array([line])).to_pylist() != [""]


@pytest.mark.parametrize(
    ("line", "stays"),
    [
        ("One two three.", True),
        ("One two three", False),
        ("One two three...", False),
        ("One two three..", True),
        ("One two.", False),
        ("  One two three!  ", True),
        ('He said "one two."', True),
        ("He said “one two.”", True),
        ("One two three[1].", True),
        ("One two three.[1]", True),
        ("One two three. [1]", False),  # as in the released code: it now ends with a space
        ("Please enable JavaScript now.", False),
        ("See our Privacy Policy, please.", False),
        ("Our Terms of Use say { so }.", True),  # left for the rule c4.curly-bracket
        ("Lorem ipsum and javascript too.", True),  # left for the rule c4.lorem-ipsum
        ("x" * 1000 + " two three.", True),
        ("x" * 1001 + " two three.", False),
        ("我能吞下玻璃而不伤身体。", True),
        ("玻璃。", False),
        ("玻璃杯。", True),
        ("我能吞下玻璃而不伤身体", False),
        ("他说:“我能吞下玻璃。”", True),
    ],
)
def test_lines_one_by_one(line: str, stays: bool) -> None:
    assert kept(line) is stays


def test_what_is_cut_and_joined() -> None:
    text = "  First line is here.[1][edit] \n\nmenu\nThe [citation needed] second one!\n"
    assert lines.c4_lines(pa.array([text])).to_pylist() == ["First line is here.\nThe  second one!"]


def test_transforms_have_the_recipe_names() -> None:
    assert list(lines.TRANSFORMS) == ["c4-lines"]
    assert lines.TRANSFORMS["c4-lines"](pa.array(["One two three."])).to_pylist() == [
        "One two three."
    ]
    assert len(lines.c4_lines(pa.array([], pa.string()))) == 0
