"""The scrub step on a small run directory written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipeline.scrub
from filters.pii import Bounds, Scrubber
from pipeline.scrub import PII, Scrub
from pipeline.step import Outputs, Result, Run
from schemas.document import DOCUMENT, REJECT
from schemas.ledger import Counts
from schemas.recipe import Recipe
from schemas.record import Task, TaskRecord

TEXTS = [
    "Write to jane.doe@example.com or call +44 20 7946 0958.",
    "a duplicate that goes",
    "请联系zhang.wei@qq.com，手机13812345678。",
    "nothing personal here, 04.02.2022 at 12:30",
    "another duplicate, mail x@example.org",
]
LANGUAGES = ["en", "en", "zh", None, "en"]
REMOVED = [1, 4]


def _recipe(tokenizer: dict[str, object]) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "scrub-test",
            "sources": [{"name": "web", "paths": ["x.jsonl"]}],
            "tokenizer": tokenizer,
        }
    )


def _documents() -> pa.Table:
    n = len(TEXTS)
    return pa.table(
        {
            "id": [f"doc-{i}" for i in range(n)],
            "text": TEXTS,
            "source": ["web"] * n,
            "path": ["x.jsonl"] * n,
            "position": list(range(n)),
            "url": [None] * n,
            "date": [None] * n,
            "language": LANGUAGES,
            "language_score": pa.array([0.5] * n, pa.float32()),
        },
        schema=DOCUMENT,
    )


def _commit(run: Run, record: TaskRecord) -> None:
    path = Path(run.record_path(record.step, record.task))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(record.dumps())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run in which clean and dedup are done: five documents, two of them removed."""
    run = Run(str(tmp_path / "run"), _recipe({"kind": "bpe", "vocab_size": 300}))
    (tmp_path / "out").mkdir()
    plan = Path(run.path("plan", "clean.json"))
    plan.parent.mkdir(parents=True)
    task = Task(step="clean", name="clean-00000", size=1)
    plan.write_text(json.dumps({"tasks": [task.to_json()]}))
    outputs = Outputs(tmp_path / "out")
    pq.write_table(
        _documents(), outputs.path("documents", "documents/clean-00000.parquet"), row_group_size=2
    )
    _commit(
        run,
        TaskRecord(
            step="clean",
            task="clean-00000",
            key="k",
            outputs=outputs.publish(run),
            counts=Counts(),
            info={},
        ),
    )
    outputs = Outputs(tmp_path / "out")
    pq.write_table(
        pa.table({"row": pa.array(REMOVED, pa.int64())}),
        outputs.path("removals", "duplicates/clean-00000.parquet"),
    )
    _commit(
        run,
        TaskRecord(
            step="dedup.survivors",
            task="survivors",
            key="k",
            outputs=outputs.publish(run),
            counts=Counts(),
            info={},
        ),
    )
    return run


def _process(run: Run, folder: Path) -> tuple[Result, dict[str, Path]]:
    folder.mkdir()
    outputs = Outputs(folder)
    (task,) = Scrub().plan(run)
    result = Scrub().process(run, task, outputs)
    return result, {o.kind: Path(run.path(o.path)) for o in outputs.publish(run)}


def test_plan_follows_the_clean_tasks(run: Run) -> None:
    (task,) = Scrub().plan(run)
    assert (task.step, task.name) == ("scrub", "scrub-00000")
    assert dict(task.params) == {"clean": "clean-00000"}
    assert task.size == run.record("clean", "clean-00000").counts.total("kept").bytes


