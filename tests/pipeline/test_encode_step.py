"""The encode step on a run directory in which scrub and train are done."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import pipeline.encode
from pipeline.encode import Encode
from pipeline.files import ParquetShard
from pipeline.step import Outputs, Run, planned, run_task
from schemas.document import DOCUMENT
from schemas.errors import IntegrityError, RecipeError, TaskError
from schemas.ledger import Counts, FlowKey
from schemas.recipe import Recipe
from schemas.record import Task, TaskRecord
from tokenizer.encode import load_tokenizer
from tokenizer.shards import open_shard

END, BEGIN = "<|endoftext|>", "<s>"


def documents(shard: int, count: int) -> pa.Table:
    numbers = range(shard * 10_000, shard * 10_000 + count)
    return pa.Table.from_pylist(
        [
            {
                "id": f"doc-{n}",
                "text": f"Document {n}: {END} 汉字 " + "many words " * (n % 40),
                "source": "web" if n % 4 else "books",
                "path": f"part-{shard}.jsonl",
                "position": n,
                "language": None if n % 3 else "en",
            }
            for n in numbers
        ],
        schema=DOCUMENT,
    )


SHARDS = {f"scrub-{i:05d}": documents(i, count) for i, count in enumerate([300, 0, 700, 50, 400])}


def commit(run: Run, step: str, task: str, outputs: Outputs, counts: Counts) -> None:
    record = TaskRecord(
        step=step, task=task, key="k", outputs=outputs.publish(run), counts=counts, info={}
    )
    path = Path(run.record_path(step, task))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.dumps())


def commit_plan(run: Run, step: str, tasks: list[str]) -> None:
    path = Path(run.path("plan", f"{step}.json"))
    path.parent.mkdir(parents=True, exist_ok=True)
    plan = {"tasks": [Task(step=step, name=name, size=1).to_json() for name in tasks]}
    path.write_text(json.dumps(plan))


def train(path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END, BEGIN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["many words, many words"], trainer)
    tokenizer.save(str(path))


def make_run(
    folder: Path, encode: dict[str, object] | None = None, planning: dict[str, object] | None = None
) -> Run:
    settings = {"sequence_length": 64, "rows_per_batch": 16} | (encode or {})
    recipe = Recipe.model_validate(
        {
            "name": "encode-test",
            "sources": [
                {"name": "web", "paths": ["x.jsonl"]},
                {"name": "books", "paths": ["y.jsonl"]},
            ],
            "encode": settings,
            "planning": planning or {},
        }
    )
    run = Run(str(folder / "run"), recipe)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    commit_plan(run, "scrub", list(SHARDS))
    for name, table in SHARDS.items():
        outputs, counts = Outputs(scratch), Counts()
        with ParquetShard(outputs.path("clean", f"clean/{name}.parquet"), DOCUMENT) as shard:
            for batch in table.to_batches(max_chunksize=170):
                shard.write(batch)
        texts = table["text"].to_pylist()
        counts.add("kept", table["id"].to_pylist(), sum(len(t.encode()) for t in texts))
        commit(run, "scrub", name, outputs, counts)
    commit_plan(run, "train", ["train"])
    outputs = Outputs(scratch)
    train(outputs.path("tokenizer", "tokenizer/tokenizer.json"))
    facts = json.dumps({"end_of_document": END})
    outputs.path("tokenizer-info", "tokenizer/info.json").write_text(facts)
    commit(run, "train", "train", outputs, Counts())
    return run


def encode(run: Run) -> list[TaskRecord]:
    return [run_task(run, Encode(), task) for task in planned(run, Encode())]


def test_plan_follows_size_and_keeps_order(tmp_path: Path) -> None:
    sizes = {
        name: sum(len(text.encode()) for text in table["text"].to_pylist())
        for name, table in SHARDS.items()
    }
    for planning, encoding, expected in (
        # At most as many tasks as there are shards with something in them.
        ({"min_tasks": 8}, {}, [[0, 1], [2], [3], [4]]),
        ({"min_tasks": 1}, {}, [[0, 1, 2, 3, 4]]),
        ({"min_tasks": 2}, {}, [[0, 1], [2], [3, 4]]),
        ({"min_tasks": 1}, {"shard_tokens": 1024}, [[0, 1], [2], [3], [4]]),
    ):
        label = "-".join(str(v) for v in [*planning.values(), *encoding.values()])
        run = make_run(tmp_path / label, encoding, planning)
        tasks = Encode().plan(run)
        names = list(SHARDS)
        assert [list(t.params["clean"]) for t in tasks] == [[names[i] for i in g] for g in expected]
        assert [t.name for t in tasks] == [f"encode-{i:05d}" for i in range(len(tasks))]
        assert [t.size for t in tasks] == [sum(sizes[n] for n in t.params["clean"]) for t in tasks]


@pytest.mark.parametrize("begin", [False, True])
def test_every_clean_document_is_in_the_shards(tmp_path: Path, begin: bool) -> None:
    run = make_run(tmp_path, {"begin_document": begin}, {"min_tasks": 2})
    records = encode(run)
    assert len(records) == 3
    tokenizer = load_tokenizer(run.path("tokenizer/tokenizer.json"))
    found = []
    for record in records:
        assert {o.kind for o in record.outputs} == {"tokens", "token-documents"}
        shard = open_shard(run.path(record.output("tokens").path))
        shard.check()
        assert shard.info.recipe_sha256 == run.recipe_sha256
        assert shard.info.begin_document is begin
        table = shard.documents
        for number, key in enumerate(table["id"].to_pylist()):
            text = shard.text(number, tokenizer)
            assert table["text_sha256"][number].as_py() == sha256(text.encode()).digest()
            found.append((key, text))
            marks = shard.document(number, marks=True)
            assert marks[-1] == tokenizer.eos_id
            assert not begin or marks[0] == tokenizer.bos_id
    clean = pa.concat_tables(SHARDS.values())
    assert found == list(zip(clean["id"].to_pylist(), clean["text"].to_pylist(), strict=True))


def test_ledger_and_facts(tmp_path: Path) -> None:
    run = make_run(tmp_path, planning={"min_tasks": 1})
    (record,) = encode(run)
    record.counts.check("the task")
    shard = open_shard(run.path(record.output("tokens").path))
    table = shard.documents
    expected: dict[tuple[str, str], Counter[str]] = {}
    for row in table.to_pylist():
        line = expected.setdefault((row["source"], row["language"] or ""), Counter())
        line.update(documents=1, bytes=row["bytes"], tokens=row["tokens"])
    for (source, language), line in expected.items():
        kept = record.counts.flows[FlowKey("kept", source, language)]
        came = record.counts.flows[FlowKey("in", source, language)]
        assert (kept.documents, kept.bytes, kept.tokens) == tuple(line.values())
        assert (came.documents, came.bytes, came.tokens) == (kept.documents, kept.bytes, 0)
    assert len(record.counts.flows) == 2 * len(expected) == 8
    lengths = table["tokens"].to_pylist()
    info = record.info
    assert info["documents"] == len(lengths) == 1450
    assert info["tokens"] == sum(lengths) == shard.tokens
    assert info["rows"] * 64 == info["tokens"] + info["padding"]
    assert info["bytes"] == sum(table["bytes"].to_pylist())
    assert info["logical_sha256"] == shard.logical_sha256()
    assert info["tokenizer_sha256"] == run.record("train", "train").output("tokenizer").sha256
    # A class is named by the largest length in it: 2**k - 1.
    assert info["lengths"] == {
        str(2**k - 1): count
        for k, count in sorted(Counter(n.bit_length() for n in lengths).items())
    }
    used = np.unique(np.concatenate([shard.document(n) for n in range(len(table))]))
    assert info["vocabulary_used"] == len(used)


def test_the_same_bytes_again_and_from_other_row_groups(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", planning={"min_tasks": 1})
    second = make_run(tmp_path / "b", planning={"min_tasks": 1})
    for name in SHARDS:
        path = Path(second.path("clean", f"{name}.parquet"))
        pq.write_table(pq.read_table(path), path, row_group_size=37)
    assert encode(first)[0].outputs == encode(second)[0].outputs


def test_no_documents_at_all(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    commit_plan(run, "scrub", ["scrub-00001"])
    (record,) = encode(run)
    assert record.info["tokens"] == record.info["rows"] == 0
    assert record.counts.flows == {}
    assert len(open_shard(run.path(record.output("tokens").path))) == 0


def test_a_fast_encoder_that_goes_wrong_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path)
    load = pipeline.encode.load_tokenizer

    class Wrong:
        """As the fast encoder, except that long batches have another first id."""

        def __init__(self, encoder: object) -> None:
            self.encoder = encoder

        def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
            ids, offsets = self.encoder.encode(texts)
            return np.append(ids[:1] ^ 1, ids[1:]), offsets

    def load_wrong(*arguments: object, **named: object) -> object:
        tokenizer = load(*arguments, **named)
        return replace(tokenizer, encoder=Wrong(tokenizer.encoder))

    monkeypatch.setattr(pipeline.encode, "load_tokenizer", load_wrong)
    monkeypatch.setattr(pipeline.encode, "_loaded", {})
    with pytest.raises(IntegrityError, match="disagree"):
        encode(run)


def test_another_tokenizer_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)
    monkeypatch.setattr(pipeline.encode, "_loaded", {})
    path = Path(run.path("tokenizer/tokenizer.json"))
    path.write_text(path.read_text() + "\n")
    with pytest.raises(IntegrityError, match="expected sha256"):
        encode(run)


def test_a_damaged_clean_shard_stops_the_task(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    path = Path(run.path("clean/scrub-00000.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises((IntegrityError, TaskError), match=r"scrub-00000\.parquet"):
        encode(run)


def test_begin_document_needs_such_a_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, {"begin_document": True})
    load = pipeline.encode.load_tokenizer
    monkeypatch.setattr(pipeline.encode, "_loaded", {})
    monkeypatch.setattr(
        pipeline.encode, "load_tokenizer", lambda *a, **k: replace(load(*a, **k), bos_id=None)
    )
    with pytest.raises(RecipeError, match="begin_document"):
        encode(run)
