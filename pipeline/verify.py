"""Does a run directory hold what its records, ledger and manifest promise?

Every committed file is read once and hashed; the content of documents and tokens is read again and
held against the ledger, so that a file that was changed along with its checksum is noticed too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline import storage
from pipeline.rundir import STEPS, StepState, open_run, read_manifest, read_plan, read_record
from pipeline.step import Run, sha256_file
from pipeline.verify_content import check_content
from schemas.errors import GristmillError, LedgerError
from schemas.ledger import Counts
from schemas.manifest import Manifest, check_ledger, dump_ledger, fold_ledger, load_ledger
from schemas.recipe import sha256_json
from schemas.record import Output, TaskRecord

_OURS = ("recipe.yaml", "manifest.json", "ledger.json", "run.lock", "report.html")
_UNCOMMITTED = ("log/", "tmp/")  # not part of the result


@dataclass
class Report:
    """What verification found. Problems make a run unsound, warnings do not."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    documents: int = 0  # clean ones
    tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "problems": self.problems,
            "warnings": self.warnings,
            "files": self.files,
            "bytes": self.bytes,
            "documents": self.documents,
            "tokens": self.tokens,
        }


def verify(directory: str) -> Report:
    """Check all of a run; RunDirectoryError if the directory holds none."""
    return _Verifier(open_run(directory)).verify()


