"""Steps, their tasks, and the one way in which a task is run and committed.

A stage of the pipeline is one or more steps. A step plans tasks from the records of earlier steps
and processes each task from reading to finished files in one call. The record, written last, is the
commit: outputs without a record do not exist, a task with a record is never run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pipeline import storage
from pipeline.environment import fingerprint
from schemas.errors import GristmillError, TaskError
from schemas.ledger import Counts
from schemas.recipe import Recipe, sha256_json
from schemas.record import Output, Task, TaskRecord


@dataclass(frozen=True)
class Run:
    """A run directory and its resolved recipe; cheap to pickle."""

    directory: str
    recipe: Recipe

    @cached_property
    def recipe_sha256(self) -> str:
        return self.recipe.sha256()

    def path(self, *relative: str) -> str:
        """Full path of a file of the run, from parts separated at '/'."""
        return storage.join(self.directory, *(p for part in relative for p in part.split("/")))

    def tasks(self, step: str) -> list[Task]:
        """The planned tasks of a step, in plan order."""
        plan = json.loads(storage.read_bytes(self.path("plan", f"{step}.json")))
        return [Task(**task) for task in plan["tasks"]]

    def record(self, step: str, task: str) -> TaskRecord:
        return TaskRecord.loads(storage.read_bytes(self.record_path(step, task)))

    def record_path(self, step: str, task: str) -> str:
        return self.path("records", step, f"{task}.json")

    def records(self, step: str) -> list[TaskRecord]:
        """Records of all tasks of a finished step, in plan order."""
        return [self.record(step, task.name) for task in self.tasks(step)]


@dataclass
class Outputs:
    """The files of one task: written to local disk, published when the task is done."""

    folder: Path
    _files: dict[str, tuple[str, Path]] = field(default_factory=dict)

    def path(self, kind: str, relative: str) -> Path:
        """A local path to write to, which will become `relative` in the run directory.

        `kind` is what later steps look it up by; `relative` contains the task's name.
        """
        if relative in self._files:
            raise ValueError(f"output {relative} named twice")
        local = self.folder / f"{len(self._files)}-{os.path.basename(relative)}"
        self._files[relative] = (kind, local)
        return local

    def publish(self, run: Run) -> tuple[Output, ...]:
        outputs = []
        for relative, (kind, local) in sorted(self._files.items()):
            with open(local, "rb") as file:
                digest = sha256_file(file)
            size = local.stat().st_size
            outputs.append(Output(kind=kind, path=relative, bytes=size, sha256=digest))
            storage.publish(local, run.path(relative))
        return tuple(outputs)


@dataclass(frozen=True)
class Result:
    """What a task reports: its ledger lines, and small JSON facts for later planners and people."""

    counts: Counts
    info: dict[str, Any] = field(default_factory=dict)


class Step(Protocol):
    """Implemented by stateless classes, so that workers can pickle them."""

    name: str  # for example "dedup.pairs"; names plan and record folders
    stage: str  # one of schemas.recipe.STAGES

    def plan(self, run: Run) -> list[Task]:
        """Tasks, from the recipe, the input and the records of earlier steps only."""

    def process(self, run: Run, task: Task, outputs: Outputs) -> Result:
        """Do all of one task. Deterministic in its arguments and what they refer to."""


def planned(run: Run, step: Step) -> list[Task]:
    """The step's tasks: made and stored the first time, read back ever after.

    A retry, a resume or another runner thus works on the same tasks, whatever it finds meanwhile.
    """
    path = run.path("plan", f"{step.name}.json")
    if not storage.exists(path):
        tasks = step.plan(run)
        names = [task.name for task in tasks]
        assert len(set(names)) == len(names), f"task names of {step.name} repeat"
        value = {"step": step.name, "tasks": [task.to_json() for task in tasks]}
        text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        storage.write_bytes(path, text.encode())
    return run.tasks(step.name)


def task_key(run: Run, task: Task) -> str:
    """Hash of everything that the task's outputs depend on."""
    return sha256_json(
        {"task": task.to_json(), "recipe": run.recipe_sha256, "environment": fingerprint()}
    )


def run_task(run: Run, step: Step, task: Task) -> TaskRecord:
    """Run a task and commit it, or return the record of an earlier commit.

    Raises the task's GristmillError, or TaskError around anything unexpected. LedgerError before
    the commit if the task's documents do not balance.
    """
    key = task_key(run, task)
    path = run.record_path(step.name, task.name)
    if storage.exists(path):
        record = TaskRecord.loads(storage.read_bytes(path))
        if record.key == key and all(_is_there(run, output) for output in record.outputs):
            return record
        storage.remove(path)  # its outputs are about to be replaced
    scratch = _scratch(run)
    if scratch is not None:
        os.makedirs(scratch, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f"{task.name}-", dir=scratch)
    started = time.perf_counter(), time.process_time()
    try:
        outputs = Outputs(Path(folder))
        result = step.process(run, task, outputs)
        result.counts.check(f"task {task.name}")
        record = TaskRecord(
            step=step.name,
            task=task.name,
            key=key,
            outputs=outputs.publish(run),
            counts=result.counts,
            info=result.info,
        )
        storage.write_bytes(path, record.dumps())
        _log_cost(run, task, *started)
        return record
    except GristmillError:
        raise
    except Exception as error:
        raise TaskError(f"task {task.name} failed: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_there(run: Run, output: Output) -> bool:
    path = run.path(output.path)
    return storage.exists(path) and storage.stat(path).size == output.bytes


def _scratch(run: Run) -> str | None:
    # Beside the outputs where possible, so that publishing is a rename and not a copy.
    return None if storage.is_remote(run.directory) else run.path("tmp")


def clear_scratch(run: Run) -> None:
    """Delete what tasks that were killed have left; only while no task runs."""
    scratch = _scratch(run)
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
        for pattern in ("*", "plan/*", "records/*/*"):
            for path in Path(run.directory).glob(pattern):
                if path.name.startswith(storage.PARTIAL):
                    path.unlink(missing_ok=True)


def _log_cost(run: Run, task: Task, wall: float, cpu: float) -> None:
    """Leave the task's cost in log/, apart from everything that is hashed."""
    value = {
        "step": task.step,
        "task": task.name,
        "planned_bytes": task.size,
        "wall_seconds": round(time.perf_counter() - wall, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "peak_rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "process": os.getpid(),
    }
    storage.write_bytes(run.path("log", f"tasks/{task.name}.json"), json.dumps(value).encode())


def sha256_file(file: BinaryIO) -> str:
    """Hex digest of what is left of an open file."""
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
