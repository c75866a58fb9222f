"""Suites at their thresholds, and how rules are resolved and applied."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import lines, rules, signals
from schemas.errors import RecipeError
from schemas.recipe import Rule

ALL = rules.resolve(list(rules.SUITES))
NAMES = [spec.name for spec in signals.SIGNALS]


def column(rule: Rule, values: list[float | None]) -> pa.RecordBatch:
    dtype = signals.BY_NAME[rule.signal].dtype
    if dtype == pa.int64():
        values = [None if v is None else int(v) for v in values]
    return pa.RecordBatch.from_arrays([pa.array(values, dtype)], names=[rule.signal])


# What the papers and datatrove's defaults say, written down a second time.
THRESHOLDS: dict[str, tuple[str, float]] = {
    "gopher-quality.min-words": (">=", 50),
    "gopher-quality.max-words": ("<=", 100_000),
    "gopher-quality.min-word-length": (">=", 3),
    "gopher-quality.max-word-length": ("<=", 10),
    "gopher-quality.hashes": ("<=", 0.1),
    "gopher-quality.ellipses": ("<=", 0.1),
    "gopher-quality.bullet-lines": ("<=", 0.9),
    "gopher-quality.ellipsis-lines": ("<=", 0.3),
    "gopher-quality.alphabetic-words": (">=", 0.8),
    "gopher-quality.stop-words": (">=", 2),
    "gopher-repetition.empty": (">", 0),
    "gopher-repetition.paragraphs": ("<=", 0.3),
    "gopher-repetition.paragraph-characters": ("<=", 0.2),
    "gopher-repetition.lines": ("<=", 0.3),
    "gopher-repetition.line-characters": ("<=", 0.2),
    "gopher-repetition.top-2gram": ("<=", 0.2),
    "gopher-repetition.top-3gram": ("<=", 0.18),
    "gopher-repetition.top-4gram": ("<=", 0.16),
    "gopher-repetition.duplicate-5gram": ("<=", 0.15),
    "gopher-repetition.duplicate-6gram": ("<=", 0.14),
    "gopher-repetition.duplicate-7gram": ("<=", 0.13),
    "gopher-repetition.duplicate-8gram": ("<=", 0.12),
    "gopher-repetition.duplicate-9gram": ("<=", 0.11),
    "gopher-repetition.duplicate-10gram": ("<=", 0.1),
    "c4.lorem-ipsum": ("==", 0),
    "c4.curly-bracket": ("==", 0),
    "c4.min-sentences": (">=", 5),
    "fineweb.empty": (">", 0),
    "fineweb.terminal-lines": (">=", 0.12),
    "fineweb.short-lines": ("<=", 0.67),
    "fineweb.duplicate-lines": ("<=", 0.01),
    "fineweb.newlines": ("<=", 0.3),
}


def test_every_rule_has_its_threshold_here() -> None:
    assert [rule.name for rule in ALL] == list(THRESHOLDS)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: rule.name)
def test_below_at_and_above_the_threshold(rule: Rule) -> None:
    """By the smallest step that the signal's type can take."""
    op, value = THRESHOLDS[rule.name]
    integer = signals.BY_NAME[rule.signal].dtype == pa.int64()
    below = value - 1 if integer else math.nextafter(value, -math.inf)
    above = value + 1 if integer else math.nextafter(value, math.inf)
    verdicts = rules.apply([rule], column(rule, [below, value, above, None]), None)
    expected = {
        ">=": [False, True, True, True],
        "<=": [True, True, False, True],
        ">": [False, False, True, True],
        "==": [False, True, False, True],
    }[op]
    assert [first == -1 for first in verdicts.first] == expected
    assert verdicts.failing.to_pylist() == [[] if keep else [rule.name] for keep in expected]


