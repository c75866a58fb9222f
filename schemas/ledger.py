"""The conservation ledger: every document and byte that enters a stage leaves it with a name.

A stage balances when, over documents, over bytes and over the checksum of ids,

    in (+ named byte deltas) = kept + removed + failed

The checksum is the sum of 128-bit id hashes mod 2**128: free of order, and unlike XOR it notices a
document that comes three times instead of once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.errors import LedgerError

Outcome = Literal["in", "kept", "removed", "failed"]
CHECKSUM_MODULUS = 1 << 128


def id_checksum(ids: Iterable[str]) -> int:
    """Sum mod 2**128 of BLAKE2b-128 hashes of document ids."""
    blake = hashlib.blake2b
    total = 0
    for one in ids:
        total += int.from_bytes(blake(one.encode(), digest_size=16).digest(), "little")
    return total % CHECKSUM_MODULUS


@dataclass(frozen=True, order=True)
class FlowKey:
    """What a ledger line counts: `reason` is a rule, a kind of duplicate or a kind of defect."""

    outcome: Outcome
    source: str = ""
    language: str = ""
    reason: str = ""


@dataclass
class Flow:
    """Additive totals of one ledger line; `bytes` are UTF-8 text bytes."""

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    checksum: int = 0

    def add(self, other: Flow) -> None:
        self.documents += other.documents
        self.bytes += other.bytes
        self.tokens += other.tokens
        self.checksum = (self.checksum + other.checksum) % CHECKSUM_MODULUS

    def as_tuple(self) -> tuple[int, int, int]:
        """What must balance: documents, bytes, checksum."""
        return self.documents, self.bytes, self.checksum


@dataclass
class Counts:
    """Ledger of one task, or the sum over tasks of a stage. `deltas` are signed bytes by name."""

    flows: dict[FlowKey, Flow] = field(default_factory=dict)
    deltas: dict[str, int] = field(default_factory=dict)

    def add(
        self,
        outcome: Outcome,
        ids: Iterable[str],
        bytes: int,
        *,
        source: str = "",
        language: str = "",
        reason: str = "",
        tokens: int = 0,
    ) -> None:
        """Count these documents under one line; `bytes` and `tokens` are their totals."""
        ids = list(ids)
        if ids:
            flow = Flow(len(ids), bytes, tokens, id_checksum(ids))
            self.flows.setdefault(FlowKey(outcome, source, language, reason), Flow()).add(flow)

    def add_delta(self, name: str, bytes: int) -> None:
        if bytes:
            self.deltas[name] = self.deltas.get(name, 0) + bytes

    def merge(self, other: Counts) -> None:
        for key, flow in other.flows.items():
            self.flows.setdefault(key, Flow()).add(flow)
        for name, value in other.deltas.items():
            self.add_delta(name, value)

    def total(self, *outcomes: Outcome) -> Flow:
        total = Flow()
        for key, flow in self.flows.items():
            if key.outcome in outcomes:
                total.add(flow)
        return total

    def check(self, where: str) -> None:
        """Raise LedgerError unless this balances."""
        came, left = self.total("in"), self.total("kept", "removed", "failed")
        came.bytes += sum(self.deltas.values())
        if came.as_tuple() != left.as_tuple():
            raise LedgerError(
                f"the ledger of {where} does not balance: expected "
                f"{came.documents} documents, {came.bytes} bytes, id checksum {came.checksum:032x} "
                f"to leave it, got {left.documents}, {left.bytes}, {left.checksum:032x}. "
                "Nothing was committed; this is a defect in Gristmill, please report it."
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "flows": [
                {
                    "outcome": k.outcome,
                    "source": k.source,
                    "language": k.language,
                    "reason": k.reason,
                    "documents": f.documents,
                    "bytes": f.bytes,
                    "tokens": f.tokens,
                    "checksum": f"{f.checksum:032x}",
                }
                for k, f in sorted(self.flows.items())
            ],
            "deltas": dict(sorted(self.deltas.items())),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Counts:
        counts = cls(deltas=dict(value["deltas"]))
        for row in value["flows"]:
            key = FlowKey(row["outcome"], row["source"], row["language"], row["reason"])
            counts.flows[key] = Flow(
                row["documents"], row["bytes"], row["tokens"], int(row["checksum"], 16)
            )
        return counts
