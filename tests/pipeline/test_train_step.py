"""The train step on a small run directory written by hand: counts in, a usable tokenizer out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.step import Outputs, Result, Run
from pipeline.train import Train
from schemas.errors import RecipeError
from schemas.ledger import Counts
from schemas.recipe import Recipe
from schemas.record import Output, Task, TaskRecord
from tokenizer.encode import load_tokenizer
from tokenizer.pretokens import PretokenCounter, pretokenizer_of

TEXTS = [
    ["the cat sat on the mat\n\nthe end", "漢字と漢字\t漢字", ""],
    ["another shard: the cat, again", "  spaces   everywhere  "],
    [],
]
TOKENIZERS: list[dict[str, Any]] = [
    {"kind": "bpe", "vocab_size": 280},
    {"kind": "bpe", "vocab_size": 100_000, "pretokenizer": "gpt2", "min_frequency": 1},
    {"kind": "bpe", "vocab_size": 280, "special_tokens": ["<pad>", "<s>", "</s>"]},
    {"kind": "sentencepiece", "vocab_size": 320},
    {"kind": "sentencepiece", "vocab_size": 8000},
]


def make_run(folder: Path, tokenizer: dict[str, Any]) -> Run:
    """A run directory in which scrub has finished, a task for each part of TEXTS."""
    recipe = Recipe.model_validate(
        {
            "name": "train-test",
            "sources": [{"name": "web", "paths": ["x.jsonl"]}],
            "tokenizer": tokenizer,
        }
    )
    run = Run(str(folder), recipe)
    tasks = [Task(step="scrub", name=f"scrub-{i:05d}", size=1) for i in range(len(TEXTS))]
    (folder / "plan").mkdir(parents=True)
    plan = {"tasks": [task.to_json() for task in tasks]}
    (folder / "plan" / "scrub.json").write_text(json.dumps(plan))
    (folder / "counts").mkdir()
    (folder / "records" / "scrub").mkdir(parents=True)
    for task, texts in zip(tasks, TEXTS, strict=True):
        outputs = []
        pretokenizer = pretokenizer_of(recipe.tokenizer)
        if pretokenizer is not None:
            counter = PretokenCounter(pretokenizer)
            counter.add(pa.array(texts, pa.string()))
            path = folder / "counts" / f"{task.name}.arrow"
            counter.write(path)
            relative = f"counts/{task.name}.arrow"
            outputs.append(
                Output(kind="counts", path=relative, bytes=path.stat().st_size, sha256="-")
            )
        record = TaskRecord(
            step="scrub", task=task.name, key="-", outputs=tuple(outputs), counts=Counts(), info={}
        )
        (folder / "records" / "scrub" / f"{task.name}.json").write_bytes(record.dumps())
    return run


def train(run: Run, scratch: Path) -> tuple[Result, dict[str, bytes]]:
    """Plan and process; the result and the published files by path in the run."""
    (task,) = Train().plan(run)
    assert (task.step, task.name) == ("train", "train")
    scratch.mkdir()
    outputs = Outputs(scratch)
    result = Train().process(run, task, outputs)
    published = outputs.publish(run)
    return result, {o.path: Path(run.path(o.path)).read_bytes() for o in published}


@pytest.mark.parametrize("tokenizer", TOKENIZERS, ids=lambda t: f"{t['kind']}-{t['vocab_size']}")
def test_trained_from_the_counts_of_all_tasks(tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    run = make_run(tmp_path / "run", tokenizer)
    result, files = train(run, tmp_path / "scratch")
    name = "tokenizer/tokenizer.json" if tokenizer["kind"] == "bpe" else "tokenizer/tokenizer.model"
    info = json.loads(files["tokenizer/info.json"])
    assert info == result.info
    assert result.counts.flows == {}  # no document flows through training
    loaded = load_tokenizer(run.path(name), end_of_document=info["end_of_document"])
    assert info["kind"] == tokenizer["kind"]
    assert info["vocab_size"] == loaded.vocab_size <= info["requested_vocab_size"]
    assert info["requested_vocab_size"] == tokenizer["vocab_size"]
    assert (info["end_of_document_id"], info["bos_id"]) == (loaded.eos_id, loaded.bos_id)
    assert info["sha256"] == loaded.sha256
    for texts in TEXTS:
        ids, offsets = loaded.encode(pa.array(texts, pa.string()))
        for i, text in enumerate(texts):
            assert loaded.decode(ids[offsets[i] : offsets[i + 1]]) == text


def test_counted_pretokens_are_reported(tmp_path: Path) -> None:
    from tokenizer.split import split

    run = make_run(tmp_path / "run", {"kind": "bpe", "vocab_size": 280})
    result, files = train(run, tmp_path / "scratch")
    plain = Counter(
        pretoken
        for texts in TEXTS
        for row in split(pa.array(texts, pa.string()), "llama3").to_pylist()
        for pretoken in row
    )
    assert result.info["pretokens"] == len(plain)
    assert result.info["pretokens_counted"] == plain.total()
    merges = json.loads(files["tokenizer/tokenizer.json"])["model"]["merges"]
    assert result.info["merges"] == len(merges) > 0


def test_the_plan_is_as_large_as_the_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"kind": "bpe"})
    (task,) = Train().plan(run)
    assert task.size == sum(p.stat().st_size for p in (tmp_path / "run" / "counts").iterdir())


@pytest.mark.parametrize("tokenizer", [TOKENIZERS[0], TOKENIZERS[3]], ids=["bpe", "sentencepiece"])
def test_same_bytes_again(tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    found = [train(make_run(tmp_path / f"run{i}", tokenizer), tmp_path / f"{i}") for i in range(2)]
    assert found[0] == found[1]


def test_end_of_document_is_known_by_name_or_the_first_special_token(tmp_path: Path) -> None:
    for i, (special, end) in enumerate(
        [(["<pad>", "</s>"], "</s>"), (["<my-end>", "<x>"], "<my-end>"), ([], None)]
    ):
        run = make_run(
            tmp_path / f"{i}", {"kind": "bpe", "vocab_size": 280, "special_tokens": special}
        )
        result, _ = train(run, tmp_path / f"scratch{i}")
        assert result.info["end_of_document"] == end


@pytest.mark.parametrize("trained", [TOKENIZERS[0], TOKENIZERS[3]], ids=["json", "model"])
def test_a_given_tokenizer_is_taken_over_unchanged(tmp_path: Path, trained: dict[str, Any]) -> None:
    _, files = train(make_run(tmp_path / "a", trained), tmp_path / "sa")
    (name,) = (n for n in files if n.startswith("tokenizer/tokenizer.") and "vocab" not in n)
    given = tmp_path / "given-name"
    given.write_bytes(files[name])
    run = make_run(tmp_path / "b", {"kind": "given", "path": str(given)})
    result, copied = train(run, tmp_path / "sb")
    assert copied[name] == files[name]
    assert given.exists()
    was = json.loads(files["tokenizer/info.json"])
    for fact in ("vocab_size", "end_of_document", "end_of_document_id", "bos_id", "sha256"):
        assert result.info[fact] == was[fact]
    assert result.info["kind"] == "given"


def test_given_files_that_are_no_tokenizers(tmp_path: Path) -> None:
    for name, content in (("t.json", b'{"model": 3}'), ("t.model", b"\x00\x01junk" * 50)):
        (tmp_path / name).write_bytes(content)
        run = make_run(tmp_path / f"run-{name}", {"kind": "given", "path": str(tmp_path / name)})
        (task,) = Train().plan(run)
        (tmp_path / f"s-{name}").mkdir()
        with pytest.raises(RecipeError, match=r"expected a tokenizer\.json or a SentencePiece"):
            Train().process(run, task, Outputs(tmp_path / f"s-{name}"))
    run = make_run(tmp_path / "none", {"kind": "given", "path": str(tmp_path / "absent.json")})
    with pytest.raises(RecipeError, match=r"tokenizer\.path: .*absent"):
        Train().plan(run)


def test_a_given_tokenizer_without_the_named_end(tmp_path: Path) -> None:
    _, files = train(make_run(tmp_path / "a", TOKENIZERS[0]), tmp_path / "sa")
    given = tmp_path / "t.json"
    given.write_bytes(files["tokenizer/tokenizer.json"])
    run = make_run(
        tmp_path / "b", {"kind": "given", "path": str(given), "end_of_document": "<|nope|>"}
    )
    with pytest.raises(RecipeError, match=r"tokenizer\.end_of_document: t\.json .*'<\|nope\|>'"):
        train(run, tmp_path / "sb")
