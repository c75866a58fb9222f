"""A task's record is its commit: without it nothing exists, with it nothing runs again."""

import hashlib
import os
from pathlib import Path

import pytest

from pipeline.step import Outputs, Result, Run, planned, run_task
from schemas.errors import LedgerError, TaskError
from schemas.ledger import Counts
from schemas.recipe import Recipe
from schemas.record import Task


class Copy:
    """A step that writes its task's text, and counts how often it ran."""

    name = "copy"
    stage = "clean"

    def __init__(self, log: Path) -> None:
        self.log = log

    def plan(self, run: Run) -> list[Task]:
        self._note("plan")
        return [Task(step="copy", name="copy-0", size=1, params={"text": "hello"})]

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        self._note("process")
        outputs.path("words", f"words/{task.name}.txt").write_text(task.params["text"])
        if task.params["text"] == "crash":
            raise ZeroDivisionError("in the middle")
        counts = Counts()
        counts.add("in", ["a", "b"], 5)
        counts.add("kept", ["a", "b"] if task.params["text"] != "lose" else ["a"], 5)
        return Result(counts, {"length": len(task.params["text"])})

    def _note(self, what: str) -> None:
        with open(self.log, "a") as file:
            file.write(what + "\n")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    source = {"name": "s", "paths": ["x.jsonl"]}
    return Run(str(tmp_path / "run"), Recipe.model_validate({"name": "t", "sources": [source]}))


def files(run: Run) -> set[str]:
    return {
        os.path.relpath(os.path.join(folder, name), run.directory)
        for folder, _, names in os.walk(run.directory)
        for name in names
        if "log" not in folder
    }


def test_record_names_outputs_with_size_and_hash(run: Run, tmp_path: Path) -> None:
    step = Copy(tmp_path / "log")
    (task,) = planned(run, step)
    record = run_task(run, step, task)
    output = record.output("words")
    assert (output.path, output.bytes) == ("words/copy-0.txt", 5)
    assert output.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert Path(run.path(output.path)).read_text() == "hello"
    assert run.records("copy") == [record]
    assert files(run) == {"plan/copy.json", "records/copy/copy-0.json", "words/copy-0.txt"}


def test_committed_task_and_plan_are_not_made_again(run: Run, tmp_path: Path) -> None:
    step = Copy(tmp_path / "log")
    first = [run_task(run, step, task) for task in planned(run, step)]
    second = [run_task(run, step, task) for task in planned(run, step)]
    assert first == second
    assert (tmp_path / "log").read_text() == "plan\nprocess\n"


def test_a_record_of_other_parameters_is_not_reused(run: Run, tmp_path: Path) -> None:
    step = Copy(tmp_path / "log")
    run_task(run, step, Task(step="copy", name="copy-0", size=1, params={"text": "old"}))
    record = run_task(run, step, Task(step="copy", name="copy-0", size=1, params={"text": "newer"}))
    assert record.info == {"length": 5}
    assert Path(run.path("words/copy-0.txt")).read_text() == "newer"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("crash", TaskError, "task copy-0 failed: ZeroDivisionError: in the middle"),
        ("lose", LedgerError, "task copy-0 does not balance"),
    ],
)
def test_a_failed_task_leaves_nothing(
    run: Run, tmp_path: Path, text: str, error: type[Exception], message: str
) -> None:
    task = Task(step="copy", name="copy-0", size=1, params={"text": text})
    with pytest.raises(error, match=message):
        run_task(run, Copy(tmp_path / "log"), task)
    assert files(run) == set()
