"""Whole runs on the bundled corpus: the same bytes however they were made, and nothing lost."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from filters.language import model_path
from pipeline.recipe_file import load_recipe
from pipeline.run import execute
from pipeline.runners import RunnerOptions
from pipeline.step import Run
from schemas.errors import InputError, RecipeError, RunDirectoryError
from schemas.recipe import STAGES, Recipe
from tokenizer.encode import load_tokenizer
from tokenizer.shards import open_shard

ONE = RunnerOptions(workers=1)
TWO = RunnerOptions(workers=2)
DEMO = load_recipe("demo")


def hashes(directory: Path) -> dict[str, str]:
    """sha256 of everything that a run writes, apart from its log."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] not in ("log", "tmp")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the bundled recipe with one worker."""
    directory = tmp_path_factory.mktemp("run") / "one"
    execute(DEMO, str(directory), options=ONE)
    return directory


def test_every_stage_balances_and_feeds_the_next(undisturbed: Path) -> None:
    ledger = json.loads((undisturbed / "ledger.json").read_bytes())["stages"]
    assert list(ledger) == list(STAGES)

    def documents(stage: str, outcome: str) -> int:
        flows = ledger[stage]["flows"]
        return sum(f["documents"] for f in flows if f["outcome"] == outcome)

    for before, after in (("clean", "dedup"), ("dedup", "scrub"), ("scrub", "encode")):
        assert documents(before, "kept") == documents(after, "in") > 0
    assert documents("clean", "removed") > 0
    assert documents("clean", "failed") > 0  # the corpus has broken records on purpose
    assert documents("dedup", "removed") > 0
    tokens = sum(f["tokens"] for f in ledger["encode"]["flows"])
    assert tokens > documents("encode", "kept")


@pytest.mark.parametrize(
    "options", [TWO, RunnerOptions(workers=1, bundle_repeat=1)], ids=["processes", "repeated"]
)
def test_bytes_do_not_depend_on_workers_or_retries(
    undisturbed: Path, tmp_path: Path, options: RunnerOptions
) -> None:
    execute(DEMO, str(tmp_path / "run"), options=options)
    assert hashes(tmp_path / "run") == hashes(undisturbed)


def test_stage_by_stage_equals_one_go(undisturbed: Path, tmp_path: Path) -> None:
    for stage in STAGES:
        summary = execute(DEMO, str(tmp_path / "run"), options=ONE, until=stage)
        assert list(summary.ledger)[-1] == stage
    assert hashes(tmp_path / "run") == hashes(undisturbed)


def test_an_earlier_stage_takes_nothing_back(undisturbed: Path) -> None:
    before = hashes(undisturbed)
    summary = execute(DEMO, str(undisturbed), options=ONE, until="clean")
    assert list(summary.ledger) == list(STAGES)
    assert hashes(undisturbed) == before


@pytest.mark.parametrize("after", ["records/clean", "records/scrub"])
def test_killed_run_resumes_to_the_same_bytes(
    undisturbed: Path, tmp_path: Path, after: str
) -> None:
    directory = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "run", "demo"]
    command += ["--output", str(directory), "--workers", "2", "--quiet"]
    process = subprocess.Popen(command, start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((directory / after).glob("*.json")):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / "manifest.json").exists()
    # A kill in the middle of a record leaves the beginning of it under another name.
    (directory / "records" / "clean" / ".partial-x").write_text("{")
    execute(DEMO, str(directory), options=ONE)
    assert hashes(directory) == hashes(undisturbed)


