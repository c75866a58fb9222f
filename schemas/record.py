"""Task records: the one small file whose existence commits a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from schemas.ledger import Counts


@dataclass(frozen=True, kw_only=True)
class Task:
    """A deterministic piece of work, planned from the input alone.

    `name` is unique in its step and appears in file names; `size` is the planned bytes, used for
    ordering and progress; `params` holds JSON values that the step understands.
    """

    step: str
    name: str
    size: int
    params: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A committed file: `path` is relative to the run directory."""

    kind: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """What a task did: its outputs, its part of the ledger, and small facts for later planners.

    `key` is a hash of everything that the outputs depend on: the task, the settings of its step and
    the environment fingerprint. A record with another key is not reused.
    """

    step: str
    task: str
    key: str
    outputs: tuple[Output, ...]
    counts: Counts
    info: Mapping[str, Any]

    def output(self, kind: str) -> Output:
        """The only output of this kind."""
        (found,) = (o for o in self.outputs if o.kind == kind)
        return found

    def dumps(self) -> bytes:
        outputs = [asdict(output) for output in self.outputs]
        value = vars(self) | {"outputs": outputs, "counts": self.counts.to_json()}
        return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def loads(cls, data: bytes) -> TaskRecord:
        value = json.loads(data)
        return cls(
            step=value["step"],
            task=value["task"],
            key=value["key"],
            outputs=tuple(Output(**o) for o in value["outputs"]),
            counts=Counts.from_json(value["counts"]),
            info=value["info"],
        )
