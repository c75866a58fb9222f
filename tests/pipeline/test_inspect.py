"""Inspect tells what is known of a corpus by its construction, from records alone."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import small_corpus as small
from rich.console import Console
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.inspect import collect, fold_info
from pipeline.recipe_file import load_recipe
from pipeline.run import execute
from pipeline.runners import RunnerOptions
from pipeline.tables import render
from schemas.errors import IntegrityError, RunDirectoryError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> small.Corpus:
    return small.make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def finished(corpus: small.Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inspect") / "run"
    execute(load_recipe(corpus.recipe), str(directory), options=RunnerOptions(workers=1))
    return directory


@pytest.fixture(scope="module")
def facts(finished: Path) -> dict[str, Any]:
    found = collect(str(finished))
    assert json.loads(json.dumps(found)) == found  # plain JSON values, whoever prints them
    return found


def documents(facts: dict[str, Any], stage: str, outcome: str, reason: str = "") -> int:
    (count,) = (
        row["documents"]
        for row in facts["funnel"]
        if (row["stage"], row["outcome"], row["reason"]) == (stage, outcome, reason)
    )
    return int(count)


def test_the_funnel_is_that_of_the_corpus(facts: dict[str, Any], corpus: small.Corpus) -> None:
    sound = len(corpus.documents)
    assert sound == small.PROSE + small.COPIES + small.SHORT + small.MAIL
    assert facts["input"]["documents"] == sound + small.BROKEN
    assert documents(facts, "clean", "in") == sound + small.BROKEN
    assert documents(facts, "clean", "removed", "long-enough") == small.SHORT
    assert documents(facts, "clean", "kept") == sound - small.SHORT
    assert documents(facts, "dedup", "removed", "exact") == small.COPIES
    left = small.PROSE + small.MAIL
    assert documents(facts, "dedup", "kept") == left
    assert documents(facts, "scrub", "kept") == documents(facts, "encode", "kept") == left
    failed = [r["documents"] for r in facts["funnel"] if r["outcome"] == "failed"]
    assert sum(failed) == small.BROKEN
    for row in facts["funnel"]:
        assert row["share"] == round(row["documents"] / (sound + small.BROKEN), 6)


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
    assert prose["in"]["documents"] == small.PROSE + small.COPIES + small.SHORT
    assert prose["removed"]["documents"] == small.COPIES + small.SHORT
    assert prose["kept"]["documents"] == small.PROSE
    assert (mail["failed"]["documents"], mail["kept"]["documents"]) == (small.BROKEN, small.MAIL)
    assert prose["kept"]["tokens"] + mail["kept"]["tokens"] == facts["tokens"]["tokens"]


def test_tokens_and_lengths_are_those_of_the_document_tables(
    facts: dict[str, Any], finished: Path
) -> None:
    lengths = [
        length
        for path in finished.glob("tokens/*.documents.parquet")
        for length in pq.read_table(path, columns=["tokens"]).column("tokens").to_pylist()
    ]
    assert facts["tokens"]["tokens"] == sum(lengths)
    assert facts["tokens"]["documents"] == len(lengths)
    previous = -1
    for row in facts["lengths"]:
        assert row["documents"] == sum(previous < n <= row["up_to"] for n in lengths)
        previous = row["up_to"]
    assert sum(row["documents"] for row in facts["lengths"]) == len(lengths)


def test_sizes_are_those_on_disk(facts: dict[str, Any], finished: Path) -> None:
    committed = sum(
        path.stat().st_size
        for path in finished.rglob("*")
        if path.is_file() and path.relative_to(finished).parts[0] not in ("log", "plan", "records")
        if path.parent != finished
    )
    assert sum(row["bytes"] for row in facts["sizes"]) == committed
    (shards,) = (row for row in facts["sizes"] if row["kind"] == "clean")
    assert shards["files"] == len(list(finished.glob("clean/*.parquet"))) > 1


def test_quarantine_names_place_and_error(facts: dict[str, Any]) -> None:
    found = facts["quarantine"]
    assert sum(kind["documents"] for kind in found["kinds"]) == small.BROKEN
    examples = [row for rows in found["examples"].values() for row in rows]
    assert len(examples) == small.BROKEN
    assert all(row["source"] == "mail" and row["message"] for row in examples)
    assert any(row["raw"].startswith(small.HOSTILE) for row in examples)


def test_personal_data_duplicates_and_tokenizer(facts: dict[str, Any]) -> None:
    assert facts["pii"]["findings"] == {"email": small.MAIL}
    assert facts["duplicates"]["removed"] == {"exact": small.COPIES}
    files = facts["tokenizer"]["files"]
    assert files["tokenizer"].startswith("tokenizer/")


def test_the_terminal_shows_hostile_text_as_text(facts: dict[str, Any]) -> None:
    stream = io.StringIO()
    hostile = json.loads(json.dumps(facts).replace("long-enough", "[bold]\\u001b[2Jx\\u202e\\ny"))
    for rows in hostile["quarantine"]["examples"].values():
        for row in rows:
            row["message"] = small.HOSTILE
    render(hostile, Console(file=stream, force_terminal=True, width=120, markup=False, emoji=False))
    shown = stream.getvalue()
    assert "\x1b[2J" not in shown
    assert "\u202e" not in shown
    assert "[bold]\\x1b[2Jx\\u202e\\ny" in shown
    assert "\\x1b[31m[bold]\\u202e" in shown


def test_every_table_is_there(finished: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(finished), "--no-json"]).stdout
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


def test_json_is_one_line_with_the_same_facts(finished: Path, facts: dict[str, Any]) -> None:
    result = CliRunner().invoke(app, ["inspect", str(finished), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"event": "result", **facts}


def test_a_run_that_has_not_ended_shows_how_far_it_is(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
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


def test_damaged_records_are_an_integrity_error(finished: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory)
    sorted((directory / "records" / "clean").iterdir())[0].write_text("{")
    with pytest.raises(IntegrityError, match=r"records/clean/clean-00000\.json is not a record"):
        collect(str(directory))
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        collect(str(tmp_path))


def test_task_facts_add_up() -> None:
    folded = fold_info([{"a": 1, "b": {"x": 2}, "s": "one", "f": True}, {"a": 2, "b": {"y": 1}}])
    assert folded == {"a": 3, "b": {"x": 2, "y": 1}, "s": "one", "f": True}
    assert fold_info([]) == {}
