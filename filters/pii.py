"""Finding and replacing personal data in batches of documents.

    batch of text -> cue scan -> candidate windows -> Presidio recognizers -> spans -> placeholders

Documents in which the scan sees nothing, nearly all of them, cost no Python work of their own.
Values never leave this module: findings are types and places.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters import pii_scan
from schemas.text import utf8

if TYPE_CHECKING:
    from filters.pii_recognizers import LinearRecognizer

# Recipe entity -> bit of the scan. Overlapping spans become one of the first-named entity here.
ENTITIES = {
    "iban": pii_scan.IBAN,
    "card": pii_scan.CARD,
    "email": pii_scan.EMAIL,
    "ip": pii_scan.IP,
    "phone": pii_scan.PHONE,
}
PLACEHOLDERS = {entity: f"<{entity.upper()}>" for entity in ENTITIES}

# Where personal data was found: `document` is the row in the batch, `start` and `end` are byte
# offsets in the document's text before scrubbing, `rule` is the form that was recognised.
FINDING = pa.schema(
    [
        pa.field("document", pa.int32(), nullable=False),
        pa.field("entity", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("end", pa.int64(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
    ]
)

# Bytes of a window before and after the candidate: what the recognizer's look-around and context
# words reach, at up to four bytes a character.
_CONTEXT = {
    pii_scan.EMAIL: (4, 4),
    pii_scan.PHONE: (128, 64),
    pii_scan.IP: (64, 8),
    pii_scan.CARD: (8, 8),
    pii_scan.IBAN: (8, 8),
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one document may cost; beyond it the document fails instead of passing unscrubbed."""

    bytes: int = 256 << 20  # of text
    candidates: int = 1_000_000  # places that the scan hands to recognizers
    rounds: int = 8  # until a scrubbed text has no findings left


@dataclass(frozen=True)
class Scrubbed:
    """A scrubbed batch: `text` has a row for each input row, empty where the document failed."""

    text: pa.StringArray
    findings: pa.RecordBatch  # FINDING, ordered by document and start
    failed: dict[int, str] = field(default_factory=dict)  # row -> error, never with text in it


class _Span(NamedTuple):
    start: int  # bytes, absolute in the buffer scanned
    end: int
    priority: int  # index in ENTITIES
    rule: str


class _Window(NamedTuple):
    """Text for a recognizer: candidates first..last in their context begin..end."""

    begin: int
    end: int
    first: int
    last: int


