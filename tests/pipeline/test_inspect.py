"""Inspect tells what is known of a corpus by its construction, from records alone."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import small_corpus
from rich.console import Console
from typer.testing import CliRunner

from pipeline import rundir
from pipeline.cli import app
from pipeline.inspect import collect, fold_info
from pipeline.run import STEPS, execute
from pipeline.runners import RunnerOptions
from pipeline.tables import render
from schemas.errors import IntegrityError, RunDirectoryError
from schemas.recipe import Recipe


@pytest.fixture(scope="module")
def facts(small_run: Path) -> dict[str, Any]:
    found = collect(str(small_run))
    assert json.loads(json.dumps(found)) == found  # plain JSON values, whoever prints them
    return found


def documents(facts: dict[str, Any], stage: str, outcome: str, reason: str = "") -> int:
    (count,) = (
        row["documents"]
        for row in facts["funnel"]
        if (row["stage"], row["outcome"], row["reason"]) == (stage, outcome, reason)
    )
    return int(count)


def test_the_funnel_is_that_of_the_corpus(
    facts: dict[str, Any], small: small_corpus.Corpus
) -> None:
    sound = len(small.documents)
    assert (
        sound == small_corpus.PROSE + small_corpus.COPIES + small_corpus.SHORT + small_corpus.MAIL
    )
    assert facts["input"]["documents"] == sound + small_corpus.BROKEN
    assert documents(facts, "clean", "in") == sound + small_corpus.BROKEN
    assert documents(facts, "clean", "removed", "long-enough") == small_corpus.SHORT
    assert documents(facts, "clean", "kept") == sound - small_corpus.SHORT
    assert documents(facts, "dedup", "removed", "exact") == small_corpus.COPIES
    left = small_corpus.PROSE + small_corpus.MAIL
    assert documents(facts, "dedup", "kept") == left
    assert documents(facts, "scrub", "kept") == documents(facts, "encode", "kept") == left
    failed = [r["documents"] for r in facts["funnel"] if r["outcome"] == "failed"]
    assert sum(failed) == small_corpus.BROKEN
    for row in facts["funnel"]:
        assert row["share"] == round(row["documents"] / (sound + small_corpus.BROKEN), 6)


def test_each_stage_takes_in_what_it_gives_out(facts: dict[str, Any]) -> None:
    for stage in ("clean", "dedup", "scrub", "encode"):
        rows = [row for row in facts["funnel"] if row["stage"] == stage]
        for unit in ("documents", "bytes"):
            came = sum(r[unit] for r in rows if r["outcome"] == "in")
            went = sum(r[unit] for r in rows if r["outcome"] != "in")
            edits = sum(facts["deltas"].get(stage, {}).values()) if unit == "bytes" else 0
            assert came + edits == went, (stage, unit)


def test_sources_are_told_apart(facts: dict[str, Any]) -> None:
    by_name = {row["source"]: row for row in facts["sources"]}
    assert set(by_name) == {"prose", "mail"}
    prose, mail = by_name["prose"], by_name["mail"]
    assert prose["in"]["documents"] == small_corpus.PROSE + small_corpus.COPIES + small_corpus.SHORT
    assert prose["removed"]["documents"] == small_corpus.COPIES + small_corpus.SHORT
    assert prose["kept"]["documents"] == small_corpus.PROSE
    assert (mail["failed"]["documents"], mail["kept"]["documents"]) == (
        small_corpus.BROKEN,
        small_corpus.MAIL,
    )
    assert prose["kept"]["tokens"] + mail["kept"]["tokens"] == facts["tokens"]["tokens"]


def test_tokens_and_lengths_are_those_of_the_document_tables(
    facts: dict[str, Any], small_run: Path
) -> None:
    lengths = [
        length
        for path in small_run.glob("tokens/*.documents.parquet")
        for length in pq.read_table(path, columns=["tokens"]).column("tokens").to_pylist()
    ]
    assert facts["tokens"]["tokens"] == sum(lengths)
    assert facts["tokens"]["documents"] == len(lengths)
    previous = -1
    for row in facts["lengths"]:
        assert row["documents"] == sum(previous < n <= row["up_to"] for n in lengths)
        previous = row["up_to"]
    assert sum(row["documents"] for row in facts["lengths"]) == len(lengths)


def test_sizes_are_those_on_disk(facts: dict[str, Any], small_run: Path) -> None:
    committed = sum(
        path.stat().st_size
        for path in small_run.rglob("*")
        if path.is_file() and path.relative_to(small_run).parts[0] not in ("log", "plan", "records")
        if path.parent != small_run
    )
    assert sum(row["bytes"] for row in facts["sizes"]) == committed
    (shards,) = (row for row in facts["sizes"] if row["kind"] == "clean")
    assert shards["files"] == len(list(small_run.glob("clean/*.parquet"))) > 1


def test_quarantine_names_place_and_error(facts: dict[str, Any]) -> None:
    found = facts["quarantine"]
    assert sum(kind["documents"] for kind in found["kinds"]) == small_corpus.BROKEN
    examples = [row for rows in found["examples"].values() for row in rows]
    assert len(examples) == small_corpus.BROKEN
    assert all(row["source"] == "mail" and row["message"] for row in examples)
    assert any(row["raw"].startswith(small_corpus.HOSTILE) for row in examples)


def test_personal_data_duplicates_and_tokenizer(facts: dict[str, Any]) -> None:
    assert facts["pii"]["findings"] == {"email": small_corpus.MAIL}
    assert facts["duplicates"]["removed"] == {"exact": small_corpus.COPIES}
    files = facts["tokenizer"]["files"]
    assert files["tokenizer"].startswith("tokenizer/")


def test_the_terminal_shows_hostile_text_as_text(facts: dict[str, Any]) -> None:
    stream = io.StringIO()
    hostile = json.loads(json.dumps(facts).replace("long-enough", "[bold]\\u001b[2Jx\\u202e\\ny"))
    for rows in hostile["quarantine"]["examples"].values():
        for row in rows:
            row["message"] = small_corpus.HOSTILE
    render(hostile, Console(file=stream, force_terminal=True, width=120, markup=False, emoji=False))
    shown = stream.getvalue()
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "[bold]\\x1b[2Jx\\u202e\\ny" in shown
    assert "\\x1b[31m[bold]\\u202e" in shown


def test_every_table_is_there(small_run: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(small_run), "--no-json"]).stdout
    for title in (
        "Funnel",
        "Sources",
        "Languages of what is kept",
        "Document lengths",
        "Tokenizer",
        "Duplicates",
        "Personal data replaced",
        "Quarantine",
        "On disk",
    ):
        assert f"\n{title}\n" in shown
    assert "long-enough" in shown


def test_json_is_one_line_with_the_same_facts(small_run: Path, facts: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["inspect", str(small_run), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"event": "result", **facts}


def test_a_run_that_has_not_ended_shows_how_far_it_is(small_run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(small_run, directory)
    for name in ("manifest.json", "ledger.json"):
        (directory / name).unlink()
    for step in ("train", "encode"):
        shutil.rmtree(directory / "records" / step)
        (directory / "plan" / f"{step}.json").unlink()
    sorted((directory / "records" / "scrub").iterdir())[0].unlink()
    facts = collect(str(directory))
    assert not facts["finished"]
    scrub = facts["steps"][-1]
    assert (scrub["step"], scrub["tasks"] - scrub["tasks_done"]) == ("scrub", 1)
    assert facts["tokens"] is None
    result = CliRunner().invoke(app, ["inspect", str(directory), "--no-json"])
    assert "not finished" in result.stdout
    assert f"scrub: {scrub['tasks_done']} of {scrub['tasks']} tasks done" in result.stdout


def test_damaged_records_are_an_integrity_error(small_run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(small_run, directory)
    sorted((directory / "records" / "clean").iterdir())[0].write_text("{")
    with pytest.raises(IntegrityError, match=r"records/clean/clean-00000\.json is not a record"):
        collect(str(directory))
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        collect(str(tmp_path))


def test_task_facts_add_up() -> None:
    folded = fold_info([{"a": 1, "b": {"x": 2}, "s": "one", "f": True}, {"a": 2, "b": {"y": 1}}])
    assert folded == {"a": 3, "b": {"x": 2, "y": 1}, "s": "one", "f": True}
    assert fold_info([]) == {}


def test_the_steps_known_from_outside_are_those_that_run() -> None:
    """Looking at a run does not import what its steps do, hence a list of its own."""
    assert tuple((step.name, step.stage) for step in STEPS) == rundir.STEPS


def test_warns_of_success_that_is_none(tmp_path: Path) -> None:
    lines = ['{"id": "a", "text": "the first"}', '{"id": "a", "text": "another one"}', "{"]
    (tmp_path / "good.jsonl").write_text("\n".join(lines))
    (tmp_path / "bad.jsonl").write_text("{\n{\n")
    sources = [{"name": n, "paths": [str(tmp_path / f"{n}.jsonl")]} for n in ("good", "bad")]
    recipe = Recipe.model_validate({"name": "w", "sources": sources})
    execute(recipe, str(tmp_path / "run"), options=RunnerOptions(workers=1), until="dedup")
    assert collect(str(tmp_path / "run"))["warnings"] == [
        "3 of 5 documents failed; see quarantine/",
        "nothing is left of source bad",
        "1 documents have the id of an earlier one, for example a",
    ]
