"""Progress bars for a terminal: one a step, with tasks, documents, speed and time left."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from pipeline.progress import StepProgress


class Bars:
    """Draws on standard error, so that standard output holds results only."""

    def __init__(self, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[detail]}"),
            console=console or Console(stderr=True, markup=False, highlight=False),
            refresh_per_second=4,
        )
        self._bars: dict[str, TaskID] = {}
        self._progress.start()

    def show(self, steps: Sequence[StepProgress]) -> None:
        for state in steps:
            if not state.planned:
                continue
            # Tasks of no planned bytes still count for something.
            total, done = state.bytes + state.tasks, state.bytes_done + state.tasks_done
            if state.step not in self._bars:
                self._bars[state.step] = self._progress.add_task(state.step, detail="")
            self._progress.update(
                self._bars[state.step], total=total, completed=done, detail=describe(state)
            )

    def close(self) -> None:
        self._progress.stop()


def describe(state: StepProgress) -> str:
    """`3/8 tasks, 12,000 documents, 41.2 MB/s, 0:12 left`."""
    parts = [f"{state.tasks_done}/{state.tasks} tasks"]
    if state.documents:
        parts.append(f"{state.documents:,} documents")
    if state.bytes_per_second is not None:
        parts.append(f"{state.bytes_per_second / 1e6:.1f} MB/s")
    if state.seconds_left is not None and not state.finished:
        minutes, seconds = divmod(round(state.seconds_left), 60)
        parts.append(f"{minutes}:{seconds:02d} left")
    return ", ".join(parts)