class Scrubber:
    """Replaces personal data of the given entities by constant typed placeholders.

    The result is a fixed point: scrubbing it again finds nothing, since documents with findings
    are scanned again until they have none (a placeholder shortens the way from "tel." to the next
    number, for example). Holds no state between calls; cheap to keep, not picklable.
    """

    def __init__(
        self,
        entities: Sequence[str] = tuple(ENTITIES),
        *,
        bounds: Bounds = Bounds(),
    ) -> None:
        """`entities`: keys of ENTITIES; ValueError for others. Imports Presidio's core."""
        unknown = sorted(set(entities) - set(ENTITIES))
        if unknown:
            raise ValueError(
                f"unknown entities {', '.join(unknown)}; valid are {', '.join(ENTITIES)}"
            )
        self._bounds = bounds
        self._kinds = sum(bit for entity, bit in ENTITIES.items() if entity in entities)
        self._recognizers = {}
        if entities:
            from filters.pii_recognizers import RULE, recognizers

            self._rule = RULE
            made = recognizers()
            self._recognizers = {
                bit: (priority, made[entity], made[entity].supported_entities)
                for priority, (entity, bit) in enumerate(ENTITIES.items())
                if entity in entities
            }

    def scrub(self, text: pa.StringArray) -> Scrubbed:
        """Scrub a batch; text of failed documents becomes empty."""
        data, narrow = utf8(text)
        offsets = narrow.astype(np.int64)
        failed: dict[int, str] = {}
        sizes = np.diff(offsets)
        for row in np.flatnonzero(sizes > self._bounds.bytes).tolist():
            failed[row] = (
                f"document has {sizes[row]} bytes, more than the scrubber's bound of "
                f"{self._bounds.bytes}"
            )
        spans = self._find(data, offsets, failed) if self._kinds else []
        spans = self._settle(data, offsets, spans, failed)
        rows = np.searchsorted(offsets, [s.start for s in spans], side="right") - 1
        if failed:
            kept = [(s, r) for s, r in zip(spans, rows.tolist(), strict=True) if r not in failed]
            spans, rows = [s for s, _ in kept], np.array([r for _, r in kept], np.int64)
        if not spans and not failed:
            return Scrubbed(text, _findings([], rows, offsets))
        return Scrubbed(
            _replace(data, offsets, spans, rows, failed), _findings(spans, rows, offsets), failed
        )

    def _find(
        self,
        data: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        failed: dict[int, str],
    ) -> list[_Span]:
        """Resolved spans of all documents; adds documents beyond bounds to `failed`."""
        found = pii_scan.scan(data, offsets, self._kinds)
        counts = np.bincount(found.document, minlength=len(offsets) - 1)
        for row in np.flatnonzero(counts > self._bounds.candidates).tolist():
            failed.setdefault(
                row,
                f"document has {counts[row]} places to look at, more than the scrubber's bound "
                f"of {self._bounds.candidates}",
            )
        alive = ~np.isin(found.document, list(failed))
        spans: list[_Span] = []
        for kind, (priority, recognizer, entities) in self._recognizers.items():
            chosen = alive & (found.kind == kind)
            windows = _windows(
                offsets, found.document[chosen], found.start[chosen], found.end[chosen], kind
            )
            for window in windows:
                spans += self._recognize(data, window, priority, recognizer, entities)
        return _resolve(spans)

    def _recognize(
        self,
        data: npt.NDArray[np.uint8],
        window: _Window,
        priority: int,
        recognizer: LinearRecognizer,
        entities: list[str],
    ) -> Iterator[_Span]:
        begin, end = window.begin, window.end
        while data[begin] & 0xC0 == 0x80:  # to the character's first byte
            begin -= 1
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end += 1
        text = str(data.data[begin:end], "utf-8")
        plain = len(text) == end - begin
        characters = bytes = 0  # up to here the byte offset is known
        for result in sorted(recognizer.analyze(text, entities)):
            first, last = result.start, result.end
            if not plain:
                bytes += len(text[characters:first].encode())
                characters = first
                first, last = bytes, bytes + len(text[first:last].encode())
            # Between the context and the candidates nothing can be cut off by the window's edge.
            if begin + first < window.last and window.first < begin + last:
                rule = result.recognition_metadata[self._rule]
                yield _Span(begin + first, begin + last, priority, rule)

    def _settle(
        self,
        data: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        spans: list[_Span],
        failed: dict[int, str],
    ) -> list[_Span]:
        """Add what can be found only after the spans so far are replaced, until nothing is."""
        pending = spans
        for _ in range(self._bounds.rounds):
            if not pending:
                return spans
            # Documents with new spans, scrubbed so far, one behind the other.
            rows = np.unique(np.searchsorted(offsets, [s.start for s in pending], "right") - 1)
            touched = [row for row in rows.tolist() if row not in failed]
            starts = np.array([s.start for s in spans], np.int64)
            firsts = np.searchsorted(starts, offsets[touched]).tolist()
            lasts = np.searchsorted(starts, offsets[1:][touched]).tolist()
            parts = [spans[a:b] for a, b in zip(firsts, lasts, strict=True)]
            pieces = [
                _scrubbed_bytes(data, offsets[row], offsets[row + 1], part)
                for row, part in zip(touched, parts, strict=True)
            ]
            ends = np.cumsum([0, *(len(p) for p in pieces)], dtype=np.int64)
            again: dict[int, str] = {}
            places = [
                _Places(int(offsets[row]), int(base), part)
                for row, base, part in zip(touched, ends, parts, strict=False)
            ]
            joined = np.frombuffer(b"".join(pieces), np.uint8)
            pending = []
            found = self._find(joined, ends, again)
            indices = np.searchsorted(ends, [s.start for s in found], "right") - 1
            for span, index in zip(found, indices.tolist(), strict=True):
                start, end = places[index].original(span.start, span.end)
                pending.append(_Span(start, end, span.priority, span.rule))
            for index, error in again.items():
                failed[touched[index]] = error
            if pending:
                spans = _resolve([*spans, *pending])
        for row in (np.searchsorted(offsets, [s.start for s in pending], "right") - 1).tolist():
            failed.setdefault(row, f"findings did not settle in {self._bounds.rounds} rounds")
        return spans