def test_killed_worker_is_replaced(undisturbed: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    command = [sys.executable, "-W", "ignore", "-m", "pipeline", "run", "demo"]
    command += ["--output", str(directory), "--workers", "2", "--quiet"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 120
    while not list((directory / "records/clean").glob("*.json")):
        assert process.poll() is None, "ended before a worker could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", "sdk_worker_main"],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    assert process.wait(timeout=300) == 0
    assert hashes(directory) == hashes(undisturbed)


def texts(directory: Path) -> list[str]:
    paths = sorted((directory / "clean").glob("*.parquet"))
    return [text for path in paths for text in pq.read_table(path)["text"].to_pylist()]


def shards(directory: Path | str) -> list[Path]:
    return sorted((Path(directory) / "tokens").glob("*.arrow"))


def decoded(directory: Path) -> list[str]:
    (tokenizer,) = (directory / "tokenizer").glob("tokenizer.[jm]*")
    loaded = load_tokenizer(tokenizer)
    opened = map(open_shard, shards(directory))
    return [shard.text(k, loaded) for shard in opened for k in range(len(shard.documents))]


@pytest.mark.parametrize("kind", ["bpe", "sentencepiece", "given json", "given model"])
def test_token_shards_decode_to_the_scrubbed_texts(
    undisturbed: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "bpe":
        directory = undisturbed
    else:
        directory = tmp_path / "run"
        changes: dict[str, object] = {"kind": "sentencepiece", "vocab_size": 4000}
        if kind == "given json":
            path = undisturbed / "tokenizer" / "tokenizer.json"
            changes = {"kind": "given", "path": str(path)}
        execute(with_tokenizer(changes), str(directory), options=ONE)
        if kind == "given model":
            path = directory / "tokenizer" / "tokenizer.model"
            directory = tmp_path / "again"
            changes = {"kind": "given", "path": str(path)}
            execute(with_tokenizer(changes), str(directory), options=ONE)
    assert decoded(directory) == texts(directory)
    assert len(texts(directory)) > 1000


def with_tokenizer(value: dict[str, object]) -> Recipe:
    return Recipe.model_validate(DEMO.canonical() | {"tokenizer": value})


def test_other_libraries_see_the_same_tokens(undisturbed: Path) -> None:
    ledger = json.loads((undisturbed / "ledger.json").read_bytes())["stages"]["encode"]
    tokens = sum(flow["tokens"] for flow in ledger["flows"])
    seen = dict.fromkeys(("pyarrow", "datasets", "polars"), 0)
    for path in shards(undisturbed):
        with pa.memory_map(str(path)) as file:
            lengths = pa.ipc.open_stream(file).read_all()["seq_lengths"]
            seen["pyarrow"] += pc.sum(pc.list_flatten(lengths)).as_py() or 0
        rows = datasets.Dataset.from_file(str(path))
        assert isinstance(rows.data, datasets.table.MemoryMappedTable)
        seen["datasets"] += sum(map(sum, rows["seq_lengths"]))
        frame = polars.read_ipc_stream(path)
        seen["polars"] += frame["seq_lengths"].explode().sum()
        assert [len(row) for row in rows["input_ids"]] == [512] * len(frame)
    assert seen == dict.fromkeys(seen, tokens)


def small(tmp_path: Path, **changes: object) -> Recipe:
    """A recipe over one little file that lets everything pass."""
    path = tmp_path / "in.jsonl"
    if not path.exists():
        lines = [{"text": f"document number {n} says something of its own"} for n in range(20)]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    value = {"name": "small", "sources": [{"name": "s", "paths": [str(path)]}]}
    return Recipe.model_validate(value | changes)


def test_another_recipe_is_refused_by_key(tmp_path: Path) -> None:
    directory = str(tmp_path / "run")
    execute(small(tmp_path), directory, options=ONE, until="clean")
    changed = small(tmp_path, seed=1, encode={"sequence_length": 64})
    with pytest.raises(RunDirectoryError, match=r"keys differ: encode.sequence_length, seed\."):
        execute(changed, directory, options=ONE)


def test_input_that_changes_after_planning_stops_the_run(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    run = Run(str(tmp_path / "run"), recipe)
    execute(recipe, run.directory, options=ONE, until="clean")
    for record in (tmp_path / "run" / "records" / "clean").iterdir():
        record.unlink()
    with open(tmp_path / "in.jsonl", "a") as file:
        file.write('{"text": "one more"}\n')
    with pytest.raises(InputError, match="changed"):
        execute(recipe, run.directory, options=ONE)


def test_input_that_is_gone_after_planning_is_an_input_error(tmp_path: Path) -> None:
    recipe = small(tmp_path)
    execute(recipe, str(tmp_path / "run"), options=ONE, until="clean")
    for record in (tmp_path / "run" / "records" / "clean").iterdir():
        record.unlink()
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(InputError, match="cannot open"):
        execute(recipe, str(tmp_path / "run"), options=ONE)


def test_a_language_model_that_changes_after_planning_stops_the_run(tmp_path: Path) -> None:
    model = tmp_path / "lid.ftz"
    packaged = Path(model_path("lid.176")).read_bytes()
    model.write_bytes(packaged)
    recipe = small(tmp_path, clean={"language": {"model": str(model)}})
    execute(recipe, str(tmp_path / "run"), options=ONE, until="clean")
    for record in (tmp_path / "run" / "records" / "clean").iterdir():
        record.unlink()
    model.write_bytes(packaged + b" ")
    with pytest.raises(InputError, match=r"clean\.language\.model has changed"):
        execute(recipe, str(tmp_path / "run"), options=ONE)


def test_ids_of_the_data_that_repeat_are_reported(tmp_path: Path) -> None:
    lines = [{"id": n % 3, "text": f"text {n} that is unlike any other one"} for n in range(4)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = execute(small(tmp_path), str(tmp_path / "run"), options=ONE, until="dedup")
    run = Run(summary.directory, small(tmp_path))
    (record,) = run.records("dedup.survivors")
    assert record.info["repeated_ids"] == {"documents": 1, "examples": ["0"]}


def test_nothing_left_after_filters_is_a_valid_run(tmp_path: Path) -> None:
    rule = {"name": "none", "signal": "words", "op": ">", "value": 10**9}
    recipe = small(tmp_path, clean={"passes": [{"name": "main", "rules": [rule]}]})
    summary = execute(recipe, str(tmp_path / "run"), options=ONE)
    assert summary.ledger["clean"].total("removed").documents == 20
    assert [open_shard(path).tokens for path in shards(summary.directory)] in ([], [0])


def test_language_scores_are_compared_as_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    text = "This is a plain English sentence about nothing in particular, and so is this one."
    path.write_text(json.dumps({"text": text}) + "\n")

    def kept(clean: dict[str, object], name: str) -> int:
        run = execute(
            small(tmp_path, clean=clean), str(tmp_path / name), options=ONE, until="clean"
        )
        return run.ledger["clean"].total("kept").documents

    assert kept({}, "free") == 1
    (signals,) = (tmp_path / "free" / "signals").iterdir()
    score = round(pq.read_table(signals)["language_score"][0].as_py(), 4)
    higher = round(score + 0.0001, 4)
    for number, (least, expected) in enumerate([(score, 1), (higher, 0)]):
        assert kept({"language": {"min_score": least}}, f"min{number}") == expected
    rule = {"name": "sure", "signal": "language_score", "op": ">", "value": 0.01}
    passes = [{"name": "main", "signals": "needed", "rules": [rule]}]
    assert kept({"passes": passes}, "rule") == 1


def test_an_output_that_is_gone_is_made_again(tmp_path: Path) -> None:
    recipe, directory = small(tmp_path), tmp_path / "run"
    execute(recipe, str(directory), options=ONE, until="clean")
    before = hashes(directory)
    (documents,) = (directory / "documents").iterdir()
    documents.unlink()
    execute(recipe, str(directory), options=ONE, until="clean")
    assert hashes(directory) == before


def test_errors_of_planners_keep_their_kind_across_processes(tmp_path: Path) -> None:
    many = [{"text": f"document {n} " + "word " * 50} for n in range(40_000)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in many))
    given = tmp_path / "tokenizer.json"
    given.write_text("{}")
    recipe = small(tmp_path, tokenizer={"kind": "given", "path": str(given)})
    with pytest.raises(RecipeError, match=r"^tokenizer\.path: expected a tokenizer\.json"):
        execute(recipe, str(tmp_path / "run"), options=TWO)