def verdict(suite: str, text: str) -> list[str]:
    array = pa.array([text])
    if suite == "c4":
        array = lines.TRANSFORMS["c4-lines"](array)
    batch = signals.compute_signals(array, None, NAMES)
    failing: list[str] = rules.apply(rules.SUITES[suite], batch, None).failing.to_pylist()[0]
    return [name.removeprefix(f"{suite}.") for name in failing]


def english(n: int) -> str:
    return "the and " + " ".join(f"word{k}" for k in range(n - 2))


def chinese(n: int) -> str:
    return "".join(chr(0x4E00 + k % 5000) for k in range(n))


# Texts on both sides of a threshold: (suite, text that passes at the limit, text that just fails).
# One run of n equal shares is exact in tenths, so that "at" is truly at the threshold.
EDGES = {
    "min-words": ("gopher-quality", english(50), english(49)),
    "min-word-length": (
        "gopher-quality",
        "the and " + "abc " * 48,
        "the and " + "abc " * 47 + "ab",
    ),
    "max-word-length": (
        "gopher-quality",
        " ".join(["the", "and", "a" * 17, "b" * 17] + ["x" * 10] * 46),
        " ".join(["the", "and", "a" * 17, "b" * 18] + ["x" * 10] * 46),
    ),
    "hashes": (
        "gopher-quality",
        english(45) + " #a #b #c #d #e",
        english(45) + " #a #b #c #d #e#",
    ),
    "ellipses": (
        "gopher-quality",
        english(45) + " a... b… c... d… e...",
        english(45) + " a... b…… c... d… e...",
    ),
    "bullet-lines": (
        "gopher-quality",
        english(50) + "\n" + "\n".join(f"- {k} item" for k in range(9)),
        english(50) + "\n" + "\n".join(f"- {k} item" for k in range(10)),
    ),
    "ellipsis-lines": (
        "gopher-quality",
        "\n".join([english(80)] * 7 + ["and so on..."] * 3),
        "\n".join([english(80)] * 6 + ["and so on..."] * 3),
    ),
    "alphabetic-words": (
        "gopher-quality",
        english(48) + " 1234" * 12,
        english(47) + " 1234" * 12,
    ),
    "stop-words": ("gopher-quality", english(50), english(50).replace("the ", "tha ")),
    "lines": (
        "gopher-repetition",
        "\n".join([*(f"{k} unlike {k * k} others" for k in range(6)), *["x", "x", "x", "x"]]),
        "\n".join([*(f"{k} unlike {k * k} others" for k in range(5)), *["x", "x", "x", "x"]]),
    ),
    "paragraphs": (
        "gopher-repetition",
        "\n\n".join([*(f"{k} unlike {k * k} others" for k in range(6)), *["x", "x", "x", "x"]]),
        "\n\n".join([*(f"{k} unlike {k * k} others" for k in range(5)), *["x", "x", "x", "x"]]),
    ),
    "min-sentences": (
        "c4",
        "\n".join(f"This is sentence {k}." for k in range(5)),
        "\n".join(f"This is sentence {k}." for k in range(4)),
    ),
    "terminal-lines": (
        "fineweb",
        "\n".join([english(20) + "."] * 3 + [english(20)] * 22),
        "\n".join([english(20) + "."] * 3 + [english(20)] * 23),
    ),
    "short-lines": (
        "fineweb",
        "\n".join(["x" * 30] * 67 + ["y" * 31] * 33),
        "\n".join(["x" * 30] * 68 + ["y" * 32] * 32),
    ),
    "duplicate-lines": (
        "fineweb",
        "\n".join(["x", "x", "y" * 98]),
        "\n".join(["x", "x", "y" * 97]),
    ),
    "newlines": (
        "fineweb",
        "\n".join(f"{k} b c" for k in range(3)) + " d\n",
        "\n".join(f"{k} b c" for k in range(3)) + "\n",
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_texts_at_and_past_the_threshold(name: str) -> None:
    suite, passes, fails = EDGES[name]
    assert name not in verdict(suite, passes)
    assert name in verdict(suite, fails)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_top_ngrams_in_text(n: int) -> None:
    """Twice an n-gram of 5n - 1 characters in a text just long enough, and one shorter."""
    gram = " ".join(["wxyz", "abcd", "efgh", "ijkl"][:n])
    limit = {2: 20, 3: 18, 4: 16}[n]
    needed = -(-2 * len(gram) * 100 // limit)  # smallest length that passes
    for length, fails in ((needed, False), (needed - 1, True)):
        filler = "." * (length - 2 * len(gram) - 3)
        text = f"{gram} {filler} {gram}\n"
        assert len(text) == length
        assert (f"top-{n}gram" in verdict("gopher-repetition", text)) is fails


@pytest.mark.parametrize("n", range(5, 11))
def test_duplicate_ngrams_in_text(n: int) -> None:
    words = [f"wor{chr(97 + k)}" for k in range(n)]
    limit = {5: 15, 6: 14, 7: 13, 8: 12, 9: 11, 10: 10}[n]
    needed = -(-4 * n * 100 // limit)
    for length, fails in ((needed, False), (needed - 1, True)):
        text = " ".join(words) + " "
        filler = "." * (length - 2 * len(text) - 1)
        text = f"{text}{filler} {text}"
        assert len(text) == length
        assert (f"duplicate-{n}gram" in verdict("gopher-repetition", text)) is fails


@pytest.mark.parametrize("n", [5, 10])
def test_duplicate_ngrams_in_chinese(n: int) -> None:
    """Every character is a word, and punctuation beside it is none."""
    limit = {5: 15, 10: 10}[n]
    needed = -(-n * 100 // limit)
    for length, fails in ((needed, False), (needed - 1, True)):
        gram = chinese(n)
        text = gram + "。" + chinese(length)[n : length - n - 1] + gram
        assert len(text) == length
        assert (f"duplicate-{n}gram" in verdict("gopher-repetition", text)) is fails


def test_gopher_quality_in_chinese() -> None:
    """Fifty characters pass with the punctuation that goes with them; word length says nothing."""
    text = chinese(50).replace(chr(0x4E0A), chr(0x4E0A) + "，") + "。"
    assert verdict("gopher-quality", text) == ["stop-words"]  # no language was given
    assert verdict("gopher-quality", text.replace(chr(0x4E0A), "")) == ["min-words", "stop-words"]
    batch = signals.compute_signals(pa.array([text]), pa.array(["zh"]), NAMES)
    assert rules.apply(rules.SUITES["gopher-quality"], batch, pa.array(["zh"])).first[0] == -1


def test_c4_and_fineweb_in_chinese() -> None:
    sentences = ["我能吞下玻璃。", "你不能喝它！", "他会说话吗？", "今天天气好。", "明天会下雨。"]
    assert verdict("c4", "".join(sentences)) == []
    assert verdict("c4", "".join(sentences[:4])) == ["min-sentences"]
    lines_ = [chinese(40)] * 22 + [chinese(40) + "。"] * 3
    assert "terminal-lines" not in verdict("fineweb", "\n".join(lines_))
    assert "terminal-lines" in verdict("fineweb", "\n".join([chinese(40), *lines_]))


def test_c4_pages() -> None:
    page = "\n".join(f"This is sentence {k}." for k in range(5))
    assert verdict("c4", page) == []
    assert verdict("c4", page + "\nAnd one { more.") == ["curly-bracket"]
    assert verdict("c4", page + "\nSome Lorem Ipsum text.") == ["lorem-ipsum"]
    assert verdict("c4", page + "\nmenu { item") == []  # that line goes first


def test_first_is_the_first_in_recipe_order_and_failing_has_all() -> None:
    chosen = rules.resolve(["fineweb", "gopher-quality"])
    batch = signals.compute_signals(pa.array(["", english(50) + "."]), None, NAMES)
    verdicts = rules.apply(chosen, batch, None)
    assert verdicts.first.dtype == np.int16
    assert verdicts.first.tolist() == [0, -1]
    assert verdicts.failing.type == pa.list_(pa.string())
    assert verdicts.failing.to_pylist()[0][:3] == [
        "fineweb.empty",
        "fineweb.terminal-lines",
        "gopher-quality.min-words",
    ]


def test_languages_limit_a_rule() -> None:
    rule = Rule(name="long", signal="words", op=">", value=1, languages=("de", "fr"))
    batch = column(rule, [1, 1, 1, 2])
    language = pa.array(["de", "en", None, "fr"])
    assert rules.apply([rule], batch, language).first.tolist() == [0, -1, -1, -1]
    assert rules.apply([rule], batch, None).first.tolist() == [-1, -1, -1, -1]


def test_language_as_a_signal() -> None:
    keep = Rule(name="keep", signal="language", op="in", value=("de", "en"))
    drop = Rule(name="drop", signal="language", op="not in", value=("en",))
    same = Rule(name="same", signal="language", op="==", value="de")
    language = pa.array(["de", "en", None, "fr"])
    batch = column(Rule(name="w", signal="words", op=">", value=0), [1, 1, 1, 1])
    verdicts = rules.apply(rules.resolve([keep, drop, same]), batch, language)
    assert verdicts.failing.to_pylist() == [[], ["drop", "same"], [], ["keep", "same"]]
    assert rules.apply([keep, drop, same], batch, None).first.tolist() == [-1] * 4


def test_no_rules_and_no_documents() -> None:
    batch = signals.compute_signals(pa.array(["a", "b"]), None, NAMES)
    assert rules.apply([], batch, None).first.tolist() == [-1, -1]
    assert rules.apply([], batch, None).failing.to_pylist() == [[], []]
    verdicts = rules.apply(ALL, batch.slice(0, 0), None)
    assert len(verdicts.first) == 0 and len(verdicts.failing) == 0


def test_resolve_keeps_order_and_replaces_suites() -> None:
    own = Rule(name="mine", signal="words", op=">=", value=10)
    resolved = rules.resolve(["c4", own, "fineweb"])
    assert resolved == (*rules.SUITES["c4"], own, *rules.SUITES["fineweb"])
    assert rules.needed_signals(resolved)[:2] == ("words", "sentences")


@pytest.mark.parametrize(
    ("given_rules", "message"),
    [
        (["gophr"], "gopher-quality, gopher-repetition, c4, fineweb"),
        ([Rule(name="r", signal="wrds", op=">", value=1)], "unknown signal 'wrds'.*words"),
        (["c4", "c4"], "two rules are named 'c4.lorem-ipsum'"),
        ([Rule(name="r", signal="words", op=">", value="many")], "is a number"),
        ([Rule(name="r", signal="words", op="in", value=("en",))], "is a number"),
        ([Rule(name="r", signal="language", op=">", value="en")], "is a tag"),
        ([Rule(name="r", signal="language", op="==", value=1)], "is a tag"),
    ],
)
def test_resolve_says_what_is_wrong(given_rules: list[str | Rule], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        rules.resolve(given_rules)


OPERATIONS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(OPERATIONS)), st.integers(-2, 2)), max_size=5),
    st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=8),
)
def test_apply_is_the_plain_comparison(
    thresholds: list[tuple[str, int]], values: list[int | None]
) -> None:
    chosen = [
        Rule(name=f"r{k}", signal="words", op=op, value=value)  # type: ignore[arg-type]
        for k, (op, value) in enumerate(thresholds)
    ]
    batch = pa.RecordBatch.from_arrays([pa.array(values, pa.int64())], names=["words"])
    verdicts = rules.apply(chosen, batch, None)
    for k, value in enumerate(values):
        failing = [
            f"r{i}"
            for i, (op, limit) in enumerate(thresholds)
            if value is not None and not OPERATIONS[op](value, limit)
        ]
        assert verdicts.failing.to_pylist()[k] == failing
        assert verdicts.first[k] == (int(failing[0][1:]) if failing else -1)
