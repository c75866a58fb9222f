"""Progress is what plans and records say, and a poll that fails harms nothing."""

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipeline.commands.bars import Bars, describe
from pipeline.progress import JsonDisplay, Progress, StepProgress, Watcher
from schemas.ledger import Counts
from schemas.record import Task, TaskRecord

STEPS = [("clean", "clean"), ("scrub", "scrub")]


def plan(directory: Path, step: str, sizes: dict[str, int]) -> None:
    tasks = [Task(step=step, name=n, size=s).to_json() for n, s in sizes.items()]
    path = directory / "plan" / f"{step}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"step": step, "tasks": tasks}))


def record(directory: Path, step: str, task: str, documents: int) -> None:
    counts = Counts()
    ids = [f"{task}-{i}" for i in range(documents)]
    counts.add("in", ids, documents)
    counts.add("kept", ids, documents)
    path = directory / "records" / step / f"{task}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = TaskRecord(step=step, task=task, key="", outputs=(), counts=counts, info={})
    path.write_bytes(found.dumps())


def test_a_run_is_followed_from_nothing_to_its_end(tmp_path: Path) -> None:
    now = [100.0]
    watcher = Watcher(str(tmp_path), STEPS, clock=lambda: now[0])
    assert [s.planned for s in watcher.poll()] == [False, False]

    plan(tmp_path, "clean", {"a": 600, "b": 400})
    clean, _ = watcher.poll()
    assert (clean.tasks_done, clean.tasks, clean.bytes) == (0, 2, 1000)
    assert clean.bytes_per_second is None

    now[0] += 3
    record(tmp_path, "clean", "a", documents=7)
    (tmp_path / "records" / "clean" / ".tmp123").write_text("half a rec")
    record(tmp_path, "clean", "not-planned", documents=99)
    clean, _ = watcher.poll()
    assert (clean.tasks_done, clean.bytes_done, clean.documents) == (1, 600, 7)
    assert clean.bytes_per_second == 200.0
    assert clean.seconds_left == 2.0
    assert not clean.finished

    record(tmp_path, "clean", "b", documents=5)
    plan(tmp_path, "scrub", {"c": 0})
    clean, scrub = watcher.poll()
    assert clean.finished
    assert clean.documents == 12
    assert scrub.planned
    assert not scrub.finished


def test_what_an_earlier_run_did_does_not_count_as_speed(tmp_path: Path) -> None:
    now = [0.0]
    plan(tmp_path, "clean", {"a": 900, "b": 50, "c": 50})
    record(tmp_path, "clean", "a", documents=1)
    watcher = Watcher(str(tmp_path), STEPS[:1], clock=lambda: now[0])
    (clean,) = watcher.poll()
    assert clean.bytes_done == 900
    now[0] = 10.0
    record(tmp_path, "clean", "b", documents=1)
    (clean,) = watcher.poll()
    assert clean.bytes_per_second == 5.0
    assert clean.seconds_left == 10.0


def test_programs_get_an_event_for_each_change_and_each_end() -> None:
    emitted: list[dict[str, Any]] = []
    display = JsonDisplay(lambda event, **fields: emitted.append({"event": event, **fields}))
    states = [StepProgress(step="clean", stage="clean"), StepProgress(step="scrub", stage="scrub")]
    display.show(states)
    assert emitted == []
    states[0] = StepProgress(step="clean", stage="clean", tasks=2, tasks_done=1, documents=3)
    display.show(states)
    display.show(states)
    states[0] = StepProgress(step="clean", stage="clean", tasks=2, tasks_done=2, documents=5)
    display.show(states)
    display.show(states)
    assert [(e["event"], e["tasks_done"], e["documents"]) for e in emitted] == [
        ("progress", 1, 3),
        ("step", 2, 5),
    ]


def test_bars_say_tasks_documents_speed_and_time_left() -> None:
    state = StepProgress(
        step="clean",
        stage="clean",
        tasks=8,
        tasks_done=3,
        bytes=100,
        bytes_done=40,
        documents=12_000,
        bytes_per_second=41.2e6,
        seconds_left=72.4,
    )
    expected = "3/8 tasks, 12,000 documents, 41.2 MB/s, 1:12 left"
    assert describe(state) == expected
    stream = io.StringIO()
    bars = Bars(Console(file=stream, force_terminal=True, width=120))
    bars.show([state, StepProgress(step="scrub", stage="scrub")])
    bars.close()
    assert expected in stream.getvalue()
    assert "scrub" not in stream.getvalue()


class _Recorder:
    def __init__(self, show: Callable[[], None]) -> None:
        self._show = show
        self.closed = False

    def show(self, steps: object) -> None:
        self._show()

    def close(self) -> None:
        self.closed = True


def test_a_display_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("no terminal")

    display = _Recorder(fail)
    with Progress(str(tmp_path), STEPS, display):
        pass
    assert display.closed


def test_a_damaged_plan_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "clean.json").write_text("{")
    shown: list[int] = []
    display = _Recorder(lambda: shown.append(1))
    with Progress(str(tmp_path), STEPS, display):
        pass
    assert display.closed
    assert shown == []


def test_the_thread_ends_with_the_run_even_when_the_run_fails(tmp_path: Path) -> None:
    display = _Recorder(lambda: None)
    before = threading.active_count()
    with pytest.raises(ValueError, match="run failed"), Progress(str(tmp_path), STEPS, display):
        raise ValueError("run failed")
    assert display.closed
    assert threading.active_count() == before