def _windows(
    offsets: npt.NDArray[np.int64],
    documents: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    kind: int,
) -> list[_Window]:
    """Candidates of one kind in their context; those that overlap become one window, so that no
    byte is looked at twice however dense the candidates are."""
    if not len(starts):
        return []
    before, after = _CONTEXT[kind]
    begin = np.maximum(starts - before, offsets[documents])
    end = np.minimum(ends + after, offsets[documents + 1])
    # Windows of different documents touch at most, and touching ones stay apart.
    reach = np.maximum.accumulate(end)
    heads = np.flatnonzero(np.append(True, begin[1:] >= reach[:-1]))
    return list(
        map(
            _Window._make,
            zip(
                begin[heads].tolist(),
                np.maximum.reduceat(end, heads).tolist(),
                starts[heads].tolist(),
                np.maximum.reduceat(ends, heads).tolist(),
                strict=True,
            ),
        )
    )


def _resolve(spans: list[_Span]) -> list[_Span]:
    """Overlapping spans become their union, so that nothing of either stays in the text."""
    resolved: list[_Span] = []
    for span in sorted(spans):
        if resolved and span.start < resolved[-1].end:
            last = resolved[-1]
            winner = min(last, span, key=lambda s: (s.priority, s.start - s.end, s.rule))
            resolved[-1] = winner._replace(start=last.start, end=max(last.end, span.end))
        else:
            resolved.append(span)
    return resolved


_BYTES = [value.encode() for value in PLACEHOLDERS.values()]


def _scrubbed_bytes(
    data: npt.NDArray[np.uint8], start: int, end: int, spans: Sequence[_Span]
) -> bytes:
    """data[start:end] with the spans in it replaced."""
    view, at = data.data, int(start)
    pieces: list[bytes | memoryview] = []
    for span in spans:
        pieces += (view[at : span.start], _BYTES[span.priority])
        at = span.end
    pieces.append(view[at : int(end)])
    return b"".join(pieces)


class _Places:
    """The way back from a text with placeholders to the text before them."""

    def __init__(self, original: int, replaced: int, spans: Sequence[_Span]) -> None:
        """The text starts at `original` in its buffer, and at `replaced` in the replaced one."""
        self._shift = original - replaced
        self._spans = spans
        self._starts: list[int] = []  # of placeholders in the replaced buffer
        self._ends: list[int] = []
        shift = self._shift
        for span in spans:
            self._starts.append(span.start - shift)
            self._ends.append(self._starts[-1] + len(_BYTES[span.priority]))
            shift = span.end - self._ends[-1]

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where start..end was; a part of a placeholder counts as all of its span."""
        i = bisect_right(self._starts, start) - 1
        if i < 0:
            start += self._shift
        elif start < self._ends[i]:
            start = self._spans[i].start
        else:
            start += self._spans[i].end - self._ends[i]
        i = bisect_left(self._starts, end) - 1
        if i < 0:
            end += self._shift
        else:
            end = self._spans[i].end + max(0, end - self._ends[i])
        return start, end


def _replace(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    spans: Sequence[_Span],
    rows: npt.NDArray[np.int64],
    failed: dict[int, str],
) -> pa.StringArray:
    """The whole batch with its spans replaced and the failed documents emptied."""
    begin = int(offsets[0])
    edits = [(s.start, s.end, _BYTES[s.priority]) for s in spans]
    edits += [(int(offsets[row]), int(offsets[row + 1]), b"") for row in failed]
    edits.sort()
    view, at = data.data, begin
    pieces: list[bytes | memoryview] = []
    for start, end, value in edits:
        pieces += (view[at:start], value)
        at = end
    pieces.append(view[at : int(offsets[-1])])
    growth = np.zeros(len(offsets), np.int64)
    np.add.at(growth, rows + 1, [len(_BYTES[s.priority]) - (s.end - s.start) for s in spans] or 0)
    for row in failed:
        growth[row + 1] -= offsets[row + 1] - offsets[row]
    changed = (offsets - begin + np.cumsum(growth)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(changed), pa.py_buffer(b"".join(pieces))
    )


def _findings(
    spans: Sequence[_Span], rows: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]
) -> pa.RecordBatch:
    names = list(ENTITIES)
    base = offsets[rows] if len(rows) else np.zeros(0, np.int64)
    return pa.record_batch(
        [
            pa.array(rows, pa.int32()),
            pa.array([names[s.priority] for s in spans], pa.string()),
            pa.array(np.array([s.start for s in spans], np.int64) - base, pa.int64()),
            pa.array(np.array([s.end for s in spans], np.int64) - base, pa.int64()),
            pa.array([s.rule for s in spans], pa.string()),
        ],
        schema=FINDING,
    )


def warm() -> None:
    """Compile the kernels of this stage."""
    pii_scan.warm()