def test_documents_findings_and_ledger(run: Run, tmp_path: Path) -> None:
    result, files = _process(run, tmp_path / "task")
    clean = pq.read_table(files["clean"])
    assert clean.schema.equals(DOCUMENT)
    assert clean["id"].to_pylist() == ["doc-0", "doc-2", "doc-3"]
    assert clean["text"].to_pylist() == [
        "Write to <EMAIL> or call <PHONE>.",
        "请联系<EMAIL>，手机<PHONE>。",
        TEXTS[3],
    ]
    expected = _documents().take([0, 2, 3]).drop_columns(["text"])
    assert clean.drop_columns(["text"]).equals(expected)

    found = pq.read_table(files["pii"])
    assert found.schema.equals(PII)
    by_id = dict(zip((f"doc-{i}" for i in range(5)), TEXTS, strict=True))
    values = [by_id[f["id"]].encode()[f["start"] : f["end"]].decode() for f in found.to_pylist()]
    assert values == ["jane.doe@example.com", "+44 20 7946 0958", "zhang.wei@qq.com", "13812345678"]

    result.counts.check("scrub")
    came, kept = result.counts.total("in"), result.counts.total("kept")
    assert (came.documents, kept.documents) == (3, 3)
    assert came.bytes == sum(len(TEXTS[i].encode()) for i in (0, 2, 3))
    assert kept.bytes == sum(len(t.encode()) for t in clean["text"].to_pylist())
    assert result.counts.deltas == {"pii": kept.bytes - came.bytes}
    assert {k.language for k in result.counts.flows} == {"en", "zh", ""}
    assert result.info["documents"] == 3
    assert result.info["findings"] == {"email": 2, "phone": 2}
    assert {(r["entity"], r["source"], r["language"]) for r in result.info["pii"]} == {
        *(("email", "web", "en"), ("email", "web", "zh")),
        *(("phone", "web", "en"), ("phone", "web", "zh")),
    }
    json.dumps(result.info)  # goes into the task record


def test_pretokens_are_counted_from_scrubbed_text_only(run: Run, tmp_path: Path) -> None:
    _, files = _process(run, tmp_path / "task")
    with pa.ipc.open_file(files["counts"]) as file:
        pretokens = file.read_all()["pretoken"].to_pylist()
    joined = b" ".join(pretokens)
    assert b"EMAIL" in joined and b"PHONE" in joined
    assert b"jane" not in joined and b"zhang" not in joined and b"duplicate" not in joined


def test_a_given_tokenizer_needs_no_counts(run: Run, tmp_path: Path) -> None:
    given = Run(run.directory, _recipe({"kind": "given", "path": "tokenizer.json"}))
    _, files = _process(given, tmp_path / "task")
    assert set(files) == {"clean", "pii"}


def test_the_same_bytes_again(run: Run, tmp_path: Path) -> None:
    _, first = _process(run, tmp_path / "first")
    before = {kind: path.read_bytes() for kind, path in first.items()}
    _, second = _process(run, tmp_path / "second")
    assert {kind: path.read_bytes() for kind, path in second.items()} == before


def test_documents_beyond_bounds_are_quarantined_without_their_text(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A bound low enough that the first document fails it; the class itself is the real one.
    monkeypatch.setattr(
        pipeline.scrub,
        "Scrubber",
        lambda entities: Scrubber(entities, bounds=Bounds(bytes=len(TEXTS[0]) - 1)),
    )
    result, files = _process(run, tmp_path / "task")
    result.counts.check("scrub")
    failed = result.counts.total("failed")
    assert (failed.documents, failed.bytes) == (1, len(TEXTS[0]))
    assert {k.reason for k in result.counts.flows if k.outcome == "failed"} == {"pii-bound"}
    assert result.info["quarantined"] == 1
    rejects = pq.read_table(files["quarantine"])
    assert rejects.schema.equals(REJECT)
    (row,) = rejects.to_pylist()
    assert (row["id"], row["outcome"], row["reason"]) == ("doc-0", "failed", "pii-bound")
    assert row["raw"] is None and str(len(TEXTS[0])) in row["message"]
    for kind in ("clean", "pii", "quarantine"):
        assert "jane" not in str(pq.read_table(files[kind]).to_pylist())
    with pa.ipc.open_file(files["counts"]) as file:
        assert "jane" not in str(file.read_all().to_pylist())
    assert pq.read_table(files["clean"])["id"].to_pylist() == ["doc-2", "doc-3"]
