"""A small made-up corpus whose composition is known, and its recipe, for tests of whole runs."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

WORDS = [a + b + c for a in ("mi", "gra", "sto", "whe") for b in ("l", "r", "n") for c in "aeiou"]
PROSE = 60  # documents of source prose that are neither short nor repeated
COPIES = 5  # of them, each once more, word for word
SHORT = 7  # documents under the recipe's least length
MAIL = 4  # documents of source mail with one address each
BROKEN = 3  # lines of source mail that are no JSON
HOSTILE = "\x1b[31m[bold]\u202e"  # the last broken line begins with it


@dataclass(frozen=True)
class Corpus:
    """The recipe file, and all sound documents: (source, text)."""

    recipe: Path
    documents: tuple[tuple[str, str], ...]


def make_corpus(folder: Path) -> Corpus:
    """Write the corpus as two JSONL files and a recipe beside them."""
    draw = random.Random(20)
    folder.mkdir(parents=True, exist_ok=True)
    prose = [" ".join(draw.choices(WORDS, k=draw.randint(40, 400))) for _ in range(PROSE)]
    prose += prose[:COPIES]
    short = [" ".join(draw.choices(WORDS, k=3)) for _ in range(SHORT)]
    mail = [
        " ".join(draw.choices(WORDS, k=60)) + f" write to miller{i}@grist-mill.com soon"
        for i in range(MAIL)
    ]
    _write(folder / "prose.jsonl", [json.dumps({"text": text}) for text in prose + short])
    broken = ["{broken", '{"text": 5', HOSTILE + "{"]
    _write(folder / "mail.jsonl", [json.dumps({"body": text}) for text in mail] + broken)
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        """\
name: small
sources:
  - {name: prose, paths: [prose.jsonl]}
  - {name: mail, paths: [mail.jsonl], fields: {text: body}}
planning: {min_task_bytes: 16384, min_tasks: 4, task_bytes: 65536}
clean:
  language: null
  passes:
    - {name: main, rules: [{name: long-enough, signal: words, op: '>=', value: 10}]}
tokenizer: {kind: bpe, vocab_size: 400}
encode: {sequence_length: 32, rows_per_batch: 16}
"""
    )
    documents = [("prose", text) for text in prose + short] + [("mail", text) for text in mail]
    return Corpus(recipe, tuple(documents))


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
