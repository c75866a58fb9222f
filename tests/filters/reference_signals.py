"""Plain-Python versions of the counting kernels: slow, obvious, and written from the definitions.

They share with the kernels only the table of code-point classes, which test_unicode.py checks.
"""

from __future__ import annotations

import re
from collections import Counter

from filters import unicode as u

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
CLASSES: list[int] = u.classes().tolist()
CONTENT = u.LETTER | u.MARK | u.NUMBER


def has(char: str, flags: int) -> bool:
    return CLASSES[ord(char)] & flags != 0


def any_has(text: str, flags: int) -> bool:
    return any(has(char, flags) for char in text)


def ascii_lower(text: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def strip(text: str) -> str:
    begin, end = 0, len(text)
    while begin < end and has(text[begin], u.WHITESPACE):
        begin += 1
    while end > begin and has(text[end - 1], u.WHITESPACE):
        end -= 1
    return text[begin:end]


def words(text: str) -> list[tuple[str, bool]]:
    """(word, whether it is a code point of an unspaced script) in order."""
    pieces: list[tuple[str, str]] = []  # kind: "space", "unit" or "run"
    for char in text:
        kind = "run"
        if has(char, u.WHITESPACE):
            kind = "space"
        elif has(char, u.UNSPACED):
            kind = "unit"
        if kind == "run" and pieces and pieces[-1][0] == "run":
            pieces[-1] = ("run", pieces[-1][1] + char)
        else:
            pieces.append((kind, char))
    found = []
    for k, (kind, piece) in enumerate(pieces):
        beside = {pieces[j][0] for j in (k - 1, k + 1) if 0 <= j < len(pieces)}
        if kind == "unit":
            found.append((piece, True))
        elif kind == "run" and (any_has(piece, CONTENT) or "unit" not in beside):
            found.append((piece, False))
    return found


def stop_words(found: list[tuple[str, bool]]) -> list[str]:
    hits = []
    for word, _ in found:
        core = word
        while core and not has(core[0], CONTENT):
            core = core[1:]
        while core and not has(core[-1], CONTENT):
            core = core[:-1]
        if ascii_lower(core) in STOP_WORDS:
            hits.append(ascii_lower(core))
    return hits


def sentences(text: str) -> int:
    total = 0
    for line in text.split("\n"):
        content = False
        for k, char in enumerate(line):
            content = content or has(char, CONTENT)
            if not has(char, u.SENTENCE_END):
                continue
            if char in ".!?":
                after = k + 1
                while after < len(line) and has(line[after], u.SENTENCE_END | u.CLOSING):
                    after += 1
                if after < len(line) and not has(line[after], u.WHITESPACE):
                    continue
            total += content
            content = False
        total += content
    return total


def paragraphs(text: str) -> list[str]:
    stripped = strip(text)
    return re.split(r"\n{2,}", stripped) if stripped else []


def duplicates(items: list[str]) -> list[str]:
    seen: set[str] = set()
    found = []
    for item in items:
        if item in seen:
            found.append(item)
        seen.add(item)
    return found


def gram_length(gram: tuple[tuple[str, bool], ...]) -> int:
    length = sum(len(word) for word, _ in gram)
    for (_, a), (_, b) in zip(gram, gram[1:], strict=False):
        length += not a and not b
    return length


def top_ngram_characters(found: list[tuple[str, bool]], n: int) -> int:
    grams = [tuple(found[k : k + n]) for k in range(len(found) - n + 1)]
    if not grams:
        return 0
    times = Counter(grams)
    most = max(times.values())
    first = next(gram for gram in grams if times[gram] == most)
    return gram_length(first) * most


def duplicate_ngram_characters(found: list[tuple[str, bool]], n: int) -> int:
    seen = set()
    total = k = 0
    while k + n <= len(found):
        gram = tuple(found[k : k + n])
        if gram in seen:
            total += sum(len(word) for word, _ in gram)
            k += n
        else:
            seen.add(gram)
            k += 1
    return total


def ratio(a: int, b: int) -> float:
    return a / b if b else 0.0


def signals(text: str, english: bool = True) -> dict[str, int | float | None]:
    """Every counting signal of one text."""
    found = words(text)
    n_words = len(found)
    content = [word for word, _ in found if any_has(word, CONTENT)]
    units = sum(unit for _, unit in found)
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    nonempty = [line for line in lines if line]
    nonblank = [line for line in lines if strip(line)]
    lowered = [ascii_lower(line) for line in lines]
    parts = paragraphs(text)
    hits = stop_words(found)
    n = len(text)
    repeated_lines = duplicates(nonempty)
    repeated_parts = duplicates(parts)
    repeated_nonblank = [line for line in repeated_lines if strip(line)]
    return {
        "bytes": len(text.encode()),
        "characters": n,
        "words": n_words,
        "nonsymbol_words": len(content),
        "sentences": sentences(text),
        "lines": len(lines),
        "nonblank_lines": len(nonblank),
        "paragraphs": len(parts),
        "mean_word_length": None
        if 2 * units > n_words
        else ratio(sum(map(len, content)), len(content)),
        "unspaced_word_fraction": ratio(units, n_words),
        "alphabetic_word_fraction": ratio(
            sum(any_has(word, u.LETTER) for word, _ in found), n_words
        ),
        "letter_fraction": ratio(sum(has(ch, u.LETTER) for ch in text), n),
        "digit_fraction": ratio(sum(has(ch, u.NUMBER) for ch in text), n),
        "punctuation_fraction": ratio(sum(has(ch, u.PUNCTUATION) for ch in text), n),
        "symbol_fraction": ratio(sum(has(ch, u.SYMBOL) for ch in text), n),
        "uppercase_fraction": ratio(sum(has(ch, u.UPPERCASE) for ch in text), n),
        "whitespace_fraction": ratio(sum(has(ch, u.WHITESPACE) for ch in text), n),
        "hash_word_ratio": ratio(text.count("#"), n_words),
        "ellipsis_word_ratio": ratio(text.count("...") + text.count("…"), n_words),
        "newline_word_ratio": ratio(text.count("\n"), n_words),
        "stop_words": len(set(hits)) if english else None,
        "stop_word_fraction": ratio(len(hits), n_words) if english else None,
        "bullet_line_fraction": ratio(
            sum(strip(line).startswith(("-", "•")) for line in lines), len(lines)
        ),
        "ellipsis_line_fraction": ratio(
            sum(strip(line).endswith(("...", "…")) for line in lines), len(lines)
        ),
        "terminal_line_fraction": ratio(
            sum(has(line[-1], u.SENTENCE_END) for line in nonblank), len(nonblank)
        ),
        "short_line_fraction": ratio(sum(len(line) <= 30 for line in nonblank), len(nonblank)),
        "javascript_lines": sum("javascript" in line for line in lowered),
        "policy_lines": sum(any(p in line for p in POLICY) for line in lowered),
        "lorem_ipsum_lines": sum("lorem ipsum" in line for line in lowered),
        "curly_brackets": text.count("{"),
        "duplicate_line_fraction": ratio(len(repeated_lines), len(nonempty)),
        "duplicate_line_character_fraction": ratio(sum(map(len, repeated_lines)), n),
        "duplicate_nonblank_line_character_fraction": ratio(
            sum(map(len, repeated_nonblank)), n - text.count("\n")
        ),
        "duplicate_paragraph_fraction": ratio(len(repeated_parts), len(parts)),
        "duplicate_paragraph_character_fraction": ratio(sum(map(len, repeated_parts)), n),
        **{
            f"top_{k}gram_character_fraction": ratio(top_ngram_characters(found, k), n)
            for k in (2, 3, 4)
        },
        **{
            f"duplicate_{k}gram_character_fraction": ratio(duplicate_ngram_characters(found, k), n)
            for k in range(5, 11)
        },
    }


CITATION = re.compile(r"\[[0-9]*\]|\[edit\]|\[citation needed\]")
END_MARKS = (".", "?", "!", '"', "'", "’", "”", "»", "」", "』")


def longest_run(line: str) -> int:
    longest = run = 0
    for char in line:
        run = 0 if has(char, u.WHITESPACE | u.UNSPACED) else run + 1
        longest = max(longest, run)
    return longest


def c4_lines(text: str, min_words: int = 3) -> str:
    """C4's rules for lines."""
    kept = []
    for line in text.split("\n"):
        line = strip(line)
        if longest_run(line) > 1000:
            continue
        n_words = len(words(line))
        line = CITATION.sub("", line)
        if not line or line.endswith("..."):
            continue
        if not line.endswith(END_MARKS) and not has(line[-1], u.SENTENCE_END):
            continue
        if n_words < min_words:
            continue
        lowered = ascii_lower(line)
        if "lorem ipsum" not in lowered:
            if "javascript" in lowered:
                continue
            if "{" not in line and any(p in lowered for p in POLICY):
                continue
        kept.append(line)
    return strip("\n".join(kept))
