"""Progress of a run, seen from outside: plans and task records, polled by a thread in the driver.

Nothing depends on it. It works the same on every runner, costs a folder listing a second, and a
poll that fails is a poll that did not happen.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from pipeline import storage
from schemas.record import TaskRecord

if TYPE_CHECKING:
    from pipeline.commands.console import Output

POLL_SECONDS = 1.0
REMOTE_POLL_SECONDS = 5.0  # listings of object stores are slow, and billed


@dataclass(frozen=True, kw_only=True)
class StepProgress:
    """How far a step is. Bytes are planned bytes; rate and time left are None until known."""

    step: str
    stage: str
    tasks_done: int = 0
    tasks: int = 0
    bytes_done: int = 0
    bytes: int = 0
    documents: int = 0  # that entered finished tasks
    bytes_per_second: float | None = None
    seconds_left: float | None = None

    @property
    def planned(self) -> bool:
        return self.tasks > 0

    @property
    def finished(self) -> bool:
        return self.planned and self.tasks_done == self.tasks


class Display(Protocol):
    """Shows the state of all steps of a run."""

    def show(self, steps: Sequence[StepProgress]) -> None: ...

    def close(self) -> None: ...


@dataclass
class _Watched:
    """What is known of one step."""

    step: str
    stage: str
    sizes: dict[str, int] = field(default_factory=dict)  # planned bytes by task
    done: set[str] = field(default_factory=set)
    documents: int = 0
    seen_at: float = 0.0  # when its plan was first seen,
    seen_bytes: int = 0  # and what an earlier run had done of it by then

    @property
    def bytes_done(self) -> int:
        return sum(self.sizes[name] for name in self.done)


class Watcher:
    """Polls a run directory. `steps` are (name, stage) in pipeline order."""

    def __init__(
        self,
        directory: str,
        steps: Sequence[tuple[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._steps = [_Watched(step=step, stage=stage) for step, stage in steps]
        self._clock = clock

    def poll(self) -> list[StepProgress]:
        """The state of every step now. Raises what the file system raises."""
        return [self._poll(one) for one in self._steps]

    def _poll(self, one: _Watched) -> StepProgress:
        now = self._clock()
        first = not one.sizes
        if first:
            path = storage.join(self._directory, "plan", f"{one.step}.json")
            if not storage.exists(path):
                return StepProgress(step=one.step, stage=one.stage)
            tasks = json.loads(storage.read_bytes(path))["tasks"]
            one.sizes = {task["name"]: task["size"] for task in tasks}
            one.seen_at = now
        if len(one.done) < len(one.sizes):
            self._read_records(one)
        if first:
            one.seen_bytes = one.bytes_done
        done, total = one.bytes_done, sum(one.sizes.values())
        state = StepProgress(
            step=one.step,
            stage=one.stage,
            tasks_done=len(one.done),
            tasks=len(one.sizes),
            bytes_done=done,
            bytes=total,
            documents=one.documents,
        )
        elapsed, new = now - one.seen_at, done - one.seen_bytes
        if elapsed <= 0 or new <= 0:
            return state
        rate = new / elapsed
        return replace(state, bytes_per_second=rate, seconds_left=(total - done) / rate)

    def _read_records(self, one: _Watched) -> None:
        folder = storage.join(self._directory, "records", one.step)
        for name in _record_names(folder):
            if name in one.sizes and name not in one.done:
                record = TaskRecord.loads(storage.read_bytes(storage.join(folder, f"{name}.json")))
                one.documents += record.counts.total("in").documents
                one.done.add(name)


def _record_names(folder: str) -> list[str]:
    """Tasks that have a record. Names that start with a dot are being written."""
    if storage.is_remote(folder):
        paths = [info.path for info in storage.glob(storage.join(folder, "*.json"))]
        names = [path.rsplit("/", 1)[-1] for path in paths]
    else:
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
        except FileNotFoundError:
            return []
    return sorted(n.removesuffix(".json") for n in names if n.endswith(".json") and n[0] != ".")


class Progress:
    """Context manager that shows a run's progress while the block runs."""

    def __init__(
        self, directory: str, steps: Sequence[tuple[str, str]], display: Display | None
    ) -> None:
        self._watcher = Watcher(directory, steps)
        self._interval = REMOTE_POLL_SECONDS if storage.is_remote(directory) else POLL_SECONDS
        self._display = display
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        if self._display is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._display is None:
            return
        self._stop.set()
        self._thread.join()
        self._update()
        self._display.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._update()

    def _update(self) -> None:
        assert self._display is not None
        try:
            self._display.show(self._watcher.poll())
        except Exception:  # whatever storage or terminal raise: a run does not end for its looks
            logging.getLogger(__name__).debug("progress poll failed", exc_info=True)


def display(output: Output) -> Display | None:
    """Bars on a terminal, JSON lines for a program, None where nothing is to be shown."""
    if output.quiet:
        return None
    if output.json:
        return JsonDisplay(output.event)
    from pipeline.commands.bars import Bars

    return Bars()


class JsonDisplay:
    """A `progress` event for each poll that changed something, a `step` event when one is done."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self._emit = emit
        self._last: dict[str, StepProgress] = {}

    def show(self, steps: Sequence[StepProgress]) -> None:
        for state in steps:
            before = self._last.get(state.step)
            if not state.planned or (before is not None and _same(before, state)):
                continue
            self._last[state.step] = state
            self._emit(
                "step" if state.finished else "progress",
                step=state.step,
                stage=state.stage,
                tasks_done=state.tasks_done,
                tasks=state.tasks,
                bytes_done=state.bytes_done,
                bytes=state.bytes,
                documents=state.documents,
                bytes_per_second=_rounded(state.bytes_per_second),
                seconds_left=_rounded(state.seconds_left),
            )

    def close(self) -> None:
        """Nothing is held."""


def _same(before: StepProgress, now: StepProgress) -> bool:
    return (before.tasks_done, before.tasks) == (now.tasks_done, now.tasks)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