class _Verifier:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._report = Report()
        self._known: set[str] = set(_OURS)

    def verify(self) -> Report:
        report = self._report
        manifest = self._try(lambda: read_manifest(self._run))
        if manifest is None and not report.problems:
            self._problem("manifest.json is missing: the run did not end; the same command resumes")
        states = list(self._states(manifest))
        for state in states:
            for record in state.records:
                self._outputs(state, record)
        if manifest is not None:
            self._manifest(manifest, states)
            self._ledger(manifest, states)
        self._unreferenced()
        for name, outcome in (("scrub", "documents"), ("encode", "tokens")):
            for state in states:
                if state.step == name:
                    total = sum(getattr(r.counts.total("kept"), outcome) for r in state.records)
                    setattr(report, outcome, total)
        return report

    def _problem(self, message: str) -> None:
        self._report.problems.append(message)

    def _try(self, read: Any) -> Any:
        """The result, or None and a problem if it cannot be read."""
        try:
            return read()
        except (GristmillError, OSError) as error:
            self._problem(str(error))
            return None

    def _states(self, manifest: Manifest | None) -> Iterator[StepState]:
        """Planned steps with those of their records that can be read."""
        for step, stage in STEPS:
            plan = self._try(lambda step=step: read_plan(self._run, step))
            promised = manifest.step(step) if manifest is not None else None
            if plan is None:
                if promised is not None:
                    self._problem(f"plan/{step}.json is missing")
                continue
            self._known.add(f"plan/{step}.json")
            names = tuple(str(task["name"]) for task in plan)
            records = []
            for task in plan:
                name = task["name"]
                path = f"records/{step}/{name}.json"
                self._known.add(path)
                record = self._try(lambda s=step, n=name: read_record(self._run, s, n))
                if record is None:
                    if promised is not None and storage.exists(self._run.path(path)) is False:
                        self._problem(f"{path} is missing")
                    continue
                records.append(record)
                self._record(path, task, record, manifest)
            if promised is not None and promised.tasks != names:
                self._problem(f"plan/{step}.json has other tasks than manifest.json")
            yield StepState(step=step, stage=stage, tasks=names, records=tuple(records))

    def _record(
        self, path: str, task: dict[str, Any], record: TaskRecord, manifest: Manifest | None
    ) -> None:
        """One record against its task: name, key, and its own balance."""
        if (record.step, record.task) != (task["step"], task["name"]):
            self._problem(f"{path} is the record of {record.step} {record.task}")
        if manifest is not None:
            key = sha256_json(
                {
                    "task": task,
                    "recipe": self._run.recipe_sha256,
                    "environment": dict(manifest.environment),
                }
            )
            if record.key != key:
                self._problem(
                    f"{path} was made from another task, recipe or environment than this run's "
                    f"(key {record.key[:16]}, expected {key[:16]})"
                )
        try:
            record.counts.check(f"task {record.task}")
        except LedgerError as error:
            self._problem(f"{path}: {_first_sentence(error)}")

    def _outputs(self, state: StepState, record: TaskRecord) -> None:
        """Size, checksum and content of what a task wrote."""
        sound = []
        for output in record.outputs:
            self._known.add(output.path)
            if self._file(output):
                sound.append(output)
        if len(sound) == len(record.outputs):
            self._report.problems.extend(check_content(self._run, state, record))

    def _file(self, output: Output) -> bool:
        """Whether the file is there with the recorded size and hash."""
        path = self._run.path(output.path)
        if not storage.exists(path):
            self._problem(f"{output.path} is missing")
            return False
        try:
            size = storage.stat(path).size
            if size != output.bytes:
                self._problem(f"{output.path} has {size} bytes, expected {output.bytes}")
                return False
            with storage.open_read(path) as file:
                found = sha256_file(file)
        except (GristmillError, OSError) as error:
            self._problem(f"{output.path} cannot be read ({error})")
            return False
        self._report.files += 1
        self._report.bytes += size
        if found != output.sha256:
            self._problem(f"{output.path} has sha256 {found}, expected {output.sha256}")
            return False
        return True

    def _manifest(self, manifest: Manifest, states: list[StepState]) -> None:
        """The manifest against recipe and records."""
        if manifest.recipe_sha256 != self._run.recipe_sha256:
            self._problem(
                f"recipe.yaml has sha256 {self._run.recipe_sha256}, manifest.json expects "
                f"{manifest.recipe_sha256}"
            )
        found = {state.step: state for state in states}
        for promised in manifest.steps:
            state = found.get(promised.step)
            if state is None or not state.finished:
                continue  # reported already
            outputs = sorted((o for r in state.records for o in r.outputs), key=lambda o: o.path)
            if tuple(outputs) != promised.outputs:
                recorded, listed = set(outputs), set(promised.outputs)
                paths = sorted({o.path for o in recorded ^ listed})
                self._problem(
                    f"manifest.json and the records of {promised.step} disagree about "
                    f"{', '.join(paths[:5])}{' and others' if len(paths) > 5 else ''}"
                )

    def _ledger(self, manifest: Manifest, states: list[StepState]) -> None:
        """The ledger against the manifest's hash, the records, and itself."""
        path = self._run.path("ledger.json")
        if not storage.exists(path):
            self._problem("ledger.json is missing")
            return
        data = storage.read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != manifest.ledger_sha256:
            self._problem(
                f"ledger.json has sha256 {digest}, manifest.json expects {manifest.ledger_sha256}"
            )
        ledger: dict[str, Counts] | None = self._try(lambda: load_ledger(data))
        if ledger is None:
            return
        try:
            check_ledger(ledger)
        except LedgerError as error:
            self._problem(f"ledger.json: {_first_sentence(error)}")
        done = [s for s in states if s.stage in manifest.stages]
        if all(state.finished for state in done):
            folded = fold_ledger([(s.step, s.stage, s.records) for s in done])
            if dump_ledger(folded) != dump_ledger(ledger):
                self._problem("ledger.json is not the sum of the task records")

    def _unreferenced(self) -> None:
        """Files that no record names: left behind by killed tasks, or put there by somebody."""
        for path in _files(self._run.directory):
            if path not in self._known and not path.startswith(_UNCOMMITTED):
                self._report.warnings.append(f"{path} belongs to no task record")


def _files(directory: str) -> Iterable[str]:
    """All files below a directory, relative to it, sorted."""
    if storage.is_remote(directory):
        prefix = directory.rstrip("/") + "/"
        found = storage.glob(f"{prefix}**")
        return [info.path.removeprefix(prefix) for info in found]
    paths = []
    for folder, _, names in os.walk(directory):
        relative = os.path.relpath(folder, directory)
        paths += [os.path.normpath(os.path.join(relative, name)) for name in names]
    return sorted(path.replace(os.sep, "/") for path in paths)


def _first_sentence(error: Exception) -> str:
    """A message without the advice that follows it."""
    return str(error).split(". ")[0]
